"""What is said beside tables."""

from tests.tools.experiments import made_up
from tools.experiments import load, notes, protocol, render


def test_what_a_reader_should_know_is_said(folder):
  found = made_up.results()
  layers = "encoder/make_layer_stack.layers"
  for result in found:
    result["config"].update({layers: "[@DenseReluDense]", "d_ff": "256"})
    if result["cell"] == "L2":
      result["config"] = {
        "d_model": "64",
        "d_ff": "512",
        layers: "[@HyperGrid]",
        "encoder/HyperGrid.variant": "'L2'",
      }
    if result["cell"] == "single":
      result["config"]["MIXTURE_NAME"] = "'one'"
      result["predictions"][made_up.SORT] = {}
  found, _ = load.load(folder(found))
  made = render.tables(found, "vanilla", "single", draws=10)
  size, *drawn = notes.notes(found, made, "vanilla")
  assert size == (
    "L2 differs from vanilla in more than gates and tasks: d_ff is 512, not "
    "256."
  )
  assert [s.split(":")[0] for s in drawn] == [
    f"differences_{c}" for c in protocol.CHECKPOINTS
  ]
  assert all(made_up.SORT in s and made_up.COPY not in s for s in drawn)
  assert notes.notes(found, made, "absent") == drawn
