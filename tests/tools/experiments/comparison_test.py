"""The table of runs, from the event files and checkpoints of made-up runs."""

import math
import pathlib
import time

import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from tests import program
from tests.tools.experiments import event_files
from tools.experiments import comparison, result


def _run(folder, scores, step=10, sizes=((4, 8),)):
  """A model_dir as a run leaves it: a checkpoint and eval summaries."""
  with tf.Graph().as_default(), tf.Session() as sess:
    tf.get_variable("shared/embedding", [5, 4])
    tf.get_variable("shared/embedding_slot_v", [5, 4])
    tf.get_variable("global_step", [], tf.int64)
    for i, size in enumerate(sizes):
      tf.get_variable(f"encoder/{i}/kernel", size)
    sess.run(tf.global_variables_initializer())
    tf.train.Saver().save(sess, str(folder / "model.ckpt"), global_step=step)
  with tf.Graph().as_default():
    writer = tf.summary.FileWriter(str(folder / "validation_eval"))
    for at, factor in ((step - 5, 0.5), (step, 1.0)):
      for (task, metric), value in scores.items():
        summary = tf.Summary()
        summary.value.add(
          tag=f"eval/{task}/{metric}", simple_value=value * factor
        )
        writer.add_summary(summary, at)
    writer.close()
  return str(folder)


SCORES = {("a", "accuracy"): 90.0, ("b", "f1"): 80.0, ("b", "accuracy"): 60.0}


def test_scores_of_the_last_step_averages_and_parameters(tmp_path):
  one = _run(tmp_path / "one", SCORES)
  two = _run(tmp_path / "two", {k: v + 1 for k, v in SCORES.items()})
  frame = comparison.table({"one": one, "two": two})
  assert frame.at[("b", "f1"), "one"] == 80.0
  assert frame.at[("average", "of the tasks"), "one"] == pytest.approx(
    (90 + 70) / 2
  )
  assert frame.at[("average", "of the tasks"), "two"] == pytest.approx(81)
  assert frame.at[comparison.PARAMETERS, "one"] == 5 * 4 + 4 * 8
  assert frame.at[comparison.EMBEDDING_FREE, "one"] == 4 * 8
  assert frame.at[comparison.STEP, "one"] == 10
  text = comparison.to_markdown(frame)
  assert "| 90.00 | 91.00 |" in text and "| 52 | 52 |" in " ".join(text.split())


def test_a_missing_metric_is_no_zero(tmp_path):
  one = _run(tmp_path / "one", SCORES)
  two = _run(tmp_path / "two", {("a", "accuracy"): 50.0})
  frame = comparison.table({"one": one, "two": two})
  assert frame.at[("b", "f1"), "two"] is None
  assert frame.at[("average", "of the tasks"), "two"] is None
  assert "| - |" in " ".join(comparison.to_markdown(frame).split())
  assert comparison.not_numbers(frame) == []


def test_a_nan_is_shown_and_its_run_named(tmp_path):
  """It was measured: a model of one answer has no correlation."""
  one = _run(tmp_path / "one", SCORES)
  two = _run(tmp_path / "two", {**SCORES, ("b", "f1"): math.nan})
  frame = comparison.table({"one": one, "two": two})
  assert frame.at[("average", "of the tasks"), "one"] == pytest.approx(80)
  text = " ".join(comparison.to_markdown(frame).split())
  assert "| b | f1 | 80.00 | nan |" in text
  assert "| average | of the tasks | 80.00 | nan |" in text
  (sentence,) = comparison.not_numbers(frame)
  assert sentence.startswith("two: f1 of b is nan")


def test_a_step_that_was_evaluated_twice_has_its_later_score(tmp_path):
  one = _run(tmp_path / "one", SCORES)
  later = time.time() + 60
  for name, created, value in (("a", later, 71.5), ("z", later - 30, 33.0)):
    event_files.write(
      f"{one}/validation_eval",
      created,
      (1.0, 10, {"a/accuracy": value}),
      name=name,
    )
  assert comparison.table({"one": one}).at[("a", "accuracy"), "one"] == 71.5


def test_different_ways_of_evaluation_do_not_compare(tmp_path):
  runs = {name: _run(tmp_path / name, SCORES) for name in ("one", "two")}
  for beam_size, folder in enumerate(runs.values(), 3):
    with open(f"{folder}/validation_eval/config.1000.0.gin", "w") as f:
      f.write(f"Bitransformer.decode.beam_size = {beam_size}\n")
  with pytest.raises(errors.UserError, match="beam_size is 3 and 4"):
    comparison.table(runs)


def test_different_steps_do_not_compare(tmp_path):
  one = _run(tmp_path / "one", SCORES)
  two = _run(tmp_path / "two", SCORES, step=20)
  with pytest.raises(errors.UserError, match="one at 10, two at 20"):
    comparison.table({"one": one, "two": two})


def test_a_run_without_evaluation_is_named(tmp_path):
  with pytest.raises(errors.UserError, match="holds no evaluation"):
    comparison.table({"one": str(tmp_path)})


def test_a_damaged_checkpoint_is_named(tmp_path):
  folder = _run(tmp_path / "one", SCORES)
  index = pathlib.Path(folder) / "model.ckpt-10.index"
  index.write_bytes(index.read_bytes()[:20])
  with pytest.raises(errors.UserError, match="model.ckpt-10 .* cannot be read"):
    comparison.table({"one": folder})
  (pathlib.Path(folder) / "checkpoint").unlink()
  with pytest.raises(errors.UserError, match=r"one holds .*checkpoint"):
    result.count_parameters(folder)


def test_the_command(tmp_path, monkeypatch, capsys):
  one, two = (_run(tmp_path / name, SCORES) for name in ("one", "two"))
  output = tmp_path / "table.md"
  given = f"--runs=vanilla={one},L2={two}", f"--output={output}"
  program.run("tools.compare", given, monkeypatch)
  assert "vanilla |" in output.read_text()
  assert f"wrote {output}" in capsys.readouterr().out
