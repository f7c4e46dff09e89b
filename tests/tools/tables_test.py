"""Tables from made-up results whose numbers are known."""

import copy
import json
import pathlib

import numpy as np
import pytest

from hypergrid_mtf import errors
from tests import command
from tools import results, tables
from tools.experiments import bootstrap, protocol

ROOT = pathlib.Path(__file__).parents[2]
COPY, SORT = "embedded_copy_v1", "embedded_sort_v1"


def _bits(share, n=200):
  return "".join("1" if i < share * n else "0" for i in range(n))


def _result(cell, seed, scores, steps=(10, 20), **changes):
  """A result whose tasks are right on a share of their examples.

  Args:
    cell: of the table.
    seed: of the run.
    scores: {task: share at each step}.
    steps: of the checkpoints.
    **changes: of what the result says.

  Returns:
    a dictionary as results.collect makes it
  """
  return {
    **dict(
      schema=results.SCHEMA,
      cell=cell,
      seed=seed,
      name=cell,
      config={"d_model": "64"},
      config_hash="c",
      protocol={"run.dataset_split": "validation"},
      data={t: dict(examples=200, hash="h") for t in scores},
      steps=steps[-1],
      training_seconds=60.0,
      parameters=dict(total=1000, beside_embedding=900),
      metrics={
        t: {
          "sequence_accuracy": {
            str(s): 100 * v for s, v in zip(steps, by, strict=False)
          }
        }
        for t, by in scores.items()
      },
      predictions={
        t: {
          str(s): {"correct": _bits(v)} for s, v in zip(steps, by, strict=True)
        }
        for t, by in scores.items()
      },
      hardware=dict(cpu="x", cores=2),
      versions=dict(python="3"),
    ),
    **changes,
  }


def made_up_results():
  return [
    _result("vanilla", 0, {COPY: (0.5, 0.4), SORT: (0.2, 0.3)}),
    _result("vanilla", 1, {COPY: (0.5, 0.6), SORT: (0.3, 0.3)}),
    _result("L2", 0, {COPY: (0.7, 0.8), SORT: (0.5, 0.6)}),
    _result("L2", 1, {COPY: (0.8, 0.8), SORT: (0.4, 0.6)}),
    _result("single", 0, {COPY: (0.9, 0.9)}, name="single/copy"),
    _result("single", 0, {SORT: (0.8, 0.9)}, name="single/sort"),
    _result("single", 1, {COPY: (1.0, 0.9)}, name="single/copy"),
    _result("single", 1, {SORT: (0.9, 1.0)}, name="single/sort"),
  ]


@pytest.fixture
def folder(tmp_path):
  def write(found):
    for i, result in enumerate(found):
      (tmp_path / f"{i}.json").write_text(json.dumps(result))
    return str(tmp_path)

  return write


def test_best_and_last_checkpoints(folder):
  found, skipped = tables.load(folder(made_up_results()))
  assert not skipped
  models = tables.by_model(found)
  best = tables.scores_table(models, "best").set_index("task")
  last = tables.scores_table(models, "last").set_index("task")
  assert best.loc[COPY, "vanilla"] == "55.00 ± 7.07 (2)"
  assert last.loc[COPY, "vanilla"] == "50.00 ± 14.14 (2)"
  assert best.loc["average", "single"] == "95.00 ± 7.07 (2)"
  assert last.loc["average", "L2"] == "70.00 ± 0.00 (2)"
  assert last.loc["training steps", "single"] == "2 × 20"
  cost = tables.cost_table(models, "vanilla").set_index("model")
  assert cost.loc["single", "parameters"] == "2,000"
  assert cost.loc["single", "of vanilla's"] == "2.000"
  assert cost.loc["L2", "minutes of training"] == "1.0"
  assert cost.loc["single", "steps a second"] == "0.33"


def test_what_is_missing_looks_missing(folder):
  without = [r for r in made_up_results() if r["name"] != "single/sort"]
  found, _ = tables.load(folder(without))
  table = tables.scores_table(tables.by_model(found), "last").set_index("task")
  assert table.loc[SORT, "single"] == tables.MISSING
  assert table.loc["average", "single"] == tables.MISSING
  assert table.loc["average", "vanilla"] != tables.MISSING
  published = tables.published_table(tables.by_model(found), "last")
  assert set(published["ours"]) == {tables.MISSING}
  assert set(published["difference"]) == {tables.MISSING}
  assert list(published["published"]) == ["85.7", "74.8", "85.0", "73.6"]


def test_differences_have_intervals(folder):
  found, _ = tables.load(folder(made_up_results()))
  records = tables.differences(
    tables.by_model(found), "last", "vanilla", "single", draws=300
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
  found = made_up_results()
  for result in found:
    if result["cell"] == "single":
      for metrics in result["metrics"].values():
        metrics["sequence_accuracy"]["20"] = 30.0
      for steps in result["predictions"].values():
        steps["20"] = {"correct": _bits(0.3)}
  found, _ = tables.load(folder(found))
  records = tables.differences(
    tables.by_model(found), "last", "vanilla", "single", draws=50
  )
  assert all("share" not in r for r in records)


def test_an_interval_covers_as_often_as_it_says():
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(200):
    bits = (rng.random(100) < 0.6).astype(float)
    draws = bits[rng.integers(0, 100, [300, 100])].mean(axis=1)
    found = bootstrap.interval(bits.mean(), draws)
    covered += found.low <= 0.6 <= found.high
  assert 180 <= covered <= 199


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (dict(protocol={"run.dataset_split": "test"}), "different protocols"),
    (dict(data={COPY: dict(examples=200, hash="i")}), "different data of"),
    (dict(seed=0), "are both seed 0 of vanilla"),
    (dict(config_hash="d"), "seeds of vanilla have different configurations"),
  ],
)
def test_what_does_not_belong_together_is_refused(folder, change, sentence):
  found = copy.deepcopy(made_up_results())
  found[1].update(change)
  with pytest.raises(errors.UserError, match=sentence):
    tables.load(folder(found))


def test_a_damaged_file_is_named_and_skipped(folder, tmp_path):
  path = folder(made_up_results())
  text = (tmp_path / "3.json").read_text()
  (tmp_path / "3.json").write_text(text[: len(text) // 2])
  (tmp_path / "8.json").write_text("{}")
  found, skipped = tables.load(path)
  assert len(found) == 7
  assert "3.json is damaged" in skipped[0] and "8.json is no" in skipped[1]
  table = tables.scores_table(tables.by_model(found), "last").set_index("task")
  assert table.loc[COPY, "L2"] == "80.00 (1)"  # not averaged with a zero
  for name in tmp_path.glob("*.json"):
    name.unlink()
  with pytest.raises(errors.UserError, match="holds no results"):
    tables.load(path)


def test_three_formats(folder, tmp_path):
  found, _ = tables.load(folder(made_up_results()))
  frame = tables.scores_table(tables.by_model(found), "best")
  paths = tables.write(frame, str(tmp_path / "scores"))
  markdown, csv, latex = (pathlib.Path(p).read_text() for p in paths)
  assert "| average" in markdown and "± 7.07" in markdown
  assert csv.splitlines()[0].startswith("task,metric,vanilla")
  assert r"embedded\_copy\_v1" in latex and r"\begin{tabular}" in latex


def test_seeds_that_are_not_finished_are_left_out(folder):
  """The second seed's single tasks are not all there yet."""
  found = [
    r for r in made_up_results() if (r["name"], r["seed"]) != ("single/sort", 1)
  ]
  models = tables.by_model(tables.load(folder(found))[0])
  records = tables.differences(models, "last", "vanilla", "single", 50)
  assert {r["cell"]: r["seeds"] for r in records} == {"L2": 1, "single": 1}


def test_what_a_reader_should_know_is_said(folder):
  found = made_up_results()
  layers = "encoder/make_layer_stack.layers"
  for result in found:
    result["config"].update({layers: "[@DenseReluDense]", "d_ff": "256"})
    if result["cell"] == "L2":
      result["config"] = {
        "d_model": "64",
        "d_ff": "512",
        layers: "[@HyperGrid]",
        "encoder/HyperGrid.variant": "'L2'",
      }
    if result["cell"] == "single":
      result["config"]["MIXTURE_NAME"] = "'one'"
      result["predictions"][SORT] = {}
  found, _ = tables.load(folder(found))
  made = tables.tables(found, "vanilla", "single", draws=10)
  size, *drawn = tables.notes(found, made, "vanilla")
  assert size == (
    "L2 differs from vanilla in more than gates and tasks: d_ff is 512, not "
    "256."
  )
  assert [s.split(":")[0] for s in drawn] == [
    f"differences_{c}" for c in protocol.CHECKPOINTS
  ]
  assert all(SORT in s and COPY not in s for s in drawn)
  assert tables.notes(found, made, "absent") == drawn


def test_a_document_gets_its_tables(folder):
  found, _ = tables.load(folder(made_up_results()))
  made = tables.tables(found, "vanilla", "single", draws=0)
  places = "a\n<!-- x/y: cost -->\nold\n<!-- end -->\nb\n<!-- z: cost -->\n"
  text = tables.update(places, "x/y/", made)
  assert "old" not in text and text.startswith("a\n<!-- x/y: cost -->\n")
  assert tables.to_markdown(made["cost"]) in text
  assert text.endswith("<!-- end -->\nb\n<!-- z: cost -->\n")
  assert tables.update(text, "x/y", made) == text
  with pytest.raises(errors.UserError, match="no place"):
    tables.update(places, "w", made)
  with pytest.raises(errors.UserError, match="differences_last"):
    tables.update("<!-- w: differences_last --><!-- end -->", "w", made)


def test_what_is_wrong_is_said_before_the_bootstrap(folder, tmp_path):
  results_path = f"--results={folder(made_up_results())}"
  document = tmp_path / "x.md"
  document.write_text("no place")
  for done, said in (
    (command.tool("tables", f"--update={document}", results_path), "no place"),
    (command.tool("report", "--gates=L2=x.npz", results_path), "L2=x.npz"),
  ):
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "bootstrap" not in done.stderr


def test_the_readme_has_the_tables_of_the_results():
  """Whole scores; differences, which take a bootstrap, are there."""
  text = (ROOT / "README.md").read_text()
  folders = sorted((ROOT / "results").iterdir())
  assert folders
  for folder in folders:
    found, skipped = tables.load(str(folder))
    assert not skipped
    name = f"results/{folder.name}"
    made = tables.tables(found, "vanilla", "single", draws=0)
    place = f"<!-- {name}: scores_last -->\n\n"
    assert place + tables.to_markdown(made["scores_last"]) in text
    assert f"<!-- {name}: differences_last -->\n\n| average" in text
