"""tools.fold: the same function in plain T5 weights, and what is refused."""

import json
import os
import types

import gin
import numpy as np
import pytest

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import gin_model, trained_model
from tests import program
from tests.tools.serving import model_dirs
from tools import fold
from tools.serving import folding, weights

TASKS = ("embedded_copy_v1_task_token", "embedded_sort_v1_task_token")


@pytest.fixture(autouse=True)
def no_configuration_after():
  yield
  gin.clear_config()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  return model_dirs.make(tmp_path_factory.mktemp("fold") / "l2")


def _fold(monkeypatch, model_dir, output_dir, *arguments):
  given = (f"--model_dir={model_dir}", f"--output_dir={output_dir}")
  program.run("tools.fold", [*given, "--examples=20", *arguments], monkeypatch)
  return str(output_dir)


def _difference(folder, folded, task):
  inputs, targets = model_dirs.examples(task, 16)
  a, b = (model_dirs.logits(f, inputs, targets) for f in (folder, folded))
  return np.abs(a - b)[targets > 0].max()


def test_a_folded_model_computes_the_same_for_its_task(
  trained, tmp_path, monkeypatch, capsys
):
  folded = {
    task: _fold(monkeypatch, trained, tmp_path / task, f"--task={short}")
    for task, short in zip(TASKS, ("copy", "sort"), strict=True)
  }
  said = capsys.readouterr().out
  assert "the gates of 2 layers are in its weights" in said
  assert "8 tasks take 8 such models" in said
  for task in TASKS:
    assert _difference(trained, folded[task], task) < 1e-5
  # The tasks' gates do differ: another task's fold computes something else.
  assert _difference(trained, folded[TASKS[0]], TASKS[1]) > 0.01
  record = json.loads((tmp_path / TASKS[0] / fold.RECORD).read_text())
  assert (record["task"], record["token"]) == (TASKS[0], 342)
  assert record["tasks_of_the_same_gates"] == []
  assert sorted(os.listdir(tmp_path)) == sorted(TASKS)  # no .part
  _check_vanilla(folded[TASKS[0]], tmp_path)


def _check_vanilla(folder, tmp_path):
  """What is written is what a training of t5's own layers leaves."""
  with open(os.path.join(folder, trained_model.CONFIG)) as f:
    config = f.read()
  assert "HyperGrid" not in config and "hypergrid" not in config
  assert f"MIXTURE_NAME = '{TASKS[0]}'" in config
  path = checkpoints.latest_checkpoint(folder)
  assert checkpoints.step_of(path) == model_dirs.STEP
  vanilla = model_dirs.make(
    tmp_path / "vanilla", "vanilla", (), mixture=TASKS[0]
  )
  assert trained_model.trained_facts(folder) == trained_model.trained_facts(
    vanilla
  )
  assert checkpoints.reader_shapes(path, "") == checkpoints.reader_shapes(
    checkpoints.latest_checkpoint(vanilla), ""
  )


@pytest.mark.parametrize(
  ("variant", "bindings"),
  [
    (
      "row+encoder_only",
      ("HyperGrid.hidden_size = 32", "HyperGrid.activation = 'gelu'"),
    ),
    (
      "LG",
      (
        "HyperGrid.gate = 'two_sigmoid'",
        "HyperGrid.gated_kernel = 'wi'",
        *model_dirs.T5_1_1,
      ),
    ),
    ("GG", ("HyperGrid.condition_on = 'first_token'",)),
  ],
)
def test_all_forms_of_the_layer(tmp_path, variant, bindings):
  """Without the data: any token begins the inputs."""
  model_dir = model_dirs.make(
    tmp_path / "model", variant, (model_dirs.TASK_TOKEN, *bindings)
  )
  gin_model.parse([os.path.join(model_dir, trained_model.CONFIG)])
  model = gin_model.build(384)
  folding.check(model, model_dir)
  path = checkpoints.latest_checkpoint(model_dir)
  gates = folding.gates(model, path, "", 9)
  values = weights.read(path, checkpoints.variable_shapes(model))
  (tmp_path / "folded").mkdir()
  weights.write(str(tmp_path / "folded"), 1, folding.fold(model, values, gates))
  config = folding.vanilla_config(None)
  (tmp_path / "folded" / trained_model.CONFIG).write_text(config)
  rng = np.random.default_rng(0)
  rows = rng.integers(3, 300, [4, 10]).astype(np.int32)
  rows[:, 0] = 9
  a, b = (
    model_dirs.logits(str(tmp_path / name), rows, rows[:, 3:])
    for name in ("model", "folded")
  )
  assert np.abs(a - b).max() < 1e-5
  if variant != "GG":
    ungated = {n: v for n, v in values.items() if "/hypergrid/" not in n}
    weights.write(str(tmp_path / "folded"), 2, ungated)
    c = model_dirs.logits(str(tmp_path / "folded"), rows, rows[:, 3:])
    assert np.abs(a - c).max() > 0.01


def test_tasks_of_one_token_are_named(monkeypatch):
  tokens = {"reverse": 5, "rot": 5, "copy": 6}
  monkeypatch.setattr(fold.task_tokens, "first_tokens", lambda *_: tokens)
  task = types.SimpleNamespace(name="rot")
  assert fold.same_gates(None, task, 5) == ["reverse"]


@pytest.mark.parametrize(
  ("variant", "bindings", "match"),
  [
    ("vanilla", (), "is a vanilla model"),
    (
      "L2",
      (),
      r"'first_token' \(encoder/block_000/layer_001\).*follow the hid",
    ),
    ("L2", ("Unitransformer.ensemble = 2",), "is an ensemble"),
  ],
)
def test_models_that_are_refused(variant, bindings, match):
  paths = ["models/nano.gin", f"hypergrid/{variant}.gin"]
  gin_model.bind(paths, bindings)
  if bindings:
    gin.bind_parameter("HyperGrid.condition_on", "task_token")
  with pytest.raises(errors.UserError, match=match):
    folding.check(gin_model.build(384), "x")


@pytest.mark.parametrize(
  ("arguments", "match"),
  [
    (["--task=rte"], "is not a task of embedded_v1.*choose one of copy, dedup"),
    ([], "--task is missing: give one of copy"),
    (["--task=copy", "--step=3"], "--step=3 is not a checkpoint of .* steps 7"),
    (["--output_dir=/"], "is there already, and is not written over"),
    (["--model_dir=/"], "holds no operative_config.gin"),
  ],
)
def test_what_is_refused(trained, tmp_path, monkeypatch, arguments, match):
  with pytest.raises(errors.UserError, match=match):
    _fold(monkeypatch, trained, tmp_path / "out", *arguments)
  assert not os.listdir(tmp_path)


def test_inputs_that_begin_differently_are_refused(monkeypatch):
  rows = {"mine": [{"inputs": [5, 1]}, {"inputs": [7, 1]}]}
  monkeypatch.setattr(folding.data_checks, "check_data", lambda *_: None)
  monkeypatch.setattr(folding.data_checks, "first_examples", lambda *_: rows)
  monkeypatch.setattr(
    folding.t5_tasks.vocabularies, "check_vocabulary", lambda *_: None
  )
  task = type("Task", (), {"name": "mine", "splits": ("train",)})
  with pytest.raises(errors.UserError, match="one token, but with 5 .* and 7"):
    folding.task_token(task, 2, None)
