"""Differences of made-up results whose numbers are known."""

import numpy as np
import pytest

from tests.tools.experiments import made_up
from tools.experiments import load, statistics


def test_differences_have_intervals(folder):
  found, _ = load.load(folder(made_up.results()))
  records = statistics.differences(
    load.by_model(found), "last", "vanilla", "single"
  )
  by_cell = {r["cell"]: r for r in records}
  assert by_cell["L2"]["difference"].value == pytest.approx(30)
  assert by_cell["single"]["difference"].value == pytest.approx(52.5)
  assert by_cell["L2"]["share"].value == pytest.approx(30 / 52.5)
  assert "share" not in by_cell["single"]
  assert records[0]["seeds"] == 2
  # The differences of the seeds are 35 and 25, so the standard error is 5; t of
  # one degree of freedom is 12.706. The examples that both seeds share: L2 is
  # right where vanilla is wrong on those from 0.4 and 0.6 (copy), 0.3 (sort).
  copies = np.zeros([2, 200])
  copies[0, 80:160] = copies[1, 120:160] = 100
  sorts = np.zeros([2, 200])
  sorts[:, 60:120] = 100
  shared = (np.cov(copies)[0, 1] + np.cov(sorts)[0, 1]) / 200 / 4
  width = np.sqrt((12.7062 * 5) ** 2 + 1.959964**2 * shared)
  found = by_cell["L2"]["difference"]
  assert found.high - 30 == pytest.approx(width, rel=1e-5)
  assert 30 - found.low == pytest.approx(width, rel=1e-5)


def _kept_as(result, task, packed, score):
  result["metrics"][task]["sequence_accuracy"]["20"] = score
  result["predictions"][task]["20"] = packed


def _copy_alone():
  found = [r for r in made_up.results() if r["cell"] != "single"]
  for result in found:
    for key in ("metrics", "predictions", "data"):
      del result[key][made_up.SORT]
  return found


def test_answers_that_are_all_wrong_fit_the_groups_of_others(folder):
  """As earlier files have ReCoRD: of 0 by lines, else by queries."""
  found = _copy_alone()
  rng = np.random.default_rng(0)
  rows = 100.0 * (rng.random([2, 50]) < 0.5)
  for result in found:
    row = rows[result["seed"]]
    if result["cell"] == "L2":
      packed = {"scores": {"sequence_accuracy": row.tolist()}}
      _kept_as(result, made_up.COPY, packed, row.mean())
    else:
      _kept_as(result, made_up.COPY, {"correct": "0" * 120}, 0.0)
  models = load.by_model(load.load(folder(found))[0])
  assert not statistics.not_drawn(models, "last")
  (record,) = statistics.differences(models, "last", "vanilla", "single")
  means = rows.mean(axis=1)
  shared = max(np.cov(rows)[0, 1] / 50, 0)
  width = np.sqrt(12.7062**2 * means.var(ddof=1) / 2 + 1.959964**2 * shared)
  assert record["difference"].value == pytest.approx(means.mean())
  assert record["difference"].high - means.mean() == pytest.approx(width)


def test_answers_in_other_units_are_said_and_not_drawn(folder):
  found = _copy_alone()
  for result in found:
    if result["cell"] == "L2":
      packed = {"scores": {"sequence_accuracy": [100.0, 0.0] * 25}}
      _kept_as(result, made_up.COPY, packed, 50.0)
  models = load.by_model(load.load(folder(found))[0])
  assert statistics.not_drawn(models, "last") == {
    made_up.COPY: "models' answers were kept in different units (50 and 200)"
  }
  (record,) = statistics.differences(models, "last", "vanilla", "single")
  # Seeds alone: 50 minus 40 and 60.
  assert record["difference"].value == pytest.approx(0)
  assert record["difference"].high == pytest.approx(12.7062 * 10, rel=1e-5)


def test_what_one_model_did_not_keep_is_drawn_for_none(folder):
  found = made_up.results()
  for result in found:
    if result["cell"] == "L2":
      result["predictions"][made_up.SORT] = {}
  models = load.by_model(load.load(folder(found))[0])
  records = statistics.differences(models, "last", "vanilla", "single")
  copies = np.zeros([2, 200])
  copies[0, 80:180] = copies[1, 120:180] = 100  # single minus vanilla
  shared = np.cov(copies)[0, 1] / 200 / 4
  width = np.sqrt((12.7062 * 2.5) ** 2 + 1.959964**2 * shared)
  found = {r["cell"]: r["difference"] for r in records}["single"]
  assert found.high - 52.5 == pytest.approx(width, rel=1e-5)


@pytest.mark.parametrize("nan", [float("nan"), "nan"])
def test_a_nan_is_a_value(folder, nan):
  """In earlier files the word NaN, now the text "nan"."""
  found = made_up.results()
  found[0]["metrics"][made_up.COPY]["sequence_accuracy"].update({"20": nan})
  models = load.by_model(load.load(folder(found))[0])
  table = statistics.with_averages(statistics.all_scores(models, "last"))
  average = "average", "of the tasks"
  assert np.isnan(table["vanilla"][0][made_up.COPY, "sequence_accuracy"])
  assert np.isnan(table["vanilla"][0][average])
  assert table["vanilla"][1][average] == pytest.approx(45)
  records = statistics.differences(models, "last", "vanilla", "single")
  assert [r["cell"] for r in records] == ["L2", "single"]
  assert {r["seeds"] for r in records} == {2}
  assert {r["difference"].to_text() for r in records} == {"nan"}
  assert not any("share" in r for r in records)
  # The best checkpoint is another one, which has a number.
  best = statistics.differences(models, "best", "vanilla", "single")
  assert best[0]["difference"].value == pytest.approx(70 - 42.5)


def test_single_models_of_other_seeds_take_no_row_away(folder):
  found = made_up.results()
  for result in found:
    if result["cell"] == "single":
      result["seed"] += 5
  models = load.by_model(load.load(folder(found))[0])
  (record,) = statistics.differences(models, "last", "vanilla", "single")
  assert record["cell"] == "L2" and record["seeds"] == 2
  assert record["difference"].value == pytest.approx(30)


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
    load.by_model(found), "last", "vanilla", "single"
  )
  assert all("share" not in r for r in records)


def test_seeds_that_are_not_finished_are_left_out(folder):
  """The second seed's single tasks are not all there yet."""
  found = [
    r for r in made_up.results() if (r["name"], r["seed"]) != ("single/sort", 1)
  ]
  models = load.by_model(load.load(folder(found))[0])
  records = statistics.differences(models, "last", "vanilla", "single")
  assert {r["cell"]: r["seeds"] for r in records} == {"L2": 1, "single": 1}
