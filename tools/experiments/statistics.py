"""Scores of models, their averages, and the differences of two models.

Models are paired by seed: with the same seed they saw the same training
examples in the same order. The interval of a difference is Student's. That of a
share of a gap is Fieller's (1954, "Some problems in interval estimation", JRSS
B 16): all shares s for which the interval of `difference - s * gap` contains 0.
Neither includes the noise of the validation examples, which are the same for
every model.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import stats

from t5_tasks import benchmarks
from tools.experiments import protocol

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate and its 95 % interval, which is nan for a single seed."""

  value: float
  low: float
  high: float

  def to_text(self, form: str = ".2f") -> str:
    """Text such as "1.25 [-0.40, 2.90]"; only the value without an interval."""
    if np.isnan(self.value):
      return "nan"
    if np.isnan(self.low + self.high):
      return format(self.value, form)
    return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def scores(found: list[dict], checkpoint: str) -> pd.DataFrame:
  """The scores of results at one checkpoint, and the averages of models.

  Args:
    found: from `results.load`.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    one row per score: cell, seed, run, task, metric, step, value. A value may
    be nan (a correlation if all answers are equal), and then so is its
    average. A model's seed that lacks scores that others have has no average.
    The task of an average is protocol.AVERAGE, its metric is the average's
    name.
  """
  rows = []
  for result in found:
    steps = protocol.chosen_steps(result["metrics"], checkpoint)
    run = result["cell"], result["seed"], result.get("name", result["cell"])
    for task, by_metric in result["metrics"].items():
      for metric, values in by_metric.items():
        if (step := steps[task]) in values:
          rows.append((*run, task, metric, step, values[step]))
  wanted = {row[3:5] for row in rows}
  columns = ["cell", "seed", "run", "task", "metric", "step", "value"]
  frame = pd.DataFrame(rows, columns=columns)
  averages = []
  for (cell, seed), own in frame.groupby(["cell", "seed"], sort=False):
    values = own.set_index(["task", "metric"])["value"].to_dict()
    if values.keys() == wanted:
      averages += [
        (cell, seed, cell, protocol.AVERAGE, label, 0, value)
        for label, value in benchmarks.averages(values).items()
      ]
  return pd.concat([frame, pd.DataFrame(averages, columns=columns)])


def averages(frame: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
  """{average: {cell: values by seed}} from `scores`, without empty ones."""
  found: dict[str, dict[str, pd.Series]] = {}
  own = frame[frame["task"] == protocol.AVERAGE]
  for (label, cell), rows in own.groupby(["metric", "cell"], sort=False):
    found.setdefault(label, {})[cell] = rows.set_index("seed")["value"]
  return found


def common_seeds(by_cell: dict[str, pd.Series], *cells: str) -> list[int]:
  """The seeds for which all given cells have an average."""
  having = [set(by_cell[c].index) if c in by_cell else set() for c in cells]
  return sorted(set.intersection(*having))


def differences(frame: pd.DataFrame, baseline: str, single: str) -> list[dict]:
  """Each model minus the baseline, and its share of the gap to single tasks.

  Args:
    frame: from `scores`.
    baseline: the cell to subtract.
    single: the cell with one model per task; it may be absent.

  Returns:
    records: `cell`, `average`, `seeds`, `difference` (Interval), and, if
      `single` is clearly above the baseline, `share` (Interval)
  """
  records = []
  for label, by_cell in averages(frame).items():
    for cell in by_cell:
      three = common_seeds(by_cell, cell, baseline, single)
      seeds = three or common_seeds(by_cell, cell, baseline)
      if cell == baseline or not seeds:
        continue
      # Arrays, because pandas would skip nan in a mean.
      values = {c: v.reindex(seeds).to_numpy() for c, v in by_cell.items()}
      minus = values[cell] - values[baseline]
      record = dict(
        cell=cell, average=label, seeds=len(seeds), difference=of_mean(minus)
      )
      if three and cell != single:
        gap = values[single] - values[baseline]
        if of_mean(gap).low > 0:  # a share of zero is undefined
          record["share"] = of_ratio(minus, gap)
      records.append(record)
  return records


def of_mean(x: np.ndarray) -> Interval:
  """The interval of a mean over seeds."""
  if len(x) < 2:
    return Interval(np.mean(x), np.nan, np.nan)
  ends = stats.ttest_1samp(x, 0).confidence_interval(LEVEL)
  return Interval(np.mean(x), ends.low, ends.high)


def of_ratio(x: np.ndarray, y: np.ndarray) -> Interval:
  """The interval of a ratio of two means over the same seeds.

  It is bounded because the interval of the denominator y is above 0.
  """
  t = stats.t.ppf((1 + LEVEL) / 2, len(x) - 1)
  widths = t**2 * np.cov(x, y) / len(x)
  mean = np.array([np.mean(x), np.mean(y)])
  # (mean x - s mean y)^2 = widths of x - s y, solved for s
  (xx, xy), (_, yy) = np.outer(mean, mean) - widths
  root = np.sqrt(xy**2 - xx * yy)
  return Interval(mean[0] / mean[1], (xy - root) / yy, (xy + root) / yy)
