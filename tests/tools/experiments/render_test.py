"""Tables from made-up results whose numbers are known."""

import pathlib

from tests.tools.experiments import made_up
from tools.experiments import load, render


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


def test_three_formats(folder, tmp_path):
  found, _ = load.load(folder(made_up.results()))
  frame = render.scores_table(load.by_model(found), "best")
  paths = render.write(frame, str(tmp_path / "scores"))
  markdown, csv, latex = (pathlib.Path(p).read_text() for p in paths)
  assert "| average" in markdown and "± 7.07" in markdown
  assert csv.splitlines()[0].startswith("task,metric,vanilla")
  assert r"embedded\_copy\_v1" in latex and r"\begin{tabular}" in latex
