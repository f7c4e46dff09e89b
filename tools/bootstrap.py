"""Intervals for the difference of two models, over seeds and examples.

A paired bootstrap: a draw takes seeds with replacement and, of each task,
examples with replacement, the same for all models; the metrics are computed
again on what was drawn, by the functions of the task. Seeds are paired by their
number: models of one seed saw the same examples in the same order.
"""

import dataclasses

import numpy as np
import seqio

from hypergrid_mtf import progress
from tools import compare, results

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


class Answers:
  """What one model answered to the examples of one task."""

  def __init__(self, task: str, packed: dict, scores: dict[str, float]):
    """Finds how the task's metrics are computed from answers.

    Args:
      task: its registered name.
      packed: from `results.pack`.
      scores: {metric: value} as the evaluation gave them.
    """
    self._scores = scores
    self._correct = self._pair = None
    if "correct" in packed:
      bits = np.array([c == "1" for c in packed["correct"]], float)
      # Right or wrong is all that was kept: enough for a metric that is it.
      if all(abs(100 * bits.mean() - v) < 1e-3 for v in scores.values()):
        self._correct = bits
    else:
      self._pair = [np.array(x) for x in results.unpack(packed)]
    self._metric_fns = seqio.TaskRegistry.get(task).metric_fns

  def metrics(self, chosen: np.ndarray) -> dict[str, float]:
    """The metrics on examples that were drawn.

    Args:
      chosen: indices, [examples]

    Returns:
      {metric: value}; the evaluation's own where answers cannot be drawn
    """
    if self._correct is not None:
      return dict.fromkeys(self._scores, 100 * self._correct[chosen].mean())
    if self._pair is None:
      return self._scores
    answers, targets = (x[chosen].tolist() for x in self._pair)
    found = {}
    for metric_fn in self._metric_fns:
      found.update(metric_fn(targets, answers))
    # A draw may hold one class alone, where a correlation is not defined.
    return {
      name: np.nan_to_num(float(getattr(found[name], "value", found[name])))
      for name in self._scores
    }


def averages(
  models: dict[str, dict[int, dict[str, Answers]]],
  examples: dict[str, int],
  label: str,
  draws: int,
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """The average over tasks of each model on each draw of examples.

  Args:
    models: {cell: {seed: {task: Answers}}}, all with the same tasks.
    examples: {task: how many}.
    label: which average, as `compare.averages` names it.
    draws: how many, B.
    seed: of the random numbers.

  Returns:
    {cell: [its seeds in order, B]}
  """
  rng = np.random.default_rng(seed)
  found = {
    cell: np.zeros([len(by_seed), draws]) for cell, by_seed in models.items()
  }
  with progress.bar(draws, "bootstrap", "draw") as bar:
    for b in range(draws):
      chosen = {t: rng.integers(0, n, n) for t, n in examples.items()}
      for cell, by_seed in models.items():
        for i, number in enumerate(sorted(by_seed)):
          scores = {
            (task, metric): value
            for task, answers in by_seed[number].items()
            for metric, value in answers.metrics(chosen[task]).items()
          }
          found[cell][i, b] = compare.averages(scores)[label]
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
