"""Differences of made-up results whose numbers are known."""

import numpy as np
import pytest
from scipy import stats

from tests.tools.experiments import made_up
from tools.experiments import statistics

NAN = float("nan")


def _differences(found, checkpoint="last"):
  frame = statistics.scores(found, checkpoint)
  records = statistics.differences(frame, "vanilla", "single")
  return {r["cell"]: r for r in records}


def test_differences_have_intervals_over_seeds():
  found = _differences(made_up.results())
  assert list(found) == ["L2", "single"]
  assert found["L2"]["seeds"] == 2
  # The differences of the seeds are 35 and 25, so the standard error is 5; t of
  # one degree of freedom is 12.706.
  interval = found["L2"]["difference"]
  assert interval.value == pytest.approx(30)
  assert interval.high - 30 == pytest.approx(12.7062 * 5, rel=1e-5)
  assert 30 - interval.low == pytest.approx(12.7062 * 5, rel=1e-5)
  assert interval.to_text() == "30.00 [-33.53, 93.53]"
  assert found["single"]["difference"].value == pytest.approx(52.5)
  # 55 and 50 of single, so the gap is clear.
  share = found["L2"]["share"]
  assert share.value == pytest.approx(30 / 52.5)
  assert "share" not in found["single"]


def test_the_ends_of_a_share_are_fiellers():
  """At an end the interval of x - s y just holds 0."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(2, 1, 7), rng.normal(5, 1, 7)
  found = statistics.of_ratio(x, y)
  assert found.low < found.value < found.high
  for end, side in ((found.low, "low"), (found.high, "high")):
    p = stats.ttest_1samp(x - end * y, 0).pvalue
    assert p == pytest.approx(1 - statistics.LEVEL), side
  assert found.to_text(".0%").count("%") == 3


def test_no_gap_no_share():
  found = made_up.results()
  for result in found:
    if result["cell"] == "single":
      for metrics in result["metrics"].values():
        metrics[made_up.METRIC]["20"] = 30.0
  assert not any("share" in r for r in _differences(found).values())


def test_a_nan_is_a_value():
  found = made_up.results()
  found[0]["metrics"][made_up.COPY][made_up.METRIC]["20"] = NAN
  frame = statistics.scores(found, "last")
  by_cell = statistics.averages(frame)["of the tasks"]
  assert np.isnan(by_cell["vanilla"][0]) and by_cell["vanilla"][1] == 45
  records = _differences(found)
  assert {r["seeds"] for r in records.values()} == {2}
  assert {r["difference"].to_text() for r in records.values()} == {"nan"}
  assert not any("share" in r for r in records.values())
  # The best checkpoint is another one, which has a number.
  best = _differences(found, "best")["L2"]
  assert best["difference"].value == pytest.approx(70 - 42.5)


def test_only_common_seeds_are_compared():
  found = made_up.results()
  # Single models of other seeds take no row away.
  others = [
    {**r, "seed": r["seed"] + 5 * (r["cell"] == "single")} for r in found
  ]
  records = _differences(others)
  assert list(records) == ["L2"] and records["L2"]["seeds"] == 2
  # The second seed's single tasks are not all there yet.
  records = _differences(found[:-1])
  assert {c: r["seeds"] for c, r in records.items()} == {"L2": 1, "single": 1}
  assert records["L2"]["difference"].to_text() == "35.00"
