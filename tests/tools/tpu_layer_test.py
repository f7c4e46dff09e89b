"""One layer for the compiler of the TPU: its programs, and their table."""

import json

import pytest

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
from hypergrid_mtf import errors, product
from tests import command
from tests import program as programs
from tools.cost.tpu import client

NAME = "tools.tpu_layer"
SMALL = ("--size=nano", "--batch=2", "--tokens=4", "--grids=4x4")


@pytest.fixture
def compiled(monkeypatch):
  """What a compiler was asked for, one that is not there."""
  asked: list[dict] = []

  def compile_program(topology, written, hlo, text):
    del topology, hlo, text
    asked.append(written)
    size = len(written["arguments"]) + len(asked)
    return {
      "compiles": True,
      "cycles": 1e6 * size,
      "flops": 1e9,
      "instructions": size,
      "seconds": 1.0,
      # Vanilla is the first.
      "memory": {"temporaries": 1e6 * size if asked[1:] else 0.0},
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
    [r["contraction"] for r in records if r["packed"] is p]
    for p in (True, False)
  )
  # The first is vanilla's; packed rows have no gate a row.
  assert packed == ["auto", *(o for o in orders if o != "weights")]
  assert unpacked == ["auto", *orders]
  # Vanilla's is the same program for both, and so is that of "auto".
  assert len(compiled) == len({r["sha256"] for r in records})
  assert len(compiled) == 1 + len(packed) - 2 + len(unpacked) - 2
  said = capsys.readouterr().out
  assert "v3:2x2 train unpacked L2 4x4 weights: " in said
  assert "MB of temporaries (-)" in said
  assert "inf" not in said
  table = said.partition("cycles beside vanilla, v3:2x2, train, packed")[2]
  assert table.split()[:2] == ["auto", "plain"]
  # A second run compiles nothing, and another model is added.
  before = len(compiled)
  flags += ["--variants=L2,row", "--contraction=plain"]
  programs.run(NAME, flags, monkeypatch)
  assert len(compiled) == before + 2
  again = json.loads(output.read_text())
  assert len(again) == len(records) + 2


def test_what_a_layer_is_given_and_gives(compiled, monkeypatch):
  one = ["--contraction=plain", "--rows=packed"]
  programs.run(NAME, [*SMALL, *one], monkeypatch)
  programs.run(NAME, [*SMALL, *one, "--given_gate"], monkeypatch)
  one[1:] = ["--rows=unpacked", "--steps=eval,decode"]
  programs.run(NAME, [*SMALL, *one], monkeypatch)

  def names(written):
    return tuple(
      {a["name"].removeprefix("layer/") for a in written[kind]}
      for kind in ("arguments", "results")
    )

  kernels = {"wi/kernel", "wo/kernel"}
  sides = {"hypergrid/local_row/kernel", "hypergrid/local_col/kernel"}
  vanilla, packed, _, given, *forward = map(names, compiled)

  def gradients(of):
    return {f"d_{k}" for k in of & {"x", "gate"}} | {
      f"d_layer/{k}" for k in of - {"x", "gate"}
    }

  assert vanilla == ({"x", "dy", *kernels}, {"y", *gradients(kernels | {"x"})})
  assert packed == (
    {"x", "dy", "segmentation", *kernels, *sides},
    {"y", *gradients(kernels | sides | {"x"})},
  )
  assert given[0] >= {"x", "gate", "dy", *kernels}
  assert given[1] == {"y", *gradients(kernels | {"x", "gate"})}
  assert all(results == {"y"} for _, results in forward)
  evaluated, _, decoded = (given for given, _ in forward[1:])
  assert evaluated == {"x", *kernels, *sides}
  assert {"x", "gate"} < decoded


@pytest.mark.parametrize(
  ("given", "want"),
  [
    (("--size=giant",), "--size=giant is unknown"),
    (("--steps=test",), "--steps=test is unknown"),
    (("--rows=full",), "--rows=full is unknown"),
    (("--tokens=0",), "--tokens=0 is not a size"),
    (("--variants=L3",), "--variants=L3 is unknown"),
    (("--grids=5x5",), "does not divide"),
  ],
)
def test_what_does_not_fit_is_said(given, want, compiled, monkeypatch):
  with pytest.raises(errors.UserError, match=want):
    programs.run(NAME, [*SMALL, *given], monkeypatch)


@pytest.mark.tpu
def test_a_layer_compiles(tmp_path, monkeypatch, capsys):
  """And what the gradient makes again is made again, and not kept."""
  if not client.PYTHON.exists():
    pytest.skip("no .venv-tpu (make test-tpu makes it)")
  output = tmp_path / "layer.json"
  flags = ["--size=tiny", "--batch=4", "--tokens=128", "--grids=4x4"]
  flags += ["--contraction=plain,rows,weights", f"--output={output}"]
  programs.run(NAME, flags, monkeypatch)
  assert "v3:2x2 train packed L2 4x4 plain: " in capsys.readouterr().out
  records = json.loads(output.read_text())
  found = {(r["packed"], r["contraction"]): r["estimate"] for r in records}
  vanilla = found[True, "auto"]
  # Of h wo; wi and wo have three each, and the gate's work is a fraction.
  product = 2 * 4 * 128 * 128 * 512
  for (packed, order), estimate in found.items():
    made_again = order in ("rows", "weights")
    assert int(estimate["flops"] / product) == 6 + made_again, (packed, order)
    if order != "auto":
      assert estimate["cycles"] > vanilla["cycles"] > 0
