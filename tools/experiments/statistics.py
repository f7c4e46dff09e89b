"""Scores of models, their averages, and the differences of two models."""

import collections
import math

import numpy as np

import t5_tasks  # noqa: F401  (registers the tasks)
from hypergrid_mtf.run import progress
from tools.experiments import answers, intervals, jackknife, protocol


def chosen_steps(result: dict, checkpoint: str) -> dict[str, int]:
  """`protocol.chosen_steps` of a result, which it keeps: they take a while."""
  known = result.setdefault("chosen_steps", {})
  if checkpoint not in known:
    known[checkpoint] = protocol.chosen_steps(result["metrics"], checkpoint)
  return known[checkpoint]


def scores(runs: list[dict], checkpoint: str) -> dict[tuple[str, str], float]:
  """Metrics of one model: of one run, or of one run a task.

  Args:
    runs: results of one cell and seed.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    {(task, metric): value}; nan is a value (a correlation with one answer
    throughout), and is not left out
  """
  found = {}
  for result in runs:
    steps = chosen_steps(result, checkpoint)
    for task, metrics in result["metrics"].items():
      step = str(steps[task])
      for metric, values in metrics.items():
        if step in values:
          found[task, metric] = values[step]
  return found


def all_scores(models, checkpoint: str) -> dict[str, dict[int, dict]]:
  """{cell: {seed: `scores`}} of models from `load.by_model`."""
  return {
    cell: {seed: scores(runs, checkpoint) for seed, runs in by_seed.items()}
    for cell, by_seed in models.items()
  }


def wanted(table: dict[str, dict[int, dict]]) -> set[tuple[str, str]]:
  """The (task, metric) pairs that any model has: an average needs them all."""
  return {key for s in table.values() for v in s.values() for key in v}


def with_averages(
  table: dict[str, dict[int, dict]],
) -> dict[str, dict[int, dict]]:
  """Adds the averages of those models that have all that any has.

  Args:
    table: {cell: {seed: {(task, metric): value}}}

  Returns:
    the same with (AVERAGE, label) beside; nan where a metric is
  """
  needed = wanted(table)
  found: dict[str, dict[int, dict]] = {}
  for cell, by_seed in table.items():
    found[cell] = {}
    for seed, values in by_seed.items():
      found[cell][seed] = dict(values)
      if values.keys() == needed:
        for label, mean in protocol.averages(values).items():
          found[cell][seed][protocol.AVERAGE, label] = mean
  return found


def seeds_with_average(table, *cells: str, label: str | None = None):
  """Seeds of which all of some cells have an average.

  Args:
    table: from `with_averages`.
    *cells: names; one that is absent has none.
    label: of the average; None for any.

  Returns:
    numbers, in order
  """
  having = (
    {
      seed
      for seed, values in table.get(cell, {}).items()
      if any(
        task == protocol.AVERAGE and label in (None, metric)
        for task, metric in values
      )
    }
    for cell in cells
  )
  return sorted(set.intersection(*having))


def kept_answers(runs: list[dict], checkpoint: str):
  """{task: answers.Answers} of one cell and seed.

  A task with a metric that is nan is left out: there is no interval of nan, and
  what others' examples say does not depend on it.
  """
  found = {}
  for result in runs:
    steps = chosen_steps(result, checkpoint)
    for task, metrics in result["metrics"].items():
      step = str(steps[task])
      values = {m: v[step] for m, v in metrics.items() if step in v}
      if not any(map(math.isnan, values.values())):
        packed = result["predictions"].get(task, {}).get(step, {})
        found[task] = answers.Answers(task, packed, values)
  return found


def _all_kept(models, checkpoint):
  return {
    cell: {s: kept_answers(runs, checkpoint) for s, runs in by_seed.items()}
    for cell, by_seed in models.items()
  }


def _is_constant(kept: answers.Answers) -> bool:
  """Every unit is as the others, so none has an influence, whatever a unit."""
  return kept.units > 0 and len(set(kept.kinds())) == 1


def _units(kept) -> dict[str, set[int]]:
  """Numbers of units in which each task's answers were kept; 0: they were not.

  Answers that are all alike fit any units: those of a model that is wrong
  throughout are packed example by example, where others' are by groups.
  """
  found: dict[str, set[int]] = collections.defaultdict(set)
  for by_seed in kept.values():
    for by_task in by_seed.values():
      for task, one in by_task.items():
        found[task] |= set() if _is_constant(one) else {one.units}
  return found


def not_drawn(models, checkpoint: str) -> dict[str, str]:
  """Tasks whose examples the intervals do not know.

  Args:
    models: from `load.by_model`.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    {task: why, as the end of a sentence}
  """
  found = {}
  for task, units in sorted(_units(_all_kept(models, checkpoint)).items()):
    if 0 in units:
      found[task] = "no answers were kept from which its metrics follow"
    elif len(units) > 1:
      some = " and ".join(map(str, sorted(units)))
      found[task] = f"models' answers were kept in different units ({some})"
  return found


def differences(
  models, checkpoint: str, baseline: str, single: str
) -> list[dict]:
  """Each model minus the baseline, and its share of the gap to single tasks.

  Args:
    models: from `load.by_model`.
    checkpoint: one of protocol.CHECKPOINTS.
    baseline: the cell to subtract.
    single: the cell of one model a task; it may be absent.

  Returns:
    records: `cell`, `average`, `seeds`, `difference` (Interval), and where
    `single` is clearly above the baseline, `share` (Interval)
  """
  samples = _Samples(models, checkpoint)
  table = samples.table
  todo = [
    (label, cell)
    for label in samples.labels(baseline)
    for cell in models
    if cell != baseline
    and seeds_with_average(table, cell, baseline, label=label)
  ]
  if not todo:
    return []
  records = []
  with progress.bar(len(todo), "intervals", "model") as bar:
    for label, cell in todo:
      records.append(_difference(samples, label, cell, baseline, single))
      bar.update()
  return records


def _difference(samples, label, cell, baseline, single) -> dict:
  pair, three = (
    seeds_with_average(samples.table, *cells, label=label)
    for cells in ((cell, baseline), (cell, baseline, single))
  )
  seeds = three or pair
  base = samples.of(baseline, label, seeds)
  minus = samples.of(cell, label, seeds) - base
  record = dict(
    cell=cell,
    average=label,
    seeds=len(seeds),
    difference=intervals.of_mean(minus),
  )
  if three and cell != single:
    gap = samples.of(single, label, seeds) - base
    # A share of nothing is not a number.
    if intervals.of_mean(gap).low > 0:
      record["share"] = intervals.of_ratio(minus, gap)
  return record


class _Samples:
  """The averages of models as `intervals` takes them."""

  def __init__(self, models, checkpoint):
    plain = all_scores(models, checkpoint)
    self.table = with_averages(plain)
    self._keys = wanted(plain)
    self._kept = _all_kept(models, checkpoint)
    self._units = {
      task: max(units, default=1)
      for task, units in _units(self._kept).items()
      if 0 not in units and len(units) < 2
    }
    self._influences = {}

  def labels(self, cell):
    """Averages that some seed of a cell has."""
    return dict.fromkeys(
      metric
      for values in self.table.get(cell, {}).values()
      for task, metric in values
      if task == protocol.AVERAGE
    )

  def of(self, cell, label, seeds) -> intervals.Sample:
    """The averages of some seeds, and the influences of examples on them."""
    key = protocol.AVERAGE, label
    return intervals.Sample(
      np.array([self.table[cell][s][key] for s in seeds]),
      np.stack([self._of_examples(cell, s, label) for s in seeds]),
    )

  def _of_examples(self, cell, seed, label) -> np.ndarray:
    """Influences of the units of all tasks, [units of all]."""
    key = cell, seed, label
    if key not in self._influences:
      kept = self._kept[cell][seed]
      self._influences[key] = np.concatenate(
        [
          np.zeros(self._units[task])
          if task not in kept or _is_constant(kept[task])
          else jackknife.influences(kept[task], weights)
          for task, weights in sorted(self._weights(label).items())
          if task in self._units
        ]
        or [np.zeros(1)]
      )
    return self._influences[key]

  def _weights(self, label) -> dict[str, dict[str, float]]:
    """What a point of a metric adds to an average."""
    nothing = dict.fromkeys(self._keys, 0.0)
    found: dict[str, dict[str, float]] = collections.defaultdict(dict)
    for task, metric in self._keys:
      weight = protocol.averages({**nothing, (task, metric): 1.0}).get(label)
      if weight:
        found[task][metric] = weight
    return found
