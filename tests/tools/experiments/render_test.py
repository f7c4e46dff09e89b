"""Tables from made-up results whose numbers are known."""

import csv
import pathlib

from tests.tools.experiments import made_up
from tools.experiments import load, protocol, render


def test_best_and_last_checkpoints(folder):
  found, skipped = load.load(folder(made_up.results()))
  assert not skipped
  models = load.by_model(found)
  best = render.scores_table(models, "best").set_index("task")
  last = render.scores_table(models, "last").set_index("task")
  assert best.loc[made_up.COPY, "vanilla"] == "55.00 ± 7.07 (2)"
  assert last.loc[made_up.COPY, "vanilla"] == "50.00 ± 14.14 (2)"
  assert best.loc["average", "single"] == "95.00 ± 7.07 (2)"
  assert last.loc["average", "L2"] == "70.00 ± 0.00 (2)"
  assert last.loc["training steps", "single"] == "2 × 20"
  cost = render.cost_table(models, "vanilla").set_index("model")
  assert cost.loc["single", "parameters"] == "2,000"
  assert cost.loc["single", "of vanilla's"] == "2.000"
  assert cost.loc["L2", "minutes of training"] == "1.0"
  assert cost.loc["single", "steps a second"] == "0.33"


def test_what_is_missing_looks_missing(folder):
  without = [r for r in made_up.results() if r["name"] != "single/sort"]
  found, _ = load.load(folder(without))
  table = render.scores_table(load.by_model(found), "last").set_index("task")
  assert table.loc[made_up.SORT, "single"] == render.MISSING
  assert table.loc["average", "single"] == render.MISSING
  assert table.loc["average", "vanilla"] != render.MISSING
  published = render.published_table(load.by_model(found), "last")
  assert set(published["ours"]) == {render.MISSING}
  assert set(published["difference"]) == {render.MISSING}
  assert list(published["published"]) == ["85.7", "74.8", "85.0", "73.6"]


def _cells(path):
  """The cells of a table in one of the formats, a list a line."""
  text = pathlib.Path(path).read_text()
  if path.endswith(".csv"):
    return list(csv.reader(text.splitlines()))
  rows = []
  for line in text.splitlines():
    if path.endswith(".md") and not line.startswith("|:"):
      rows.append([c.strip() for c in line.strip("|").split("|")])
    if path.endswith(".tex") and line.endswith(r"\\"):
      cells = line.removesuffix(r"\\").replace("\\_", "_").replace("\\%", "%")
      rows.append([c.strip() for c in cells.split("&")])
  return rows


def test_formats_agree(folder, tmp_path):
  found = made_up.results()
  found[0]["metrics"][made_up.COPY]["sequence_accuracy"]["20"] = "nan"
  found, _ = load.load(folder(found))
  made = render.tables(found, "vanilla", "single")
  for name, frame in made.items():
    markdown, *others = (
      _cells(p) for p in render.write(frame, str(tmp_path / name))
    )
    assert len(markdown) == len(frame) + 1
    assert markdown[1:] == frame.values.tolist()
    for other in others:
      assert other == markdown


def test_a_nan_is_seen(folder):
  found = made_up.results()
  found[0]["metrics"][made_up.COPY]["sequence_accuracy"]["20"] = "nan"
  models = load.by_model(load.load(folder(found))[0])
  last = render.scores_table(models, "last").set_index("task")
  assert last.loc[made_up.COPY, "vanilla"] == "nan (2)"
  assert last.loc["average", "vanilla"] == "nan (2)"
  assert last.loc[made_up.SORT, "vanilla"] == "30.00 ± 0.00 (2)"
  best = render.scores_table(models, "best").set_index("task")
  assert best.loc[made_up.COPY, "vanilla"] == "55.00 ± 7.07 (2)"


def test_a_single_run_with_nan_keeps_its_row(folder):
  found = [made_up.result("vanilla", 0, {made_up.COPY: (0.5, 0.4)})]
  for step in ("10", "20"):
    found[0]["metrics"][made_up.COPY]["sequence_accuracy"][step] = "nan"
  models = load.by_model(load.load(folder(found))[0])
  for checkpoint in protocol.CHECKPOINTS:
    table = render.scores_table(models, checkpoint).set_index("task")
    assert table.loc[made_up.COPY, "vanilla"] == "nan (1)"


def test_cost_is_of_a_seed_that_has_all_models(folder):
  found = [
    r for r in made_up.results() if (r["name"], r["seed"]) != ("single/sort", 0)
  ]
  models = load.by_model(load.load(folder(found))[0])
  cost = render.cost_table(models, "vanilla").set_index("model")
  assert cost.loc["single", "parameters"] == "2,000"
