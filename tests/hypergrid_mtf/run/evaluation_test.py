"""Metrics of answers and of scores, and labels that only a server knows."""

import numpy as np
import pytest
from mesh_tensorflow.transformer import dataset as transformer_dataset
from mesh_tensorflow.transformer import utils
from t5.evaluation import metrics

from hypergrid_mtf.run import estimator, evaluation

RANK, ACCURACY = metrics.rank_classification, metrics.accuracy


def test_a_metric_is_computed_of_what_it_takes(capsys):
  both = [ACCURACY, RANK]
  assert evaluation.metrics(both, "both", "test", scored=True) == [RANK]
  (of_answers,) = evaluation.metrics(both, "both", "test", scored=False)
  assert of_answers(["a"], ["a"]) == {"accuracy": 100}
  assert evaluation.metrics([ACCURACY], "a", "test", scored=True) == []
  assert capsys.readouterr().out == ""
  assert evaluation.metrics([RANK], "rank", "test", scored=False) == []
  assert "rank: left out" in capsys.readouterr().out


def test_mesh_tensorflow_evaluates_with_those_alone(tmp_path, capsys):
  def original(sequence_length, vocabulary, dataset_split):
    del sequence_length, vocabulary, dataset_split
    one = transformer_dataset.EvalDataset
    return [
      one("answers", None, lambda text, **_: text, [ACCURACY]),
      one("none", None, None, []),
    ]

  progress = estimator.Progress(checkpoint="/x/model.ckpt-8")
  scored = evaluation.datasets_fn(original, True, progress)
  # It returns before it needs a model where no data set has a metric left.
  done = utils.eval_model(
    None, None, {"inputs": 1, "targets": 1}, 1, "validation", str(tmp_path),
    scored, None, 1, eval_with_score=True,
  )  # fmt: skip
  assert done is None and not list(tmp_path.iterdir())
  fn = evaluation.datasets_fn(original, False, progress)
  answers, none = fn(sequence_length=1, vocabulary=None, dataset_split="test")
  assert answers.postprocess_fn("a", is_target=True) == "a"
  assert answers.postprocess_fn("b") == "b" and progress.examples == 1
  answers.metric_fns[0](["a"], ["a"])
  assert "step 8  answers  accuracy  100" in capsys.readouterr().out
  assert none.metric_fns[0]([], []) == {}
  assert "none: has no metric, so answers" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("targets", "hidden"),
  [
    ([-1, -1], True),
    ([np.float32(-1.0)] * 2, True),
    ([{"group": (0, 1), "value": []}], True),
    ([{"group": 0, "value": -1}, {"group": 1, "value": 0}], False),
    ([-1, 0], False),
    (["-1", "-1"], False),
    ([["an answer"], []], False),
    ([], False),
  ],
)
def test_what_is_hidden(targets, hidden):
  assert evaluation.are_hidden(targets) == hidden


def test_metrics_are_left_out_and_it_is_said_once(capsys):
  fns = [ACCURACY, metrics.f1_score_with_invalid]
  with pytest.raises(ValueError, match="multiclass"):
    fns[1]([-1, -1], [0, 1])
  wrapped = evaluation.metrics(fns, "glue_mrpc_v002", "test", scored=False)
  assert [f([-1, -1], [0, 1]) for f in wrapped] == [{}, {}]
  assert capsys.readouterr().out.count("glue_mrpc_v002: labels are not") == 1
  assert wrapped[0]([1, 0], [1, 1]) == {"accuracy": 50}
  assert wrapped[0].__name__ == "accuracy"
