"""Variable names and shapes of every size and variant."""

import glob
import json
import math
import os

import pytest

from hypergrid_mtf import checkpoints, gate
from hypergrid_mtf import model as model_lib
from tools.cost import models
from tools.dev import golden

_FILES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "golden")


def _read(size):
  with open(os.path.join(_FILES, f"{size}.json")) as f:
    return json.load(f)


def test_every_size_has_a_config_and_a_file():
  files = {os.path.basename(p)[:-5] for p in glob.glob(f"{_FILES}/*.json")}
  root = os.path.dirname(os.path.dirname(_FILES))
  configs = {
    os.path.basename(p)[:-4]
    for p in glob.glob(os.path.join(root, "operative_configs/models/*.gin"))
  }
  assert files == set(models.sizes()) == configs
  assert set(models.VARIANTS) == set(gate.VARIANTS)


# t5's own gin file of each size, read without any of ours.
T5_FILES = {
  "small": "models/t5.1.0.small.gin",
  "base": "models/t5.1.0.base.gin",
  "large": "models/t5.1.0.large.gin",
  "3B": "models/t5.1.0.3B.gin",
  "11B": "models/t5.1.0.11B.gin",
  "t5_1_1_small": "models/t5.1.1.small.gin",
  "t5_1_1_base": "models/t5.1.1.base.gin",
  "t5_1_1_large": "models/t5.1.1.large.gin",
  "t5_1_1_xl": "models/t5.1.1.xl.gin",
  "t5_1_1_xxl": "models/t5.1.1.xxl.gin",
}


@pytest.mark.parametrize("size", T5_FILES)
def test_vanilla_is_t5s_own(size):
  assert golden.shapes_of(T5_FILES[size]) == _read(size)["vanilla"]


@pytest.mark.parametrize(
  ("size", "variant"),
  [("tiny", v) for v in models.VARIANTS]
  + [("base", "L2"), ("11B", "L2"), ("t5_1_1_base", "GL")],
)
def test_variants_have_their_golden_variables(size, variant):
  want = _read(size)
  got = golden.shapes_of(f"models/{size}.gin", f"hypergrid/{variant}.gin")
  assert got == {**want["vanilla"], **want[variant]}


@pytest.mark.parametrize(
  ("size", "peer"),
  [
    *(("micro", peer) for peer in models.PEERS),
    ("base", "hyperprompt_global"),
    ("t5_1_1_small", "ia3"),
  ],
)
def test_peers_have_their_golden_variables(size, peer):
  want = _read(size)
  assert golden.added(size, peer, want["vanilla"]) == want[peer]


# Computed from the papers' equations with the authors' sizes, of eight tasks.
@pytest.mark.parametrize(
  ("peer", "size", "ratio"),
  [
    ("hyperprompt_share", "base", 1.008),
    ("hyperprompt_sep", "base", 1.064),
    ("hyperprompt_global", "base", 1.043),
    ("hyperprompt_global", "large", 1.017),
    ("adapter", "base", 1.0635),  # 48 of 2 * 768 * 24, without biases
    ("hyperformer", "base", 1.022),
    ("ia3", "base", 1 + 8 * 0.00058),
  ],
)
def test_parameters_of_eight_tasks(peer, size, ratio):
  files = [f"models/{size}.gin", f"peers/{peer}.gin"]
  bindings = ["num_tasks.count = 8"]
  with model_lib.configured(files, bindings, models.VOCAB_SIZE) as model:
    shapes = checkpoints.variable_shapes(model)
  count = sum(map(math.prod, shapes.values()))
  vanilla = sum(map(math.prod, _read(size)["vanilla"].values()))
  assert count / vanilla == pytest.approx(ratio, abs=6e-4)


@pytest.mark.parametrize("size", models.sizes())
def test_extra_variables_follow_the_formulas(size):
  want = _read(size)
  layers = [
    n for n in want["vanilla"] if n.endswith("DenseReluDense/wo/kernel")
  ]
  assert len(layers) == len({n.rsplit("/", 2)[0] for n in layers})
  d_model = want["vanilla"]["shared/embedding"][1]
  a_layer = {
    "L2": d_model * 32,
    "LG": d_model * 16 + 16,
    "GL": 16 + d_model * 16,
    "row": d_model * 16,
    "col": d_model * 16,
    "GG": 32,
  }
  for variant, extra in a_layer.items():
    total = 0
    for shape in want[variant].values():
      size = 1
      for dim in shape:
        size *= dim
      total += size
    assert total == len(layers) * extra, variant


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_one_stack_alone_can_be_gated(side):
  want = _read("tiny")
  got = golden.shapes_of(
    "models/tiny.gin", "hypergrid/L2.gin", f"hypergrid/{side}_only.gin"
  )
  extra = {n: s for n, s in want["L2"].items() if n.startswith(side)}
  assert extra
  assert got == {**want["vanilla"], **extra}
