"""Differences of made-up results whose numbers are known."""

import pytest

from tests.tools.experiments import made_up
from tools.experiments import load, statistics


def test_differences_have_intervals(folder):
  found, _ = load.load(folder(made_up.results()))
  records = statistics.differences(
    load.by_model(found), "last", "vanilla", "single", draws=300
  )
  by_cell = {r["cell"]: r for r in records}
  assert by_cell["L2"]["difference"].value == pytest.approx(30)
  assert by_cell["single"]["difference"].value == pytest.approx(52.5)
  assert by_cell["L2"]["share"].value == pytest.approx(30 / 52.5)
  assert "share" not in by_cell["single"]
  low, high = (getattr(by_cell["L2"]["difference"], k) for k in ("low", "high"))
  assert 15 < low < 30 < high < 45
  assert records[0]["seeds"] == 2


def test_no_gap_no_share(folder):
  found = made_up.results()
  for result in found:
    if result["cell"] == "single":
      for metrics in result["metrics"].values():
        metrics["sequence_accuracy"]["20"] = 30.0
      for steps in result["predictions"].values():
        steps["20"] = {"correct": made_up.bits(0.3)}
  found, _ = load.load(folder(found))
  records = statistics.differences(
    load.by_model(found), "last", "vanilla", "single", draws=50
  )
  assert all("share" not in r for r in records)


def test_seeds_that_are_not_finished_are_left_out(folder):
  """The second seed's single tasks are not all there yet."""
  found = [
    r for r in made_up.results() if (r["name"], r["seed"]) != ("single/sort", 1)
  ]
  models = load.by_model(load.load(folder(found))[0])
  records = statistics.differences(models, "last", "vanilla", "single", 50)
  assert {r["cell"]: r["seeds"] for r in records} == {"L2": 1, "single": 1}
