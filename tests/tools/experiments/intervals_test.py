"""Whether intervals cover, by simulation over seeds and examples.

  python -m tests.tools.experiments.intervals_test

prints the coverage of the 95 % intervals, and of the percentile bootstrap that
they replaced, for more settings and more repetitions than the tests.

The world that is drawn from: three models (vanilla, a model, single-task
models) answer the same examples, right or wrong. A model is right where

  mean of the model + effect of its seed + ease of the example
    + what this model makes of this example + the same of this one seed

is above zero, all but the first normal with mean 0 and drawn anew in each
repetition. So the true accuracy of a model, over all seeds and examples, is
Φ(mean / sqrt(1's variance of the sum)), and what an interval should hold is
known.
"""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from tools.experiments import intervals


@dataclasses.dataclass(frozen=True)
class World:
  """Standard deviations of what is drawn, and the models' means.

  Attributes:
    seed: of the effect of a seed, for (vanilla, model, single).
    ease: of an example's, common to all models.
    own: of what a model makes of an example, all its seeds alike.
    noise: of what one seed of a model makes of an example.
    means: of (vanilla, model, single).
    examples: how many.
  """

  seed: tuple[float, float, float]
  ease: float = 1.0
  own: float = 0.4
  noise: float = 0.6
  means: tuple[float, float, float] = (0.0, 0.6, 1.2)
  examples: int = 200

  def truth(self) -> np.ndarray:
    """True accuracies, of 100."""
    others = self.ease**2 + self.own**2 + self.noise**2
    return 100 * stats.norm.cdf(
      np.array(self.means) / np.sqrt(np.square(self.seed) + others)
    )

  def draw(self, rng, repetitions: int, seeds: int) -> np.ndarray:
    """Whether each answer is right, [models, repetitions, seeds, examples]."""
    shape = repetitions, seeds, self.examples
    ease = self.ease * rng.standard_normal((repetitions, 1, self.examples))
    found = []
    for mean, spread in zip(self.means, self.seed, strict=True):
      seed = spread * rng.standard_normal((repetitions, seeds, 1))
      own = self.own * rng.standard_normal((repetitions, 1, self.examples))
      noise = self.noise * rng.standard_normal(shape)
      found.append(mean + seed + ease + own + noise > 0)
    return np.stack(found)


WORLDS = {
  "seeds and examples": World((0.3, 0.2, 0.1)),
  "seeds above all": World((0.3, 0.3, 0.3), ease=0.5, own=0.0, noise=0.5),
  "examples above all": World((0.02, 0.02, 0.02), own=1.0, noise=0.2),
  "each seed's own examples above all": World(
    (0.02, 0.02, 0.02), own=0.0, noise=1.5
  ),
}
# For the program alone. Where a share is given in some cases only, those are
# the ones with a gap that came out wide; and where accuracies pile up at 100,
# seeds are not normal.
MORE_WORLDS = {
  "seeds alone": World((0.3, 0.3, 0.3), own=0.0, noise=0.0, examples=1000),
  "a faint gap": World((0.2, 0.2, 0.2), means=(0.0, 0.2, 0.4)),
  "seeds far apart, near 100 %": World(
    (0.4, 0.4, 0.4), ease=0.3, own=0.0, noise=0.3
  ),
}


def _samples(right: np.ndarray) -> list[intervals.Sample]:
  """One a model, with the influences that `jackknife` finds (its test)."""
  values = 100.0 * right.mean(axis=-1)
  count = right.shape[-1]
  scale = np.sqrt(count * (count - 1))
  influences = (100.0 * right - values[..., None]) / scale
  return [
    intervals.Sample(v, i) for v, i in zip(values, influences, strict=True)
  ]


def _holds(interval: intervals.Interval, truth: float) -> np.ndarray:
  return (interval.low <= truth) & (truth <= interval.high)


def coverage(
  world: World, seeds: int, repetitions: int, seed: int = 0
) -> dict[str, float]:
  """How often the intervals hold the truth.

  Args:
    world: what is drawn from.
    seeds: of each model.
    repetitions: how many worlds.
    seed: of the random numbers.

  Returns:
    `difference`, `gap`, `share` (where it is given), `shares` (how often it is)
  """
  base, model, single = world.truth()
  rng = np.random.default_rng(seed)
  held = {"difference": [], "gap": [], "share": []}
  for part in np.array_split(np.arange(repetitions), -(-repetitions // 100)):
    vanilla, ours, best = _samples(world.draw(rng, len(part), seeds))
    gap = intervals.of_mean(best - vanilla)
    held["difference"] += list(
      _holds(intervals.of_mean(ours - vanilla), model - base)
    )
    held["gap"] += list(_holds(gap, single - base))
    share = intervals.of_ratio(ours - vanilla, best - vanilla)
    held["share"] += list(
      _holds(share, (model - base) / (single - base))[gap.low > 0]
    )
  found = {name: float(np.mean(x)) for name, x in held.items()}
  return {**found, "shares": len(held["share"]) / repetitions}


def bootstrap_coverage(
  world: World, seeds: int, repetitions: int, draws: int = 500
) -> dict[str, float]:
  """The same of percentiles over draws of seeds and of examples."""
  base, model, single = world.truth()
  rng = np.random.default_rng(0)
  held = {"difference": [], "gap": [], "share": []}
  count = world.examples
  for _ in range(repetitions):
    right = world.draw(rng, 1, seeds)[:, 0]  # [models, seeds, examples]
    examples = rng.multinomial(count, np.full(count, 1 / count), draws).T * 1.0
    by_seed = (right * 100.0 / count) @ examples  # [models, seeds, draws]
    chosen = rng.integers(0, seeds, [seeds, draws])
    drawn = by_seed[:, chosen, np.arange(draws)].mean(axis=1)

    def holds(x, truth):
      low, high = np.percentile(x, [2.5, 97.5])
      return low <= truth <= high, low

    minus, gap = drawn[1] - drawn[0], drawn[2] - drawn[0]
    held["difference"].append(holds(minus, model - base)[0])
    held_gap, low = holds(gap, single - base)
    held["gap"].append(held_gap)
    if low > 0 and gap.all():
      share = (model - base) / (single - base)
      held["share"].append(holds(minus / gap, share)[0])
  found = {name: float(np.mean(x)) for name, x in held.items()}
  return {**found, "shares": len(held["share"]) / repetitions}


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover(name, seeds):
  repetitions = 500
  found = coverage(WORLDS[name], seeds, repetitions)
  for what in ("difference", "gap", "share"):
    count = repetitions * (found["shares"] if what == "share" else 1)
    # Three standard errors: below 95 %, and so far above that it is no more
    # than what a bound on two kinds of noise gives away.
    error = np.sqrt(0.95 * 0.05 / count)
    assert 0.95 - 3 * error <= found[what] <= 0.97 + 3 * error, (what, found)


def test_the_simulation_sees_an_interval_that_is_too_narrow():
  found = bootstrap_coverage(WORLDS["seeds above all"], 3, 200, draws=200)
  assert found["difference"] < 0.85 and found["gap"] < 0.85


def _sample(values, influences=((0.0,), (0.0,), (0.0,))):
  return intervals.Sample(np.array(values), np.array(influences))


def test_seeds_alone_give_student_s_interval():
  values = [1.0, 2.0, 6.0]
  found = intervals.of_mean(_sample(values))
  low, high = stats.t.interval(0.95, 2, 3.0, stats.sem(values))
  assert (found.value, found.low, found.high) == pytest.approx((3, low, high))


def test_examples_alone_give_the_normal_interval():
  """Seeds that answer alike: the examples' noise does not average out."""
  right = np.array([1.0] * 60 + [0.0] * 40)
  (sample,) = _samples(np.stack([right] * 3)[None] > 0)
  found = intervals.of_mean(sample)
  error = 100 * right.std(ddof=1) / 10
  assert found.value == pytest.approx(60)
  assert found.high - found.value == pytest.approx(1.959964 * error)


def test_a_seed_s_own_noise_counts_once():
  """Two seeds without a common example: their covariance is zero or less."""
  influences = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
  values = [1.0, 2.0, 6.0]
  assert intervals.of_mean(_sample(values, influences)) == intervals.of_mean(
    _sample(values)
  )


def test_a_share_is_fieller_s():
  """The ends of a share are where the mean of x - θ y is just not apart."""
  rng = np.random.default_rng(0)
  common = rng.normal(0, 0.1, [1, 40])
  x = _sample([3.0, 5.0, 4.5], common + rng.normal(0, 0.02, [3, 40]))
  y = _sample([7.0, 9.0, 8.5], common + rng.normal(0, 0.02, [3, 40]))
  share = intervals.of_ratio(x, y)
  assert share.value == pytest.approx(12.5 / 24.5)
  for end in (share.low, share.high):
    rest = intervals.of_mean(
      intervals.Sample(
        x.values - end * y.values, x.influences - end * y.influences
      )
    )
    assert min(abs(rest.low), abs(rest.high)) == pytest.approx(0, abs=1e-9)
  all_of_it = intervals.of_ratio(y, y)
  assert (all_of_it.low, all_of_it.high) == pytest.approx((1, 1))
  around_zero = _sample([-1.0, 1.0, 2.0])
  assert np.isnan(intervals.of_ratio(x, around_zero).low)


def test_one_seed_has_no_interval():
  found = intervals.of_mean(_sample([3.0], [[1.0, -1.0]]))
  assert found.value == 3 and np.isnan(found.low) and np.isnan(found.high)
  assert found.to_text() == "3.00"


def main():
  """Prints the table."""
  columns = ("difference", "gap", "share", "shares")
  print("| world | seeds | method | " + " | ".join(columns) + " |")
  print("| --- | --- | --- |" + " ---: |" * len(columns))
  for name, world in {**WORLDS, **MORE_WORLDS}.items():
    for seeds in (3, 5, 10):
      for method, found in (
        ("now", coverage(world, seeds, 4_000, seed=1)),
        ("percentile bootstrap", bootstrap_coverage(world, seeds, 1_000)),
      ):
        cells = " | ".join(f"{found[c]:.1%}" for c in columns)
        print(f"| {name} | {seeds} | {method} | {cells} |", flush=True)


if __name__ == "__main__":
  main()
