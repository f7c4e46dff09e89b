"""Influences of examples, against formulas and against draws."""

import numpy as np
import pytest
import seqio

from tools.experiments import answers, jackknife


def _kept(task, targets, predictions):
  scores = {}
  for metric_fn in seqio.TaskRegistry.get(task).metric_fns:
    scores.update(metric_fn(targets, predictions))
  lines = [[str(v) for v in values] for values in (predictions, targets)]
  packed = answers.pack(task, *lines, scores)
  return answers.Answers(task, packed, scores)


def test_of_an_accuracy_they_are_the_formula():
  rng = np.random.default_rng(0)
  targets, predictions = rng.integers(0, 2, [2, 60])
  kept = _kept("glue_rte_v002", targets.tolist(), predictions.tolist())
  found = jackknife.influences(kept, {"accuracy": 0.5})
  right = 50.0 * (targets == predictions)
  assert found == pytest.approx((right - right.mean()) / np.sqrt(60 * 59))
  assert found @ found == pytest.approx(right.var(ddof=1) / 60)


def _classes(rng, n=300):
  targets = rng.integers(0, 2, n)
  return targets, np.where(rng.random(n) < 0.7, targets, 1 - targets)


def _numbers(rng, n=300):
  targets = rng.integers(0, 26, n) / 5
  return targets, np.clip(targets + rng.integers(-9, 10, n) / 5, 0, 5)


@pytest.mark.parametrize(
  ("task", "draw", "weights"),
  [
    ("glue_mrpc_v002", _classes, {"f1": 0.5, "accuracy": 0.5}),
    ("glue_cola_v002", _classes, {"matthews_corrcoef": 1.0}),
    ("glue_stsb_v002", _numbers, {"pearson_corrcoef": 1.0}),
  ],
)
def test_of_others_they_give_the_variance_of_draws(task, draw, weights):
  rng = np.random.default_rng(1)
  kept = _kept(task, *(x.tolist() for x in draw(rng)))
  found = jackknife.influences(kept, weights)
  assert found.sum() == pytest.approx(0, abs=1e-9)
  draws = []
  for _ in range(150):
    metrics = kept.metrics(rng.integers(0, kept.units, kept.units))
    draws.append(sum(w * metrics[m] for m, w in weights.items()))
  # The standard deviation of 150 draws is good to about 6 %.
  assert np.sqrt(found @ found) == pytest.approx(np.std(draws), rel=0.18)


def test_a_group_is_left_out_whole():
  """Questions of MultiRC: exact match is a mean over them."""
  rng = np.random.default_rng(0)
  targets = [
    dict(value=int(rng.integers(0, 2)), group=f"p-{q}")
    for q in range(20)
    for _ in range(3)
  ]
  predictions = [dict(value=int(rng.integers(0, 2))) for _ in targets]
  kept = _kept("super_glue_multirc_v102", targets, predictions)
  assert kept.units == 20
  found = jackknife.influences(kept, {"exact_match": 1.0})
  right = np.array(
    [
      100.0
      * all(
        targets[i]["value"] == predictions[i]["value"]
        for i in range(3 * q, 3 * q + 3)
      )
      for q in range(20)
    ]
  )
  assert found == pytest.approx((right - right.mean()) / np.sqrt(20 * 19))
