"""The scores of evaluations, from event files with times of their own."""

import math
import pathlib

import pytest

from hypergrid_mtf import errors
from tests.tools.experiments import event_files
from tools.experiments import evaluation

TASK = "glue_sst2_v002"
ACCURACY = f"{TASK}/accuracy"


def _config(folder, time, beam_size=1, **more):
  text = f"""beam = {beam_size}

# Parameters for decode:
Bitransformer.decode.beam_size = %beam
run.dataset_split = 'validation'
"""
  text += "".join(f"run.{k} = {v!r}\n" for k, v in more.items())
  name = "config.gin" if time is None else f"config.{time:.6f}.gin"
  (folder / name).write_text(text)


@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")])
@pytest.mark.parametrize("in_one_file", [False, True])
def test_the_latest_score_of_a_step_counts(tmp_path, names, in_one_file):
  """Whatever the order of the files in the folder is."""
  few = (5.0, 20, {ACCURACY: 33.25}), (6.0, 10, {ACCURACY: 12.0})
  whole = (60.0, 20, {ACCURACY: 71.5, f"{TASK}/f1": math.nan})
  if in_one_file:
    event_files.write(tmp_path, 1000.0, whole, *few)
  else:
    event_files.write(tmp_path, 1000.0, *few, name=names[0])
    event_files.write(tmp_path, 1000.0, whole, name=names[1])
  found = evaluation.read(str(tmp_path))
  assert found.metrics()[TASK]["accuracy"] == {"10": 12.0, "20": 71.5}
  assert found.last_step() == 20
  assert math.isnan(found.metrics()[TASK]["f1"]["20"])
  assert found.notes() == []


def test_the_metrics_of_one_step_of_a_run(tmp_path):
  assert evaluation.read_step(str(tmp_path), 7) == {}
  (tmp_path / "validation_eval").mkdir()
  scores = (5.0, 7, {ACCURACY: 50.0}), (6.0, 8, {ACCURACY: 60.0})
  event_files.write(tmp_path / "validation_eval", 1000.0, *scores)
  found = evaluation.read_step(str(tmp_path), 7)
  assert found == {TASK: {"accuracy": 50.0}}
  assert evaluation.read_step(str(tmp_path), 9) == {}


def test_every_score_has_the_protocol_it_was_made_with(tmp_path):
  event_files.write(tmp_path, 1001.0, (2.0, 10, {ACCURACY: 50.0}))
  _config(tmp_path, 1000.5, beam_size=4)
  event_files.write(tmp_path, 2001.0, (2.0, 20, {ACCURACY: 60.0}))
  _config(tmp_path, 2000.5)
  found = evaluation.read(str(tmp_path))
  with pytest.raises(errors.UserError) as e:
    found.protocol("validation")
  assert (
    "Bitransformer.decode.beam_size is 4 for glue_sst2_v002 at step 10 and 1 "
    "for glue_sst2_v002 at step 20"
  ) in str(e.value)
  # Step 10 again: its old score counts no longer, and all are of one kind.
  event_files.write(tmp_path, 3001.0, (2.0, 10, {ACCURACY: 55.0}))
  _config(tmp_path, 3000.5)
  found = evaluation.read(str(tmp_path))
  assert found.protocol("validation") == {
    "run.dataset_split": "'validation'",
    "Bitransformer.decode.beam_size": "1",
  }
  assert found.metrics()[TASK]["accuracy"] == {"10": 55.0, "20": 60.0}


def test_scores_instead_of_answers_are_another_protocol(tmp_path):
  _config(tmp_path, None)  # of the evaluations before there were times
  event_files.write(tmp_path, 1000.0, (2.0, 10, {ACCURACY: 50.0}))
  found = evaluation.read(str(tmp_path))
  assert found.protocol("validation") == {
    "run.dataset_split": "'validation'",
    "Bitransformer.decode.beam_size": "1",
  }
  _config(tmp_path, 1500.0, mode="score_eval")
  event_files.write(tmp_path, 1501.0, (2.0, 20, {ACCURACY: 60.0}))
  found = evaluation.read(str(tmp_path))
  with pytest.raises(errors.UserError, match="run.mode is not bound .* 'score"):
    found.protocol("validation")


def test_a_damaged_file_is_named_and_the_rest_is_read(tmp_path):
  whole = event_files.write(tmp_path, 1000.0, (1.0, 10, {ACCURACY: 50.0}))
  cut = event_files.write(
    tmp_path,
    2000.0,
    (1.0, 20, {"a/accuracy": 70.0}),
    (1.0, 20, {ACCURACY: 60.0}),
  )
  path = pathlib.Path(cut)
  path.write_bytes(path.read_bytes()[:-3])
  found = evaluation.read(str(tmp_path))
  assert found.metrics()["a"] == {"accuracy": {"20": 70.0}}
  assert found.notes() == [
    f"{cut} is damaged: only its readable part is used.",
    f"{tmp_path}: {TASK} has no scores at step 20; its last ones are of step "
    "10: evaluate step 20 again.",
  ]
  pathlib.Path(whole).unlink()
  path.write_bytes(path.read_bytes()[:70])
  with pytest.raises(errors.UserError, match=f"{cut} is damaged, and .* has"):
    evaluation.read(str(tmp_path))


def test_a_folder_without_scores_is_said(tmp_path):
  with pytest.raises(errors.UserError, match="no event file"):
    evaluation.read(str(tmp_path))
  event_files.write(tmp_path, 1000.0)
  with pytest.raises(errors.UserError, match="has no scores of an eval"):
    evaluation.read(str(tmp_path))
  (tmp_path / f"{TASK}_10_predictions").write_text("1\n")
  with pytest.raises(errors.UserError, match="labels .* are not public"):
    evaluation.read(str(tmp_path))


def test_an_unknown_split_is_named_with_those_there_are(tmp_path):
  with pytest.raises(errors.UserError, match="no evaluation of the split 'x'"):
    evaluation.folder_of(str(tmp_path), "x")
  (tmp_path / "validation_eval").mkdir()
  with pytest.raises(errors.UserError) as e:
    evaluation.folder_of(str(tmp_path), "tset")
  assert "'tset': only of validation" in str(e.value)
  for folder in ("", str(tmp_path / "nothing")):
    with pytest.raises(errors.UserError, match="is not a folder"):
      evaluation.folder_of(folder, "validation")
