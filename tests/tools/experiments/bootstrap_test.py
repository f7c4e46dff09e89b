"""Whether intervals cover."""

import numpy as np

from tools.experiments import bootstrap


def test_an_interval_covers_as_often_as_it_says():
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(200):
    bits = (rng.random(100) < 0.6).astype(float)
    draws = bits[rng.integers(0, 100, [300, 100])].mean(axis=1)
    found = bootstrap.interval(bits.mean(), draws)
    covered += found.low <= 0.6 <= found.high
  assert 180 <= covered <= 199
