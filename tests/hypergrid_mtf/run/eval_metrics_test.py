"""Metrics of answers and of scores, each in its own mode."""

import pytest
import seqio
from mesh_tensorflow.transformer import dataset as transformer_dataset
from mesh_tensorflow.transformer import utils
from t5.evaluation import metrics

from hypergrid_mtf import errors
from hypergrid_mtf.run import eval_metrics

RANK, ACCURACY = metrics.rank_classification, metrics.accuracy


def _task(name, metric_fns):
  source = seqio.FunctionDataSource(lambda split, shuffle_files: None, ["test"])
  return seqio.Task(name, source, output_features={}, metric_fns=metric_fns)


def test_a_metric_is_computed_of_what_it_takes(capsys):
  both = [ACCURACY, RANK]
  assert eval_metrics.metrics(both, "both", "test", scored=True) == [RANK]
  (of_answers,) = eval_metrics.metrics(both, "both", "test", scored=False)
  assert of_answers(["a"], ["a"]) == {"accuracy": 100}
  assert eval_metrics.metrics([ACCURACY], "a", "test", scored=True) == []
  assert capsys.readouterr().out == ""
  assert eval_metrics.metrics([RANK], "rank", "test", scored=False) == []
  assert "rank: left out" in capsys.readouterr().out


def test_score_eval_needs_a_metric_of_scores():
  eval_metrics.check(_task("ranked", [RANK]), "test")
  for task, split in (
    (_task("ranked", [RANK]), "train"),
    (_task("a", []), "test"),
  ):
    with pytest.raises(errors.UserError, match=f"no task of {task.name}"):
      eval_metrics.check(task, split)


def test_mesh_tensorflow_evaluates_with_those_alone(tmp_path):
  def datasets(sequence_length, vocabulary, dataset_split):
    del sequence_length, vocabulary, dataset_split
    one = transformer_dataset.EvalDataset
    return [one("answers", None, None, [ACCURACY]), one("no", None, None, [])]

  # It returns before it needs a model where no data set has a metric left.
  with eval_metrics.choose():
    done = utils.eval_model(
      None, None, {"inputs": 1, "targets": 1}, 1, "validation", str(tmp_path),
      datasets, None, 1, eval_with_score=True,
    )  # fmt: skip
  assert done is None and not list(tmp_path.iterdir())
