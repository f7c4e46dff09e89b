"""A document gets its tables."""

import pathlib

import pytest

from hypergrid_mtf import errors
from tests.tools.experiments import made_up
from tools.experiments import document, load, render, statistics

ROOT = pathlib.Path(__file__).parents[3]


def test_a_document_gets_its_tables(folder):
  found, _ = load.load(folder(made_up.results()))
  made = render.tables(found, "vanilla", "single", differences=False)
  places = "a\n<!-- x/y: cost -->\nold\n<!-- end -->\nb\n<!-- z: cost -->\n"
  text = document.update(places, "x/y/", made)
  assert "old" not in text and text.startswith("a\n<!-- x/y: cost -->\n")
  assert render.to_markdown(made["cost"]) in text
  assert text.endswith("<!-- end -->\nb\n<!-- z: cost -->\n")
  assert document.update(text, "x/y", made) == text
  with pytest.raises(errors.UserError, match="no place"):
    document.update(places, "w", made)
  with pytest.raises(errors.UserError, match="differences_last"):
    document.update("<!-- w: differences_last --><!-- end -->", "w", made)


def test_the_documents_have_the_tables_of_the_results():
  text = (ROOT / "docs" / "results.md").read_text()
  folders = sorted((ROOT / "results").iterdir())
  assert folders
  for folder in folders:
    found, skipped = load.load(str(folder))
    assert not skipped
    models = load.by_model(found)
    records = statistics.differences(models, "last", "vanilla", "single")
    for name, frame in (
      ("scores_last", render.scores_table(models, "last")),
      (
        "differences_last",
        render.differences_table(records, "vanilla", "single"),
      ),
    ):
      place = f"<!-- results/{folder.name}: {name} -->\n\n"
      assert place + render.to_markdown(frame) in text
