"""Answers kept and drawn, against the metrics that t5 computes from them."""

import json
import math

import numpy as np
import pytest
import seqio

from hypergrid_mtf import errors
from tools.experiments import answers

MULTIRC = "super_glue_multirc_v102"
RECORD = "super_glue_record_v102"


def _scores(task, targets, predictions):
  found = {}
  for metric_fn in seqio.TaskRegistry.get(task).metric_fns:
    found.update(metric_fn(targets, predictions))
  return found


def _lines(values):
  return [str(v) for v in values]  # as mesh_tensorflow writes them


def _kept(task, targets, predictions):
  """(packed, as JSON brings it back; t5's scores)"""
  scores = _scores(task, targets, predictions)
  packed = answers.pack(task, _lines(predictions), _lines(targets), scores)
  return json.loads(json.dumps(packed)), scores


def _classes(rng, n=60):
  return rng.integers(0, 2, n).tolist(), rng.integers(-1, 2, n).tolist()


@pytest.mark.parametrize("task", ["glue_mrpc_v002", "glue_cola_v002"])
def test_classes(task):
  targets, predictions = _classes(np.random.default_rng(0))
  packed, scores = _kept(task, targets, predictions)
  assert answers.unpack(packed) == (predictions, targets)
  kept = answers.Answers(task, packed, scores)
  assert kept.units == 60
  assert kept.metrics(np.arange(60)) == pytest.approx(scores)
  chosen = np.random.default_rng(1).integers(0, 60, 60)
  expected = _scores(
    task, [targets[i] for i in chosen], [predictions[i] for i in chosen]
  )
  assert kept.metrics(chosen) == pytest.approx(expected)


def test_numbers():
  rng = np.random.default_rng(0)
  targets = (rng.integers(0, 26, 300) / 5).tolist()
  predictions = (rng.integers(0, 26, 300) / 5).tolist()
  packed, scores = _kept("glue_stsb_v002", targets, predictions)
  assert answers.unpack(packed) == (predictions, targets)
  kept = answers.Answers("glue_stsb_v002", packed, scores)
  assert kept.metrics(np.arange(300)) == pytest.approx(scores)
  # A draw of one answer throughout has no correlation.
  assert kept.metrics(np.zeros(5, int)) == dict.fromkeys(scores, 0.0)


def test_many_texts_are_right_or_wrong():
  targets = [f"t{i}" for i in range(100)]
  predictions = targets[:50] + ["x"] * 50
  packed, scores = _kept("embedded_copy_v1", targets, predictions)
  assert packed == {"correct": "1" * 50 + "0" * 50}
  kept = answers.Answers("embedded_copy_v1", packed, scores)
  assert kept.metrics(np.array([0, 1, 2, 99])) == {"accuracy": 75.0}


def test_multirc_is_drawn_by_questions():
  rng = np.random.default_rng(0)
  groups = np.repeat(rng.permutation(40), rng.integers(1, 5, 40)).tolist()
  values, found = _classes(rng, len(groups))
  targets = [
    dict(value=v, group=g) for v, g in zip(values, groups, strict=True)
  ]
  predictions = [dict(value=v) for v in found]
  packed, scores = _kept(MULTIRC, targets, predictions)
  assert {"f1", "exact_match"} == set(scores)
  kept = answers.Answers(MULTIRC, packed, scores)
  assert kept.units == 40
  assert kept.metrics(np.arange(40)) == pytest.approx(scores)
  # Twice the same question counts twice.
  order = list(dict.fromkeys(groups))
  of = [i for i, g in enumerate(groups) if g == order[3]]
  other = [i for i, g in enumerate(groups) if g == order[7]]
  again = [
    *({**targets[i], "group": -1} for i in of),
    *(targets[i] for i in of + other),
  ]
  expected = _scores(MULTIRC, again, [predictions[i] for i in of + of + other])
  assert kept.metrics(np.array([3, 3, 7])) == pytest.approx(expected)


def test_record_is_drawn_by_queries():
  rng = np.random.default_rng(0)
  names = [f"Name {i} of the Rest" for i in range(80)]
  targets, predictions = [], []
  for query in range(50):
    right = rng.choice(names, rng.integers(1, 3), replace=False).tolist()
    answer = str(rng.choice([right[0], "Name", *names[:2]]))
    for _ in range(rng.integers(1, 4)):  # t5 copies a query for each answer
      targets.append(dict(value=right, group=(query // 5, query)))
      predictions.append(dict(value=answer))
  packed, scores = _kept(RECORD, targets, predictions)
  assert set(packed["scores"]) == set(scores) == {"em", "f1"}
  kept = answers.Answers(RECORD, packed, scores)
  assert kept.units == 50
  assert kept.metrics(np.arange(50)) == pytest.approx(scores, abs=1e-3)
  chosen = rng.integers(0, 50, 20)
  first = [
    next(i for i, t in enumerate(targets) if t["group"][1] == q) for q in chosen
  ]
  expected = _scores(
    RECORD,
    [{**targets[i], "group": n} for n, i in enumerate(first)],
    [predictions[i] for i in first],
  )
  assert kept.metrics(chosen) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("task", [RECORD, MULTIRC])
@pytest.mark.parametrize("right", [False, True])
def test_the_units_are_those_of_the_task_whatever_the_score(task, right):
  """A model without one right answer is drawn as the others are."""
  targets, predictions = [], []
  for query in range(30):
    for _ in range(1 + query % 3):
      value = [f"Name {query}"] if task == RECORD else 1
      answer = f"Name {query}" if task == RECORD else 1
      wrong = "nothing" if task == RECORD else 0
      targets.append(dict(value=value, group=query))
      predictions.append(dict(value=answer if right else wrong))
  packed, scores = _kept(task, targets, predictions)
  assert set(scores.values()) == {100.0 if right else 0.0}
  assert "correct" not in packed and "texts" not in packed
  kept = answers.Answers(task, packed, scores)
  assert kept.units == 30
  assert kept.metrics(np.array([29, 0, 0])) == scores


def test_a_score_that_is_not_a_number_is_not_right_or_wrong(own_task):
  texts = [f"t{i}" for i in range(100)]
  packed = answers.pack(own_task, texts, texts, {"length": math.nan})
  assert "correct" not in packed
  task = "glue_stsb_v002"
  targets = np.linspace(0, 5, 100).round(3).tolist()  # more than 64 kinds
  packed, scores = _kept(task, targets, [2.0] * 100)
  assert math.isnan(scores["pearson_corrcoef"]) and packed == {}
  # An old file that says so is drawn as the score that it has.
  old = answers.Answers(task, {"correct": "0" * 100}, scores)
  assert old.units == 0


@pytest.fixture
def own_task():
  """A task whose answers are texts, also where they look like numbers."""

  def longest(targets, predictions):
    return {
      "length": float(
        np.mean([len(t + p) for t, p in zip(targets, predictions, strict=True)])
      )
    }

  seqio.TaskRegistry.add(
    "answers_test",
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files: None, splits=["validation"]
    ),
    preprocessors=[],
    output_features={},
    metric_fns=[longest],
  )
  yield "answers_test"
  seqio.TaskRegistry.remove("answers_test")


@pytest.mark.parametrize("kinds", [5, 200])
def test_texts_that_look_like_numbers(own_task, kinds):
  targets = [str(10 ** (i % 3) + i % kinds) for i in range(400)]
  predictions = [str(i % kinds) for i in range(400)]
  packed, scores = _kept(own_task, targets, predictions)
  assert ("texts" if kinds == 5 else "scores") in packed
  kept = answers.Answers(own_task, packed, scores)
  assert kept.metrics(np.arange(400)) == pytest.approx(scores, abs=1e-3)
  expected = _scores(own_task, targets[:3], predictions[:3])
  assert kept.metrics(np.arange(3)) == pytest.approx(expected, abs=1e-3)


def test_classes_of_words_and_numbers():
  """As of a task without a postprocessor."""
  targets, predictions = ["1", "yes", "no", "1"], ["1", "1", "no", "yes"]
  packed, scores = _kept("embedded_copy_v1", targets, predictions)
  kept = answers.Answers("embedded_copy_v1", packed, scores)
  assert kept.metrics(np.array([0, 2, 2, 1])) == {"accuracy": 75.0}


def test_what_was_not_kept_is_not_drawn():
  scores = {"rouge": 12.0}
  lines = ["a", "b"] * 40
  assert answers.pack("not_registered", lines, _lines(range(80)), scores) == {}
  kept = answers.Answers("not_registered", {}, scores)
  assert kept.units == 0 and kept.metrics(np.zeros(0, int)) == scores


def test_an_unregistered_task_is_one_sentence():
  packed = answers.pack("mine", ["1", "0"], ["1", "1"], {"f1": 66.7})
  with pytest.raises(errors.UserError, match="--module_import"):
    answers.Answers("mine", packed, {"f1": 66.7})
