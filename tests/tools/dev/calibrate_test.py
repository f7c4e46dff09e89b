"""Calibration on shapes small enough that only its bookkeeping shows."""

import json
import math
import types

import pytest

from hypergrid_mtf import product
from tools.dev import calibrate


def _record(sizes, train, plain, nanoseconds):
  """A measurement in which every order costs exactly what a model says."""
  s = product.cost.Sizes(*sizes)
  again = plain / 3 if train else 0.0  # `rows` makes a third of it once more
  ms = {calibrate.NO_GATE: plain}
  for order, cost in nanoseconds.items():
    ms[order] = plain + 1e-6 * cost[train] * product.cost.elements(order, s)
  ms["rows"] += again
  return dict(shape="", sizes=vars(s), train=train, ms=ms)


def test_the_fit_finds_the_costs_that_made_the_times():
  truth = {"weights": (1.0, 4.0), "rows": (2.0, 5.0), "cols": (0.5, 3.0)}
  records = [
    _record(sizes, train, plain, truth)
    for sizes, plain in (((4, 8, 64, 32, 4, 2), 3.0), ((9, 1, 8, 8, 2, 8), 0.5))
    for train in (False, True)
  ]
  for order, costs in calibrate.fit(records).items():
    assert costs == pytest.approx(truth[order])


def test_measured_shapes_become_a_table():
  shapes = {
    "unpacked": (2, 8, 16, 8, 4, 2),
    "packed": (1 << 14, 1, 256, 128, 2, 2),
  }
  records = calibrate.measurements(shapes, runs=1)
  assert [(r["shape"], r["train"]) for r in records] == [
    (name, train) for name in shapes for train in (False, True)
  ]
  for r in records:
    times = dict(r["ms"])
    assert all(t > 0 for t in times.values())
    assert ("weights" in times) == (r["shape"] == "unpacked")
    del times[calibrate.NO_GATE]
    assert r["chosen"] in times
    best = min(times.values())
    assert math.isclose(times[r["chosen"]], best * (1 + r["regret"]))
  frame = calibrate.table(records)
  assert list(frame["weights"].iloc[2:]) == ["", ""]
  assert frame["chosen"].isin(product.cost.ORDERS).all()


def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
  output = tmp_path / "calibration.json"
  flags = types.SimpleNamespace(runs=1, output=str(output))
  monkeypatch.setattr(calibrate, "FLAGS", flags)
  monkeypatch.setattr(calibrate, "SHAPES", {"small": (2, 8, 16, 8, 4, 2)})
  # It is for the whole process; the other tests are in this one.
  monkeypatch.setattr(calibrate.tf, "disable_v2_behavior", lambda: None)
  calibrate.main(["calibrate"])
  printed = capsys.readouterr().out
  written = json.loads(output.read_text())
  assert len(written["records"]) == 2
  for order in product.cost.ORDERS:
    assert f"{order}: here {written['nanoseconds'][order][0]:.2f}" in printed
