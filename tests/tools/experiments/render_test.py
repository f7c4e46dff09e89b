"""Tables from made-up results whose numbers are known."""

import csv
import pathlib

import pytest

from hypergrid_mtf import errors
from tests.tools.experiments import made_up
from tools.experiments import protocol, render, result

NAN = float("nan")
ROOT = pathlib.Path(__file__).parents[3]


def _tables(found):
  found = result.in_order(found, "vanilla", "single")
  return render.tables(found, made_up.scores(found), "vanilla", "single")


def _column(table, cell):
  return dict(zip(table["task"], table[cell], strict=True))


def test_best_and_last_checkpoints_and_costs():
  made = _tables(made_up.results()[::-1])
  best, last = made["scores_best"], made["scores_last"]
  assert list(last.columns) == ["task", "metric", "vanilla", "L2", "single"]
  assert _column(best, "vanilla")[made_up.COPY] == "55.00 ± 7.07 (2)"
  assert _column(last, "vanilla")[made_up.COPY] == "50.00 ± 14.14 (2)"
  assert _column(best, "single")["average"] == "95.00 ± 7.07 (2)"
  assert _column(last, "L2")["average"] == "70.00 ± 0.00 (2)"
  assert _column(last, "single")["training steps"] == "2 × 20"
  side_by_side = made["averages"].set_index("model")
  for checkpoint, words in protocol.CHECKPOINTS.items():
    frame = made[f"scores_{checkpoint}"].set_index("task")
    for cell in ("vanilla", "L2", "single"):
      assert side_by_side.loc[cell, words] == frame.loc["average", cell]
  cost = made["cost"].set_index("model")
  assert cost.loc["single", "parameters"] == "2,000"
  assert cost.loc["single", "of vanilla's"] == "2.000"
  assert cost.loc["single", "trained"] == "2,000"
  assert cost.loc["L2", "minutes of training"] == "1.0"
  assert cost.loc["single", "steps per second"] == "0.33"


def test_what_is_missing_looks_missing():
  found = [r for r in made_up.results() if r["name"] != "single/sort"]
  column = _column(_tables(found)["scores_last"], "single")
  assert column[made_up.SORT] == column["average"] == render.MISSING
  glue = made_up.one("vanilla", 0, {"glue_rte_v002": (1.0, 2.0)})
  published = _tables([glue])["published_last"]
  assert set(published["ours"]) == {render.MISSING}
  assert set(published["difference"]) == {render.MISSING}
  assert list(published["published"]) == ["85.7", "74.8", "85.0", "73.6"]
  # Of a seed that has all models, although another lacks one.
  found = made_up.results()
  del found[5]
  cost = _tables(found)["cost"].set_index("model")
  assert cost.loc["single", "parameters"] == "2,000"
  found = [made_up.one("frozen", 0, {made_up.COPY: (1.0, 2.0)})]
  found[0]["parameters"]["trained"] = 24
  assert list(_tables(found)["cost"]["trained"]) == ["24"]


def _cells(path):
  """The cells of a table in one of the formats, a list a line."""
  text = path.read_text()
  if path.suffix == ".csv":
    return list(csv.reader(text.splitlines()))
  rows = []
  for line in text.splitlines():
    if path.suffix == ".md" and not line.startswith("|:"):
      rows.append([c.strip() for c in line.strip("|").split("|")])
    if path.suffix == ".tex" and line.endswith(r"\\"):
      cells = line.removesuffix(r"\\").replace("\\_", "_").replace("\\%", "%")
      rows.append([c.strip() for c in cells.split("&")])
  return rows


def test_a_nan_is_seen_in_all_formats(tmp_path):
  found = made_up.results()
  found[0]["metrics"][made_up.COPY][made_up.METRIC]["20"] = NAN
  made = _tables(found)
  last = _column(made["scores_last"], "vanilla")
  assert last[made_up.COPY] == last["average"] == "nan (2)"
  assert last[made_up.SORT] == "30.00 ± 0.00 (2)"
  best = _column(made["scores_best"], "vanilla")
  assert best[made_up.COPY] == "55.00 ± 7.07 (2)"
  for name, frame in made.items():
    render.write(frame, str(tmp_path / name))
    markdown, *others = (
      _cells(tmp_path / f"{name}.{kind}") for kind in ("md", "csv", "tex")
    )
    assert markdown[1:] == frame.values.tolist()
    assert all(other == markdown for other in others)
  # A single run with nan keeps its row.
  alone = made_up.one("vanilla", 0, {made_up.COPY: (NAN, NAN)})
  for checkpoint in protocol.CHECKPOINTS:
    table = _tables([alone])[f"scores_{checkpoint}"]
    assert _column(table, "vanilla")[made_up.COPY] == "nan (1)"


def test_a_document_gets_its_tables():
  made = _tables(made_up.results())
  text = "a\n<!-- x/y: cost -->\nold\n<!-- end -->\nb\n<!-- z: cost -->\n"
  new = render.update(text, "x/y/", made)
  assert "old" not in new and new.startswith("a\n<!-- x/y: cost -->\n")
  assert render.to_markdown(made["cost"]) in new
  assert new.endswith("<!-- end -->\nb\n<!-- z: cost -->\n")
  assert render.update(new, "x/y", made) == new
  with pytest.raises(errors.UserError, match="no place"):
    render.update(text, "w", made)
  with pytest.raises(errors.UserError, match="a place for w: published_last"):
    render.update("<!-- w: published_last --><!-- end -->", "w", made)


@pytest.mark.parametrize(
  "folder", sorted({p.parent for p in (ROOT / "results").glob("*/*.json")})
)
def test_the_documents_have_the_tables_of_the_results(folder):
  text = (ROOT / "docs" / "results.md").read_text()
  found, skipped = result.load(str(folder))
  assert not skipped
  made = _tables(found)
  assert render.update(text, f"results/{folder.name}", made) == text
  assert f"<!-- results/{folder.name}: differences_last -->" in text
