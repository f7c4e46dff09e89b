"""One layer for the compiler of the TPU: its programs, and their table."""

import json

import pytest

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
from hypergrid_mtf import product
from tests import command
from tests import program as programs
from tools.cost.tpu import client

NAME = "tools.dev.tpu_layer"
SMALL = ("--size=nano", "--batch=2", "--tokens=4", "--grids=4x4")


@pytest.fixture
def compiled(monkeypatch):
  """What a compiler was asked for, one that is not there."""
  asked: list[dict] = []

  def compile_program(topology, written, path, cache):
    del topology, path, cache
    asked.append(written)
    size = len(written["arguments"]) + len(asked)
    return {
      "compiles": True,
      "cycles": 1e6 * size,
      "flops": 1e9,
      "instructions": size,
      "seconds": 1.0,
      "memory": {"temporaries": 1e6 * size},
    }

  monkeypatch.setattr(client, "PYTHON", command.ROOT)  # is there
  monkeypatch.setattr(client, "cores", lambda topology: [[0, 0, 0, 0]])
  monkeypatch.setattr(client, "compile_program", compile_program)
  return asked


def test_every_order_beside_vanilla(compiled, tmp_path, monkeypatch, capsys):
  output = tmp_path / "layer.json"
  flags = [*SMALL, f"--output={output}"]
  programs.run(NAME, flags, monkeypatch)
  records = json.loads(output.read_text())
  orders = list(product.cost.CHOICES)
  packed, unpacked = (
    [r["contraction"] for r in records if r["rows"] == p]
    for p in ("packed", "unpacked")
  )
  # The first is vanilla's; packed rows have no gate a row.
  assert packed == ["auto", *(o for o in orders if o != "weights")]
  assert unpacked == ["auto", *orders]
  # Vanilla's is the same program for both, and so is that of "auto".
  made = len({r["digest"] for r in records})
  assert made == 1 + len(packed) - 2 + len(unpacked) - 2
  said = capsys.readouterr().out
  assert "v3:2x2 train unpacked L2 4x4 weights: " in said
  table = said.partition("cycles relative to vanilla's\n")[2].splitlines()
  columns, _, packed, unpacked = map(str.split, table[:4])
  assert columns[:3] == ["contraction", "auto", "plain"]
  assert packed[:5] == ["v3:2x2", "train", "packed", "L2", "4x4"]
  assert packed.count("-") == 1 and unpacked.count("-") == 0


def test_what_a_layer_is_given_and_gives(compiled, monkeypatch):
  one = ["--contraction=plain", "--rows=packed", "--steps=train,eval"]
  programs.run(NAME, [*SMALL, *one], monkeypatch)

  def names(written):
    return tuple(
      {a["name"].removeprefix("layer/") for a in written[kind]}
      for kind in ("arguments", "results")
    )

  kernels = {"wi/kernel", "wo/kernel"}
  sides = {"hypergrid/local_row/kernel", "hypergrid/local_col/kernel"}
  vanilla, packed, vanilla_forward, forward = map(names, compiled)

  def gradients(of):
    return {"d_x"} | {f"d_layer/{k}" for k in of}

  assert vanilla == ({"x", "dy", *kernels}, {"y", *gradients(kernels)})
  assert packed == (
    {"x", "dy", "segmentation", *kernels, *sides},
    {"y", *gradients(kernels | sides)},
  )
  assert vanilla_forward == ({"x", *kernels}, {"y"})
  assert forward == ({"x", "segmentation", *kernels, *sides}, {"y"})


@pytest.mark.tpu
def test_a_layer_compiles(tpu_compiler, tmp_path, monkeypatch, capsys):
  """And what the gradient makes again is made again, and not kept."""
  output = tmp_path / "layer.json"
  flags = ["--size=tiny", "--batch=4", "--tokens=128", "--grids=4x4"]
  flags += ["--contraction=plain,rows,weights", f"--output={output}"]
  flags.append(f"--cache={tmp_path}/cache")
  programs.run(NAME, flags, monkeypatch)
  assert "v3:2x2 train packed L2 4x4 plain: " in capsys.readouterr().out
  records = json.loads(output.read_text())
  found = {(r["rows"], r["contraction"]): r["estimate"] for r in records}
  vanilla = found["packed", "auto"]
  # Of h wo; wi and wo have three each, and the gate's work is a fraction.
  product = 2 * 4 * 128 * 128 * 512
  for (rows, order), estimate in found.items():
    made_again = order in ("rows", "weights")
    assert int(estimate["flops"] / product) == 6 + made_again, (rows, order)
    if order != "auto":
      assert estimate["cycles"] > vanilla["cycles"] > 0
