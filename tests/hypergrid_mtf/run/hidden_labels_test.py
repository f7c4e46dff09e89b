"""Metrics and the labels that only a server knows."""

import numpy as np
import pytest
import seqio
from t5.evaluation import metrics

from hypergrid_mtf.run import eval_metrics, hidden_labels


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
  assert hidden_labels.are_hidden(targets) == hidden


def test_metrics_are_left_out_and_it_is_said_once(monkeypatch):
  said = []
  monkeypatch.setattr(hidden_labels.console, "say", said.append)
  fns = [metrics.accuracy, metrics.f1_score_with_invalid]
  with pytest.raises(ValueError, match="multiclass"):
    fns[1]([-1, -1], [0, 1])
  wrapped = hidden_labels.metrics(fns, "glue_mrpc_v002", "test")
  assert [f([-1, -1], [0, 1]) for f in wrapped] == [{}, {}]
  assert len(said) == 1 and "glue_mrpc_v002" in said[0]
  assert wrapped[0]([1, 0], [1, 1]) == {"accuracy": 50}
  assert wrapped[0].__name__ == "accuracy"


def _no_data(split, shuffle_files):
  raise AssertionError((split, shuffle_files))


def test_the_model_api_evaluates_tasks_whose_labels_are_hidden():
  source = seqio.FunctionDataSource(_no_data, ["test", "validation"])
  tasks = [
    seqio.Task(name, source, output_features={}, metric_fns=fns)
    for name, fns in (("f1", [metrics.f1_score_with_invalid]), ("none", []))
  ]
  with eval_metrics.choose():
    test = seqio.evaluation.get_valid_eval_tasks(tasks, "test")
    assert [t.name for t in test] == ["f1", "none"]
    assert all(t.metric_fns[0]([-1, -1], [0, 1]) == {} for t in test)
    (valid,) = seqio.evaluation.get_valid_eval_tasks(tasks, "validation")
    assert valid.metric_fns[0]([1, 0], [1, 0]) == {"f1": 100}
  assert tasks[0].metric_fns == [metrics.f1_score_with_invalid]
