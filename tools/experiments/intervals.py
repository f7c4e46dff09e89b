"""Intervals for the difference of two models, and for its share of a gap.

A table compares models over n seeds that were evaluated on the same examples.
The question is how the difference would come out over other seeds and other
examples. Seeds are paired by their number (models of one seed saw the same
training examples in the same order), examples by their place in the data. With
d_s the difference at seed s and d its mean,

  Var(d) = S² / n + T

S², the variance of the d_s, holds all that differs from seed to seed: the seed
itself, and what the examples do to one seed alone. T is the covariance, over
draws of examples, of two different seeds' differences: the noise that all
seeds share, which their spread cannot show. A seed's own variance over examples
is not part of T, because it is in S² already.

S² has n - 1 degrees of freedom, T those of the examples, taken as infinite. The
interval is that of Banerjee (1960, "Approximate confidence interval for linear
functions of means of k populations when the population variances are not
equal", Sankhya 22): each variance with the square of its own quantile,

  d ± sqrt(t² S² / n + z² T),   t of n - 1 degrees of freedom, z normal

It is never too narrow where seeds are normal and T is known: with χ² of n - 1
degrees over n - 1 for W and F the distribution of a squared normal, it covers
E F((t² a W + z² b) / (a + b)) for true a = Var/n and b = T, and F is concave,
so this is at least (a E F(t² W) + b F(z²)) / (a + b), of which both terms are
95 %. It is exact where one of the two is zero.

A share is a ratio of two means. Its interval is Fieller's (1954, "Some problems
in interval estimation", JRSS B 16): all θ for which the interval of x - θ y
holds 0. It is bounded just where the interval of y does not hold 0.

How often both cover is simulated by

  python -m tests.tools.experiments.intervals_test

At 3, 5 and 10 seeds 94 to 97 % of the differences hold the truth and 93 to 97 %
of the shares, in all its worlds but one: where seeds lie far apart and
accuracies pile up at 100 %, so that seeds are not normal, it is 92 to 95 % of
the differences, and of the shares that are given 84, 90 and 92 %. A share is
then seldom given at 3 seeds (30 %), and by those whose gap came out wide.
"""

import dataclasses

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate and its interval.

  Attributes:
    value: of what was measured.
    low: lower end of the 95 % interval; nan where there is none.
    high: upper end.
  """

  value: float | np.ndarray
  low: float | np.ndarray
  high: float | np.ndarray

  def to_text(self, percent: bool = False) -> str:
    """Such as "1.25 [-0.40, 2.90]"; the value alone where there is no more."""
    form = ".0%" if percent else ".2f"
    value, low, high = (
      "nan" if np.isnan(x) else format(x, form)
      for x in (self.value, self.low, self.high)
    )
    return value if "nan" in (value, low, high) else f"{value} [{low}, {high}]"


@dataclasses.dataclass(frozen=True)
class Sample:
  """A number of each seed, and what each example does to it.

  Attributes:
    values: [..., seeds]
    influences: [..., seeds, units], from `jackknife.influences`: the product of
      two seeds' rows is the covariance of their values over draws of examples.
  """

  values: np.ndarray
  influences: np.ndarray

  def __sub__(self, other: "Sample") -> "Sample":
    return Sample(
      self.values - other.values, self.influences - other.influences
    )


def of_mean(x: Sample) -> Interval:
  """The interval of a mean over seeds.

  Args:
    x: of numbers, such as a difference of two models.

  Returns:
    an Interval (of arrays, where x has leading dimensions). One seed has none:
    how much seeds differ cannot be known from it, and an interval over examples
    alone would be read as one that knows.
  """
  value = x.values.mean(axis=-1)
  width = np.sqrt(_squared_widths(x, x)[0])
  return Interval(value, value - width, value + width)


def of_ratio(x: Sample, y: Sample) -> Interval:
  """The interval of a ratio of two means over seeds.

  Args:
    x: the numerator.
    y: the denominator, of the same seeds and examples.

  Returns:
    an Interval; without ends where that of y holds 0.
  """
  a, b = x.values.mean(axis=-1), y.values.mean(axis=-1)
  xx, yy, xy = _squared_widths(x, y)
  # (a - θ b)² = xx - 2 θ xy + θ² yy
  square = b**2 - yy
  middle = a * b - xy
  with np.errstate(invalid="ignore", divide="ignore"):
    root = np.sqrt(np.maximum(middle**2 - square * (a**2 - xx), 0))
    low, high = ((middle + sign * root) / square for sign in (-1, 1))
    bounded = square > 0
    return Interval(
      a / b, np.where(bounded, low, np.nan), np.where(bounded, high, np.nan)
    )


def _squared_widths(x: Sample, y: Sample) -> tuple[np.ndarray, ...]:
  """t² S / n + z² T of x, of y, and between them."""
  n = x.values.shape[-1]
  if n < 2:
    return (np.full(x.values.shape[:-1], np.nan),) * 3
  tail = (1 + LEVEL) / 2
  of_seeds = stats.t.ppf(tail, n - 1) ** 2 / n
  of_examples = stats.norm.ppf(tail) ** 2
  # An estimate of a variance that is small may be below zero.
  t_xx, t_yy = (np.maximum(_shared(s, s), 0) for s in (x, y))
  most = np.sqrt(t_xx * t_yy)
  t_xy = np.clip(_shared(x, y), -most, most)
  return tuple(
    of_seeds * _between(*pair) + of_examples * t
    for pair, t in (((x, x), t_xx), ((y, y), t_yy), ((x, y), t_xy))
  )


def _between(x: Sample, y: Sample) -> np.ndarray:
  """The covariance over seeds."""
  dx, dy = (s.values - s.values.mean(axis=-1, keepdims=True) for s in (x, y))
  return (dx * dy).sum(axis=-1) / (x.values.shape[-1] - 1)


def _shared(x: Sample, y: Sample) -> np.ndarray:
  """The covariance over examples of different seeds, mean over their pairs."""
  n = x.values.shape[-1]
  all_pairs = (x.influences.sum(axis=-2) * y.influences.sum(axis=-2)).sum(-1)
  same = (x.influences * y.influences).sum(axis=(-2, -1))
  return (all_pairs - same) / (n * (n - 1))
