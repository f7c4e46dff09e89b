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
  made = render.tables(found, "vanilla", "single")
  size, *drawn = notes.notes(found, made, "vanilla")
  assert size == (
    "L2 differs from vanilla in more than gates and tasks: d_ff is 512, not "
    "256."
  )
  assert [s.split(":")[0] for s in drawn] == [
    f"differences_{c}" for c in protocol.CHECKPOINTS
  ]
  assert all(made_up.SORT in s and made_up.COPY not in s for s in drawn)
  assert notes.notes(found, made, "absent") == [
    "--baseline=absent is not there: no differences.",
    *drawn,
  ]
  assert notes.notes(found, made, "vanilla", "singel") == [
    size,
    "--single=singel is not there: no shares of a gap.",
    *drawn,
  ]


def _notes(folder, found):
  found, _ = load.load(folder(found))
  made = render.tables(found, "vanilla", "single")
  return notes.notes(found, made, "vanilla")


def test_a_run_with_nan_is_named(folder):
  found = made_up.results()
  values = found[6]["metrics"][made_up.COPY]["sequence_accuracy"]
  values.update({"10": "nan", "20": "nan"})
  (sentence,) = _notes(folder, found)
  assert sentence.startswith(
    "single/copy (seed 1) has nan for sequence_accuracy of embedded_copy_v1 at "
    "steps 10 and 20, so its average is nan"
  )


def test_a_model_without_average_is_named(folder):
  found = [
    r for r in made_up.results() if (r["name"], r["seed"]) != ("single/sort", 1)
  ]
  lacks, *alone = _notes(folder, found)
  assert lacks == (
    "single (seed 1) has no embedded_sort_v1/sequence_accuracy: it has no "
    "average there, and is in no difference."
  )
  assert [s.split(",")[0] for s in alone] == [
    f"differences_{c}: one seed of L2" for c in protocol.CHECKPOINTS
  ]


def test_models_without_a_common_seed_are_named(folder):
  found = made_up.results()
  for result in found:
    if result["cell"] == "single":
      result["seed"] += 5
  assert _notes(folder, found) == [
    "L2, vanilla and single have no seed in common: no share of L2.",
    "single and vanilla have no seed in common: no difference of single.",
  ]
