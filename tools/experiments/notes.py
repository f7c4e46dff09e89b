"""Notes for readers of the tables, as sentences."""

import re

import numpy as np
import pandas as pd

from tools.experiments import protocol, result, statistics

# Bindings in which the models of a comparison should differ.
_MEANT = re.compile(
  r"(.*/)?((HyperGrid|HyperPrompt|Adapter|num_tasks|define_mixture)\..*"
  r"|make_layer_stack\.layers|MIXTURE_NAME)$"
)
# The cell with one model per task, which not every experiment has.
SINGLE = "single"
_NAMED = 4  # bindings listed in a sentence


def notes(
  found: list[dict],
  scores: dict[str, pd.DataFrame],
  baseline: str,
  single: str = SINGLE,
) -> list[str]:
  """Makes the notes for readers of the tables.

  Args:
    found: results.
    scores: {checkpoint: from `statistics.scores`}.
    baseline: the cell that is subtracted.
    single: the cell with one model per task.
  """
  cells = {r["cell"] for r in found}
  sentences = other_differences(found, baseline)
  if baseline not in cells:
    sentences.append(f"--baseline={baseline} has no results: no differences.")
  if single not in cells and single != SINGLE:
    sentences.append(f"--single={single} has no results: no shares of a gap.")
  sentences += nans(pd.concat(scores.values()))
  for frame in scores.values():
    sentences += without_average(frame)
    sentences += unpaired(frame, baseline, single)
    records = statistics.differences(frame, baseline, single)
    alone = dict.fromkeys(r["cell"] for r in records if r["seeds"] == 1)
    if alone:
      sentences.append(
        f"only one seed of {', '.join(alone)} is compared, so the variation "
        "between seeds is unknown, and there is no interval."
      )
  return list(dict.fromkeys(sentences))


def verdicts(frame: pd.DataFrame, baseline: str, single: str) -> list[str]:
  """The outcome in words: each model compared with the baseline, on average.

  Args:
    frame: `statistics.scores` of the last checkpoint, which was not chosen on
      the validation set.
    baseline: as in `notes`.
    single: as in `notes`.
  """
  records = statistics.differences(frame, baseline, single)
  return [
    f"{r['cell']} − {baseline}: {'+' if r['difference'].value > 0 else ''}"
    f"{r['difference'].to_text('.1f')} on average ({r['average']}, last "
    f"checkpoint), {r['seeds']} seed{'s' * (r['seeds'] > 1)}: "
    f"{_outcome(r['difference'])}."
    for r in records
    if r["average"] == records[-1]["average"]
  ]


def _outcome(difference: statistics.Interval) -> str:
  if np.isnan(difference.value):
    return "undefined, because a score is undefined"
  if np.isnan(difference.low):
    return "one seed cannot distinguish them"
  if difference.low <= 0 <= difference.high:
    return "not distinguishable"
  return "better" if difference.value > 0 else "worse"


def _seeds(seeds: list[int]) -> str:
  known = [str(s) for s in seeds if s != result.NO_SEED]
  if not known:
    return "no seed given"
  return f"seed{'s' * (len(known) > 1)} {', '.join(known)}"


def _some(names: list[str], separator: str = ", ") -> str:
  more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
  return separator.join(names[:_NAMED] + more)


def nans(frame: pd.DataFrame) -> list[str]:
  """A sentence for each task of a run with a nan in a table."""
  own = frame[frame["value"].isna() & (frame["task"] != protocol.AVERAGE)]
  sentences = []
  for (run, seed, task), rows in own.groupby(
    ["run", "seed", "task"], sort=False
  ):
    steps = sorted(rows["step"].unique(), key=int)
    sentences.append(
      f"{run} ({_seeds([seed])}) has nan for "
      f"{' and '.join(rows['metric'].unique())} of {task} at "
      f"step{'s' * (len(steps) > 1)} {' and '.join(steps)}, so its average is "
      "nan: a correlation is undefined if all answers are equal."
    )
  return sentences


def without_average(frame: pd.DataFrame) -> list[str]:
  """A sentence for each model that lacks scores that others have."""
  plain = frame[frame["task"] != protocol.AVERAGE]
  plain = plain.assign(name=plain["task"] + "/" + plain["metric"])
  wanted = set(plain["name"])
  sentences = []
  for cell, own in plain.groupby("cell", sort=False):
    by_seed = own.groupby("seed")["name"].agg(lambda names: wanted - set(names))
    lacking = by_seed[by_seed.map(len) > 0]
    if len(lacking):
      names = sorted(set.union(*lacking))
      sentences.append(
        f"{cell} ({_seeds(list(lacking.index))}) has no {_some(names)}: it has "
        "no average there, and is in no difference."
      )
  return sentences


def unpaired(frame: pd.DataFrame, baseline: str, single: str) -> list[str]:
  """A sentence for each model that shares no seed with its comparison."""
  sentences = []
  for by_cell in statistics.averages(frame).values():
    for cell in by_cell:
      for cells, what in (
        ((cell, baseline), "difference"),
        ((cell, baseline, single), "share"),
      ):
        if len(set(cells)) < len(cells) or not by_cell.keys() >= set(cells):
          continue
        if not statistics.common_seeds(by_cell, *cells):
          sentences.append(
            f"{', '.join(cells[:-1])} and {cells[-1]} have no seed in common: "
            f"no {what} of {cell}."
          )
          break
  return sentences


def other_differences(found: list[dict], baseline: str) -> list[str]:
  """Differences from the baseline, apart from gates and tasks."""
  base: dict[str, str] = next(
    (r["config"] for r in found if r["cell"] == baseline), {}
  )
  by_cell: dict[str, dict[str, str]] = {}
  for run in found:
    different = by_cell.setdefault(run["cell"], {})
    for key, value in run["config"].items():
      if value != base.get(key, value) and not _MEANT.match(key):
        different[key] = f"{key} is {value}, not {base[key]}"
  return [
    f"{cell} differs from {baseline} in more than gates and tasks: "
    f"{_some([different[key] for key in sorted(different)], '; ')}."
    for cell, different in by_cell.items()
    if different
  ]
