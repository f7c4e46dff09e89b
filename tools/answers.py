"""The answers of a model: small enough to keep, and drawn for a bootstrap.

What t5 writes beside the scores (predictions and targets, a line an example)
becomes a few characters an example in the JSON of a run. Examples are drawn in
units: an example by itself, or, where a metric is of groups (the answers to one
question of MultiRC, the copies of one query of ReCoRD), a whole group.
"""

import ast
from collections.abc import Callable

import numpy as np
import seqio

import t5_tasks  # noqa: F401  (registers the tasks)
from hypergrid_mtf import errors

# Answers of more kinds than this are kept as scores only.
_MAX_LABELS = 64
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
    the first of these from which the metrics can be computed again: {"labels":
    [text, …], "answers": "…", "targets": "…"}, a character an example, and
    "groups", a number an example, where the task has groups; {"correct":
    "0110…"}; {"scores": {metric: [a unit's, …]}}; {} where there is no way
  """
  parsed = [_parse(a) for a in answers], [_parse(t) for t in targets]
  values = [[v["value"] if _is_dict(v) else v for v in side] for side in parsed]
  groups = None
  if _is_dict(*parsed[0], *parsed[1]):
    lines = [list(map(str, side)) for side in values]
    numbers = {}
    groups = [
      numbers.setdefault(str(t.get("group", i)), len(numbers))
      for i, t in enumerate(parsed[1])
    ]
  else:
    lines = [answers, targets]
  labels = sorted({*lines[0], *lines[1]})
  # Several right answers to one question are no label.
  several = any(isinstance(v, list | tuple) for v in values[1])
  if len(labels) <= _MAX_LABELS and not several:
    digit = dict(zip(labels, _DIGITS, strict=False))
    packed = dict(
      labels=labels,
      answers="".join(digit[a] for a in lines[0]),
      targets="".join(digit[t] for t in lines[1]),
    )
    return {**packed, "groups": groups} if groups else packed
  right = [int(a == t) for a, t in zip(*lines, strict=True)]
  if groups is None and _agree(
    dict.fromkeys(scores, 100 * np.mean(right)), scores
  ):
    return {"correct": "".join(map(str, right))}
  return _pack_scores(task, parsed, groups, scores)


def _is_dict(*values) -> bool:
  return all(isinstance(v, dict) and "value" in v for v in values)


def _agree(found: dict[str, float], scores: dict[str, float]) -> bool:
  return all(
    abs(found.get(m, np.nan) - v) < _TOLERANCE for m, v in scores.items()
  )


def _pack_scores(task, parsed, groups, scores) -> dict:
  """The metrics of each unit, if their means are the metrics of all."""
  metric_fns = _metric_fns(task)
  if metric_fns is None:
    return {}
  by_unit = {m: [] for m in scores}
  for unit in _units(groups, len(parsed[0])):
    answers, targets = ([side[i] for i in unit] for side in parsed)
    found = _compute(metric_fns, targets, answers)
    for metric, values in by_unit.items():
      values.append(found.get(metric, np.nan))
  if not _agree({m: np.mean(v) for m, v in by_unit.items()}, scores):
    return {}
  return {"scores": {m: np.round(v, 4).tolist() for m, v in by_unit.items()}}


def _units(groups: list[int] | None, count: int) -> list[list[int]]:
  """The examples of each unit."""
  if groups is None:
    return [[i] for i in range(count)]
  found = [[] for _ in range(max(groups) + 1)]
  for i, group in enumerate(groups):
    found[group].append(i)
  return found


def _parse(text: str):
  """A number, or a {"value": …} of t5's, as such; anything else as text."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text
  return value if isinstance(value, int | float) or _is_dict(value) else text


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
  """Answers and targets of `pack`, with numbers as numbers.

  Args:
    packed: with "labels".

  Returns:
    answers, targets
  """
  values = [_parse(text) for text in packed["labels"]]
  return tuple(
    [values[_DIGITS.index(c)] for c in packed[key]]
    for key in ("answers", "targets")
  )


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
    self._by_unit, self._pair = {}, None
    self.units = 0
    if "scores" in packed:
      self._by_unit = {m: np.array(v) for m, v in packed["scores"].items()}
    elif "correct" in packed:
      right = np.array([100.0 * (c == "1") for c in packed["correct"]])
      # Right or wrong is all that was kept: enough for a metric that is it.
      if _agree(dict.fromkeys(scores, right.mean()), scores):
        self._by_unit = dict.fromkeys(scores, right)
    elif "labels" in packed:
      self._pair = [np.array(x) for x in unpack(packed)]
      self._groups = packed.get("groups")
      self._units = _units(self._groups, len(self._pair[0]))
      self._metric_fns = _metric_fns(task)
      self.units = len(self._units)
      if self._metric_fns is None:
        raise errors.UserError(
          f"{task} is no registered task, so its metrics are not known: give "
          "--module_import=MODULE with the module that registers it."
        )
      right = 100.0 * (self._pair[0] == self._pair[1])
      if self._groups is None and _agree(
        {_ACCURACY: right.mean()}, {_ACCURACY: scores.get(_ACCURACY, np.nan)}
      ):
        self._by_unit = {_ACCURACY: right}  # much faster than a function
    if self._pair is None and self._by_unit:
      self.units = len(next(iter(self._by_unit.values())))

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
    for number, unit in enumerate(chosen):
      for i in self._units[unit]:
        answers.append(dict(value=self._pair[0][i].item()))
        targets.append(dict(value=self._pair[1][i].item(), group=number))
    return answers, targets
