"""What each example does to a metric: the metric without it.

Efron and Stein (1981, "The jackknife estimate of variance", Annals of
Statistics 9). Examples are left out in the units of `answers`. A metric does
not change with the order of examples, so units with equal content (the same
answer to the same target) are left out once: five calls of a metric where there
are five kinds of answer, and not a thousand draws.
"""

import numpy as np

from tools.experiments.answers import Answers


def influences(kept: Answers, weights: dict[str, float]) -> np.ndarray:
  """The influence of each unit on a weighted sum of a task's metrics.

  Args:
    kept: the answers, of two units or more.
    weights: {metric: weight}

  Returns:
    [units]. The products of two models' influences on the same units add up to
    the covariance of their two sums over draws of examples.
  """
  count = kept.units
  kinds = kept.kinds()
  _, first, kind = np.unique(kinds, return_index=True, return_inverse=True)
  without = np.zeros(len(first))
  for k, unit in enumerate(first):
    metrics = kept.metrics(np.delete(np.arange(count), unit))
    without[k] = sum(w * metrics[m] for m, w in weights.items())
  without = without[kind]
  return np.sqrt((count - 1) / count) * (without.mean() - without)
