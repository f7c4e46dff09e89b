"""The answers of a model: small enough to keep, and left out one by one.

What t5 writes beside the scores (predictions and targets, a line an example)
becomes a few characters an example in the JSON of a run. Examples are drawn in
units: an example by itself, or, where a metric is of groups (the answers to one
question of MultiRC, the copies of one query of ReCoRD), a whole group.
"""

import ast
import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
import seqio

import t5_tasks  # noqa: F401  (registers the tasks)
from hypergrid_mtf import errors

# A character for each kind of answer; more kinds are kept as scores only.
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
_ACCURACY = "accuracy"
_TOLERANCE = 1e-3  # of a metric of 100


def pack(
  task: str, answers: list[str], targets: list[str], scores: dict[str, float]
) -> dict:
  """Answers of a model to the examples of one task.

  Args:
    task: its registered name.
    answers: one line an example, as t5 writes predictions.
    targets: as many.
    scores: {metric: value} that t5 computed from them.

  Returns:
    the first of these forms that gives the same metrics when they are computed
    from it: {"labels": [text, …], "answers": "…", "targets": "…"}, a character
    an example, and "groups", a number an example, where the task has groups;
    the same with "texts" where the task reads a number as a text; {"correct":
    "0110…"}; {"scores": {metric: [of each unit, …]}}; {} where none does
  """
  read = {
    key: [[parse(line) for line in lines] for lines in (answers, targets)]
    for key, parse in _PARSERS.items()
  }
  # The units are groups or lines by what the task is, whatever its scores are:
  # a model of ReCoRD that scores 0 is drawn as one that does not.
  grouped = _is_dict(*(v for side in read["labels"] for v in side))
  if grouped:
    del read["texts"]
  for key, sides in read.items():
    packed = _in_characters(key, *sides)
    if packed and _gives(task, packed, scores):
      return packed
  if not grouped:
    right = [int(a == t) for a, t in zip(answers, targets, strict=True)]
    if _is_mean(100 * float(np.mean(right)), scores):
      return {"correct": "".join(map(str, right))}
  for sides in read.values():
    packed = _scores_of_units(task, *sides)
    if packed and _gives(task, packed, scores):
      return packed
  return {}


def _parse(text: str):
  """A number, or a {"value": …} of t5's, as such; anything else as text."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text
  return value if isinstance(value, int | float) or _is_dict(value) else text


_PARSERS: dict[str, Callable] = {"labels": _parse, "texts": str}


def _is_dict(*values) -> bool:
  return all(isinstance(v, dict) and "value" in v for v in values)


def _agree(found: dict[str, float], scores: dict[str, float]) -> bool:
  """Whether all metrics are those of t5; for nan any value will do."""
  return all(
    abs(found.get(m, math.inf) - v) < _TOLERANCE or math.isnan(v)
    for m, v in scores.items()
  )


def _is_mean(mean: float, scores: dict[str, float]) -> bool:
  """Whether every metric is the mean of right and wrong; nan is none."""
  return all(abs(mean - v) < _TOLERANCE for v in scores.values())


def _gives(task: str, packed: dict, scores: dict[str, float]) -> bool:
  """Whether t5's scores come out of what was kept."""
  if _metric_fns(task) is None:
    return "texts" not in packed  # not known here: as t5's own tasks
  try:
    kept = Answers(task, packed, scores)
    return _agree(kept.metrics(np.arange(kept.units)), scores)
  except Exception:  # a metric may do anything with what it does not expect
    return False


def _groups(targets: list) -> list[int]:
  """The number of each example's group."""
  numbers: dict[str, int] = {}
  return [
    numbers.setdefault(str(t.get("group", i)), len(numbers))
    for i, t in enumerate(targets)
  ]


def _in_characters(key: str, answers: list, targets: list) -> dict | None:
  groups = None
  if _is_dict(*answers, *targets):
    groups = _groups(targets)
    answers, targets = ([v["value"] for v in x] for x in (answers, targets))
  if any(isinstance(t, list | tuple) for t in targets):
    return None  # several right answers are not a label
  labels = sorted({str(v) for v in (*answers, *targets)})
  if len(labels) > len(_DIGITS):
    return None
  digit = dict(zip(labels, _DIGITS, strict=False))
  packed = {
    key: labels,
    "answers": "".join(digit[str(a)] for a in answers),
    "targets": "".join(digit[str(t)] for t in targets),
  }
  return {**packed, "groups": groups} if groups else packed


def _scores_of_units(task: str, answers: list, targets: list) -> dict | None:
  metric_fns = _metric_fns(task)
  if metric_fns is None:
    return None
  groups = _groups(targets) if _is_dict(*answers, *targets) else None
  found: dict[str, list[float]] = {}
  try:
    for unit in _units(groups, len(answers)):
      one = _compute(
        metric_fns, [targets[i] for i in unit], [answers[i] for i in unit]
      )
      for metric, value in one.items():
        found.setdefault(metric, []).append(round(value, 4))
  except Exception:  # as in `_gives`
    return None
  # A metric that one unit does not have is not a mean over units.
  numbers = all(map(math.isfinite, itertools.chain(*found.values())))
  return {"scores": found} if numbers else None


def _units(groups: list[int] | None, count: int) -> list[list[int]]:
  """The examples of each unit."""
  if groups is None:
    return [[i] for i in range(count)]
  found: list[list[int]] = [[] for _ in range(max(groups) + 1)]
  for i, group in enumerate(groups):
    found[group].append(i)
  return found


def _metric_fns(task: str) -> list[Callable] | None:
  if task not in seqio.TaskRegistry.names():
    return None
  return seqio.TaskRegistry.get(task).metric_fns


def _compute(metric_fns, targets: list, answers: list) -> dict[str, float]:
  found = {}
  for metric_fn in metric_fns:
    found.update(metric_fn(targets, answers))
  return {name: float(getattr(v, "value", v)) for name, v in found.items()}


def unpack(packed: dict) -> tuple[list, list]:
  """Answers and targets of `pack`.

  Args:
    packed: with "labels" or "texts".

  Returns:
    answers, targets; of "labels", numbers as numbers
  """
  key = "labels" if "labels" in packed else "texts"
  values = [_PARSERS[key](text) for text in packed[key]]
  answers, targets = (
    [values[_DIGITS.index(c)] for c in packed[side]]
    for side in ("answers", "targets")
  )
  return answers, targets


class Answers:
  """What one model answered to the examples of one task.

  Attributes:
    units: how many there are to draw from; 0 where only the scores were kept.
  """

  def __init__(self, task: str, packed: dict, scores: dict[str, float]):
    """Finds how the task's metrics are computed from answers.

    Args:
      task: its registered name.
      packed: from `pack`.
      scores: {metric: value} as the evaluation gave them.

    Raises:
      UserError: if the task is not registered and its metrics are needed.
    """
    self._scores = scores
    self._by_unit: dict[str, np.ndarray] = {}
    self._pair: list[np.ndarray] | None = None
    self.units = 0
    if "scores" in packed:
      self._by_unit = {m: np.array(v) for m, v in packed["scores"].items()}
    elif "correct" in packed:
      right = np.array([100.0 * (c == "1") for c in packed["correct"]])
      # Right or wrong is all that was kept: enough for a metric that is it.
      if _is_mean(right.mean(), scores):
        self._by_unit = dict.fromkeys(scores, right)
    elif "answers" in packed:
      # Objects: an array of numbers and texts would be one of texts.
      self._pair = [np.array(x, object) for x in unpack(packed)]
      self._groups = packed.get("groups")
      self._units = _units(self._groups, len(self._pair[0]))
      self._metric_fns = _metric_fns(task)
      self.units = len(self._units)
      if self._metric_fns is None:
        raise errors.UserError(
          f"{task} is not a registered task, so its metrics are not known: "
          "give --module_import=MODULE with the module that registers it."
        )
      if _ACCURACY in scores and self._groups is None:
        right = 100.0 * (self._pair[0] == self._pair[1])
        if abs(right.mean() - scores[_ACCURACY]) < _TOLERANCE:
          self._by_unit = {_ACCURACY: right}  # much faster than a function
    if self._pair is None and self._by_unit:
      self.units = len(next(iter(self._by_unit.values())))

  def kinds(self) -> np.ndarray:
    """A number for each unit, the same where its content is the same.

    Returns:
      [units]
    """
    contents: Iterable[tuple]
    if self._pair is None:
      contents = zip(*self._by_unit.values(), strict=True)
    else:
      pairs = list(zip(*self._pair, strict=True))
      contents = (
        tuple(sorted(map(str, (pairs[i] for i in unit))))
        for unit in self._units
      )
    numbers: dict[tuple, int] = {}
    return np.array([numbers.setdefault(c, len(numbers)) for c in contents])

  def metrics(self, chosen: np.ndarray) -> dict[str, float]:
    """The metrics on units that were drawn.

    Args:
      chosen: indices, [units]

    Returns:
      {metric: value}; the evaluation's own where there are no units
    """
    known = {m: v[chosen].mean() for m, v in self._by_unit.items()}
    if self._pair is None or known.keys() == self._scores.keys():
      return {**self._scores, **known}
    if self._groups is None:
      answers, targets = (x[chosen].tolist() for x in self._pair)
    else:
      answers, targets = self._draw_groups(chosen)
    found = {**_compute(self._metric_fns, targets, answers), **known}
    # A draw may hold one class alone, where a correlation is not defined.
    return {name: np.nan_to_num(found[name]) for name in self._scores}

  def _draw_groups(self, chosen) -> tuple[list[dict], list[dict]]:
    """A group that is drawn twice is two groups."""
    answers, targets = [], []
    assert self._pair
    for number, unit in enumerate(chosen):
      for i in self._units[unit]:
        answers.append(dict(value=self._pair[0][i]))
        targets.append(dict(value=self._pair[1][i], group=number))
    return answers, targets
