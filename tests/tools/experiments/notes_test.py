"""The notes next to tables."""

from tests.tools.experiments import made_up
from tools.experiments import notes

NAN = float("nan")


def _notes(found, baseline="vanilla", single="single"):
  return notes.notes(found, made_up.scores(found), baseline, single)


def test_other_differences_and_names_that_are_not_there():
  found = made_up.results()
  layers = "encoder/make_layer_stack.layers"
  for result in found:
    config = {"d_model": "64", "d_ff": "256", layers: "[@DenseReluDense]"}
    if result["cell"] == "L2":
      config.update({"d_ff": "512", layers: "[@HyperGrid]"})
      config["encoder/HyperGrid.variant"] = "'L2'"
    if result["cell"] == "single":
      config["MIXTURE_NAME"] = "'one'"
    result["config"] = config
  size = (
    "L2 differs from vanilla in more than gates and tasks: d_ff is 512, not "
    "256."
  )
  assert _notes(found) == [size]
  assert _notes(found, "absent") == [
    "--baseline=absent has no results: no differences."
  ]
  assert _notes(found, single="singel") == [
    size,
    "--single=singel has no results: no shares of a gap.",
  ]


def test_the_outcome_in_words():
  def said(found):
    frame = made_up.scores(found)["last"]
    return notes.verdicts(frame, "vanilla", "single")

  found = made_up.results()
  # On average vanilla 35 and 45, L2 70 twice, single 90 and 95.
  assert said(found) == [
    "L2 − vanilla: +30.0 [-33.5, 93.5] on average (of the tasks, last "
    "checkpoint), 2 seeds: not distinguishable.",
    "single − vanilla: +52.5 [20.7, 84.3] on average (of the tasks, last "
    "checkpoint), 2 seeds: better.",
  ]
  assert said(found[::2])[0].endswith(
    "+35.0 on average (of the tasks, last checkpoint), 1 seed: one seed cannot "
    "distinguish them."
  )
  for result in found[2:4]:
    for by_step in result["metrics"].values():
      by_step[made_up.METRIC]["20"] = 0.0
  found[2]["metrics"][made_up.COPY][made_up.METRIC]["20"] = 9.0
  assert said(found)[0].endswith("2 seeds: not distinguishable.")
  found[3]["metrics"][made_up.SORT][made_up.METRIC]["20"] = 19.0
  assert said(found)[0].endswith("2 seeds: worse.")
  found[3]["metrics"][made_up.SORT][made_up.METRIC]["20"] = NAN
  assert "a score is undefined" in said(found)[0]
  assert said(found[2:]) == []


def test_a_run_with_nan_is_named():
  found = made_up.results()
  values = found[6]["metrics"][made_up.COPY][made_up.METRIC]
  values.update({"10": NAN, "20": NAN})
  (sentence,) = _notes(found)
  assert sentence.startswith(
    "single/copy (seed 1) has nan for sequence_accuracy of embedded_copy_v1 at "
    "steps 10 and 20, so its average is nan"
  )


def test_a_model_without_average_is_named():
  lacks, *alone = _notes(made_up.results()[:-1])
  assert lacks == (
    "single (seed 1) has no embedded_sort_v1/sequence_accuracy: it has no "
    "average there, and is in no difference."
  )
  assert [s.split(",")[0] for s in alone] == ["only one seed of L2"]


def test_models_without_a_common_seed_are_named():
  found = made_up.results()
  for result in found:
    if result["cell"] == "single":
      result["seed"] += 5
  assert _notes(found) == [
    "L2, vanilla and single have no seed in common: no share of L2.",
    "single and vanilla have no seed in common: no difference of single.",
  ]
