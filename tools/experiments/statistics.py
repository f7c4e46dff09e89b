"""Scores of models, their averages, and the differences of two models."""

import collections
import math
import statistics

import t5_tasks  # noqa: F401  (registers the tasks)
from tools import compare
from tools.experiments import answers, bootstrap, protocol


def scores(runs: list[dict], checkpoint: str) -> dict[tuple[str, str], float]:
  """Metrics of one model: of one run, or of one run a task.

  Args:
    runs: results of one cell and seed.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    {(task, metric): value}
  """
  found = {}
  for result in runs:
    steps = protocol.chosen_steps(result["metrics"], checkpoint)
    for task, metrics in result["metrics"].items():
      step = str(steps[task])
      for metric, values in metrics.items():
        # A correlation with one answer throughout is no number.
        if not math.isnan(values.get(step, math.nan)):
          found[task, metric] = values[step]
  return found


def all_scores(models, checkpoint):
  return {
    cell: {seed: scores(runs, checkpoint) for seed, runs in by_seed.items()}
    for cell, by_seed in models.items()
  }


def with_averages(
  table: dict[str, dict[int, dict]],
) -> dict[str, dict[int, dict]]:
  """Adds the averages of those models that have all that any has.

  Args:
    table: {cell: {seed: {(task, metric): value}}}

  Returns:
    the same with (AVERAGE, label) beside
  """
  wanted = {key for s in table.values() for v in s.values() for key in v}
  found = {}
  for cell, by_seed in table.items():
    found[cell] = {}
    for seed, values in by_seed.items():
      found[cell][seed] = dict(values)
      if values.keys() == wanted:
        for label, mean in protocol.averages(values).items():
          found[cell][seed][compare.AVERAGE, label] = mean
  return found


def differences(
  models, checkpoint: str, baseline: str, single: str, draws: int
) -> list[dict]:
  """Each model minus the baseline, and its share of the gap to single tasks.

  Args:
    models: from `by_model`.
    checkpoint: one of protocol.CHECKPOINTS.
    baseline: the cell to subtract.
    single: the cell of one model a task; it may be absent.
    draws: of the bootstrap.

  Returns:
    records: `cell`, `average`, `seeds`, `difference` (Interval), and where
    `single` is clearly above the baseline, `share` (Interval)
  """
  table = with_averages(all_scores(models, checkpoint))
  records = []
  if baseline not in table:
    return records
  labels = dict.fromkeys(
    k[1] for v in table[baseline].values() for k in v if k[0] == compare.AVERAGE
  )
  pair = baseline, single
  for label in labels:
    for seeds, cells in _paired(table, label, *pair).items():
      records += _differences(
        models,
        table,
        checkpoint,
        (baseline, single),
        label,
        seeds,
        cells,
        draws,
      )
  return records


def _paired(table, label, baseline, single) -> dict[tuple, list[str]]:
  """{seeds: models that have an average of these, the two others too}."""
  key = compare.AVERAGE, label
  seeds = {
    cell: {s for s, v in by_seed.items() if key in v}
    for cell, by_seed in table.items()
  }
  groups = collections.defaultdict(list)
  for cell in table:
    common = seeds[cell] & seeds[baseline]
    if seeds.get(single):
      common &= seeds[single]
    if cell != baseline and common:
      groups[tuple(sorted(common))].append(cell)
  return groups


def _differences(
  models, table, checkpoint, pair, label, seeds, others, draws
) -> list[dict]:
  """Records of models that have the same seeds."""
  baseline, single = pair
  key = compare.AVERAGE, label
  with_single = any(key in table.get(single, {}).get(s, {}) for s in seeds)
  cells = list(
    dict.fromkeys([baseline, *others, *([single] if with_single else [])])
  )
  kept = {
    cell: {s: _answers(models[cell][s], checkpoint) for s in seeds}
    for cell in cells
  }
  drawn = bootstrap.over_seeds(bootstrap.averages(kept, label, draws))
  mean = {c: statistics.mean(table[c][s][key] for s in seeds) for c in cells}

  def minus(cell, other):
    return bootstrap.interval(
      mean[cell] - mean[other], drawn[cell] - drawn[other]
    )

  gap = minus(single, baseline) if with_single else None
  records = []
  for cell in others:
    record = dict(
      cell=cell,
      average=label,
      seeds=len(seeds),
      difference=minus(cell, baseline),
    )
    # A share of nothing is no number.
    if gap and gap.low > 0 and cell != single:
      record["share"] = bootstrap.interval(
        (mean[cell] - mean[baseline]) / gap.value,
        (drawn[cell] - drawn[baseline]) / (drawn[single] - drawn[baseline]),
      )
    records.append(record)
  return records


def not_drawn(models, checkpoint: str) -> list[str]:
  """Tasks whose examples an interval cannot draw: no answers were kept.

  Args:
    models: from `by_model`.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    names
  """
  return sorted(
    {
      task
      for by_seed in models.values()
      for runs in by_seed.values()
      for task, kept in _answers(runs, checkpoint).items()
      if not kept.units
    }
  )


def _answers(runs: list[dict], checkpoint: str):
  found = {}
  for result in runs:
    steps = protocol.chosen_steps(result["metrics"], checkpoint)
    for task, metrics in result["metrics"].items():
      step = str(steps[task])
      found[task] = answers.Answers(
        task,
        result["predictions"].get(task, {}).get(step, {}),
        {m: values[step] for m, values in metrics.items() if step in values},
      )
  return found
