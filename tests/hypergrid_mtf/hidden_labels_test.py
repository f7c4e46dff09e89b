"""Metrics and the labels that only a server knows."""

import numpy as np
import pytest
from t5.evaluation import metrics

from hypergrid_mtf import hidden_labels


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
  wrapped = hidden_labels.skipped(fns, "glue_mrpc_v002")
  assert [f([-1, -1], [0, 1]) for f in wrapped] == [{}, {}]
  assert len(said) == 1 and "glue_mrpc_v002" in said[0]
  assert wrapped[0]([1, 0], [1, 1]) == {"accuracy": 50}
  assert wrapped[0].__name__ == "accuracy"
