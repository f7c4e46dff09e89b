"""What a reader of the tables should know: sentences beside them."""

import math
import re

import pandas as pd

from tools.experiments import load, protocol, statistics

# Bindings in which the models of a comparison are meant to differ.
_MEANT = re.compile(
  r"(.*/)?(HyperGrid\..*|make_layer_stack\.layers|MIXTURE_NAME"
  r"|define_mixture\..*)$"
)
# The cell of one model a task, which not every experiment has.
SINGLE = "single"
_NAMED = 4  # bindings in a sentence


def notes(
  found: list[dict],
  made: dict[str, pd.DataFrame],
  baseline: str,
  single: str = SINGLE,
) -> list[str]:
  """What a reader of the tables should know.

  Args:
    found: results.
    made: from `render.tables`.
    baseline: the cell that differences are from.
    single: the cell of one model a task.

  Returns:
    sentences
  """
  models = load.by_model(found)
  sentences = other_differences(models, baseline)
  if baseline not in models:
    sentences.append(f"--baseline={baseline} is not there: no differences.")
  if single not in models and single != SINGLE:
    sentences.append(f"--single={single} is not there: no shares of a gap.")
  sentences += nans(models)
  for checkpoint in protocol.CHECKPOINTS:
    sentences += without_average(models, checkpoint)
    table = f"differences_{checkpoint}"
    if table not in made:
      continue
    sentences += unpaired(models, checkpoint, baseline, single)
    sentences += [
      f"{table}: the intervals do not know the examples of {task}, as {why}."
      for task, why in statistics.not_drawn(models, checkpoint).items()
    ]
    frame = made[table]
    alone = ", ".join(dict.fromkeys(frame.loc[frame["seeds"] == "1", "model"]))
    if alone:
      sentences.append(
        f"{table}: one seed of {alone} is compared, which does not show how "
        "much seeds differ, so there is no interval."
      )
  return list(dict.fromkeys(sentences))


def _seeds(seeds: list[int]) -> str:
  known = [str(s) for s in seeds if s != load.NO_SEED]
  if not known:
    return "no seed given"
  return f"seed{'s' if len(known) > 1 else ''} {', '.join(known)}"


def _some(names: list[str]) -> str:
  more = len(names) - _NAMED
  return ", ".join([*names[:_NAMED], *([f"{more} more"] if more > 0 else [])])


def nans(models) -> list[str]:
  """A sentence for each task of a run with a metric that is nan in a table.

  Args:
    models: from `load.by_model`.

  Returns:
    sentences
  """
  sentences = []
  for cell, by_seed in models.items():
    for seed, runs in by_seed.items():
      for run in runs:
        for task, (metrics, steps) in _nan_tasks(run).items():
          at = (
            "s" * (len(steps) > 1) + " " + " and ".join(map(str, sorted(steps)))
          )
          sentences.append(
            f"{run.get('name', cell)} ({_seeds([seed])}) has nan for "
            f"{' and '.join(metrics)} of {task} at step{at}, so its average "
            "is nan: a correlation has no value where all answers are the same."
          )
  return sentences


def _nan_tasks(run: dict) -> dict[str, tuple[dict, set[int]]]:
  """{task: (its metrics that are nan, at these steps)}"""
  found: dict[str, tuple[dict, set[int]]] = {}
  for checkpoint in protocol.CHECKPOINTS:
    steps = statistics.chosen_steps(run, checkpoint)
    values = statistics.scores([run], checkpoint)
    for (task, metric), value in values.items():
      if math.isnan(value):
        metrics, at = found.setdefault(task, ({}, set()))
        metrics[metric] = True
        at.add(steps[task])
  return found


def without_average(models, checkpoint: str) -> list[str]:
  """A sentence for each model that lacks what others have.

  Args:
    models: from `load.by_model`.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    sentences
  """
  table = statistics.all_scores(models, checkpoint)
  wanted = statistics.wanted(table)
  sentences = []
  for cell, by_seed in table.items():
    lacking = {
      seed: sorted(wanted - values.keys()) for seed, values in by_seed.items()
    }
    seeds = [seed for seed, keys in lacking.items() if keys]
    if seeds:
      names = dict.fromkeys(
        f"{task}/{metric}" for s in seeds for task, metric in lacking[s]
      )
      sentences.append(
        f"{cell} ({_seeds(seeds)}) has no {_some(list(names))}: it has no "
        "average there, and is in no difference."
      )
  return sentences


def unpaired(models, checkpoint: str, baseline: str, single: str) -> list[str]:
  """A sentence for each model that has no seed in common with those it needs.

  Args:
    models: from `load.by_model`.
    checkpoint: one of protocol.CHECKPOINTS.
    baseline: the cell that differences are from.
    single: the cell of one model a task.

  Returns:
    sentences
  """
  table = statistics.with_averages(statistics.all_scores(models, checkpoint))
  sentences = []
  for cell in models:
    for others, what in (([], "difference"), ([single], "share")):
      cells = list(dict.fromkeys([cell, baseline, *others]))
      if (
        cell == baseline
        or (others and cell in others)
        or not all(statistics.seeds_with_average(table, c) for c in cells)
      ):
        continue
      if not statistics.seeds_with_average(table, *cells):
        sentences.append(
          f"{', '.join(cells[:-1])} and {cells[-1]} have no seed in common: no "
          f"{what} of {cell}."
        )
        break
  return sentences


def other_differences(models, baseline: str) -> list[str]:
  """What a model has different from the baseline, beside gates and tasks.

  Args:
    models: from `load.by_model`.
    baseline: the cell to compare with.

  Returns:
    a sentence for each such model: its difference is not that of the gates
  """
  configs = {
    cell: [r["config"] for runs in by_seed.values() for r in runs]
    for cell, by_seed in models.items()
  }
  base = configs.get(baseline, [{}])[0]
  sentences = []
  for cell, by_run in configs.items():
    found = {}
    for config in by_run:
      for key in config.keys() & base.keys():
        if config[key] != base[key] and not _MEANT.match(key):
          found[key] = f"{key} is {config[key]}, not {base[key]}"
    if found:
      some = [found[key] for key in sorted(found)[:_NAMED]]
      if len(found) > _NAMED:
        some.append(f"and {len(found) - _NAMED} more")
      sentences.append(
        f"{cell} differs from {baseline} in more than gates and tasks: "
        f"{'; '.join(some)}."
      )
  return sentences
