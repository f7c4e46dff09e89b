"""Intervals for the difference of two models, over seeds and examples.

A paired bootstrap: a draw takes seeds with replacement and, of each task,
examples with replacement, the same for all models; the metrics are computed
again on what was drawn, by the functions of the task. Seeds are paired by their
number: models of one seed saw the same examples in the same order.
"""

import dataclasses

import numpy as np

from hypergrid_mtf.launch import progress
from tools.experiments import protocol
from tools.experiments.answers import Answers

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate and its interval.

  Attributes:
    value: of what was measured.
    low: lower end of the 95 % interval.
    high: upper end.
  """

  value: float
  low: float
  high: float

  def to_text(self, percent: bool = False) -> str:
    """Such as "1.25 [-0.40, 2.90]"."""
    if percent:
      return f"{self.value:.0%} [{self.low:.0%}, {self.high:.0%}]"
    return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def interval(value: float, draws: np.ndarray) -> Interval:
  """The percentile interval of draws.

  Args:
    value: the estimate.
    draws: [B]

  Returns:
    an Interval
  """
  tail = 100 * (1 - LEVEL) / 2
  low, high = np.percentile(draws, [tail, 100 - tail])
  return Interval(float(value), float(low), float(high))


def averages(
  models: dict[str, dict[int, dict[str, Answers]]],
  label: str,
  draws: int,
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """The average over tasks of each model on each draw of examples.

  Args:
    models: {cell: {seed: {task: Answers}}}, all with the same tasks.
    label: which average, as `protocol.averages` names it.
    draws: how many, B.
    seed: of the random numbers.

  Returns:
    {cell: [its seeds in order, B]}
  """
  rng = np.random.default_rng(seed)
  found = {
    cell: np.zeros([len(by_seed), draws]) for cell, by_seed in models.items()
  }
  units = {}
  for by_seed in models.values():
    for by_task in by_seed.values():
      for task, answers in by_task.items():
        units[task] = max(units.get(task, 0), answers.units)
  with progress.bar(draws, "bootstrap", "draw") as bar:
    for b in range(draws):
      chosen = {t: rng.integers(0, n, n) for t, n in units.items()}
      for cell, by_seed in models.items():
        for i, number in enumerate(sorted(by_seed)):
          scores = {
            (task, metric): value
            for task, answers in by_seed[number].items()
            for metric, value in answers.metrics(chosen[task]).items()
          }
          found[cell][i, b] = protocol.averages(scores)[label]
      bar.update()
  return found


def over_seeds(
  drawn: dict[str, np.ndarray], seed: int = 1
) -> dict[str, np.ndarray]:
  """Means over seeds that are drawn too, the same for all models.

  Args:
    drawn: from `averages`, all of the same seeds.
    seed: of the random numbers.

  Returns:
    {cell: [B]}
  """
  count, draws = next(iter(drawn.values())).shape
  chosen = np.random.default_rng(seed).integers(0, count, [draws, count])
  rows = np.arange(draws)[:, None]
  return {cell: x.T[rows, chosen].mean(axis=1) for cell, x in drawn.items()}
