"""The report, from invented results with known numbers."""

import base64
import html.parser
import json
import re

import numpy as np
import pytest

from hypergrid_mtf import errors, gate_figures
from tests import program
from tests.tools.experiments import made_up
from tools import report
from tools.experiments import protocol, render

TASKS = (made_up.COPY, made_up.SORT)


class _Page(html.parser.HTMLParser):
  """Cells of tables, sources of pictures, headings; all tags closed."""

  def __init__(self, text):
    super().__init__()
    self.cells, self.sources, self.headings, self._open = [], [], [], []
    self.feed(text)
    assert not self._open

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    for name in ("src", "href"):
      if name in attrs:
        self.sources.append(attrs[name])
    if tag not in ("meta", "img", "br"):
      self._open.append(tag)
    if tag in ("td", "th"):
      self.cells.append("")

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open[-1:] in (["td"], ["th"]):
      self.cells[-1] += data.strip()
    if self._open[-1:] == ["h2"]:
      self.headings.append(data)


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
  rng = np.random.default_rng(0)
  path = tmp_path_factory.mktemp("gates") / "gates.npz"
  layers = ("encoder/block_000", "decoder/block_000")
  arrays = {f"{t}/{n}": rng.random((4, 4)) for t in TASKS for n in layers}
  np.savez(path, **arrays)
  return str(path)


@pytest.fixture(scope="module")
def text(gates, tmp_path_factory):
  found = made_up.results()
  found[0]["losses"] = {"1": 9.0, "20": float("nan")}
  made = render.tables(found, made_up.scores(found), "vanilla", "single")
  return report.page(
    found, made, report.gate_pictures("L2", gates), "A <title>", ["A note."]
  )


def test_what_is_on_the_page(text):
  page = _Page(text)
  assert {"Scores", "Differences", "Metrics against steps", "Gates"} <= set(
    page.headings
  )
  # vanilla 0.4 and 0.6, L2 0.8 twice, at the last checkpoint.
  assert "50.00 ± 14.14 (2)" in page.cells
  assert "80.00 ± 0.00 (2)" in page.cells
  found = made_up.results()
  made = render.tables(found, made_up.scores(found), "vanilla", "single")
  for frame in made.values():
    for row in frame.values.tolist():
      at = page.cells.index(row[0])
      while page.cells[at : at + len(row)] != row:
        at = page.cells.index(row[0], at + 1)
  assert "A &lt;title&gt;" in text
  # What it says in words comes before any table, the loss before all curves.
  assert text.index("<p>A note.</p>") < text.index("<table>")
  captions = re.findall("<figcaption>(.*?)</figcaption>", text)
  assert captions[0] == "training loss" and len(captions) == 5


def test_equal_tables_stand_once():
  """One checkpoint is all three choices."""
  found = [
    made_up.one(c, 0, {made_up.COPY: (v,)}, steps=(10,))
    for c, v in (("vanilla", 40.0), ("L2", 50.0))
  ]
  made = render.tables(found, made_up.scores(found), "vanilla", "single")
  text = report.page(found, made, [], "Title", [])
  assert text.count('<td class="name">embedded_copy_v1</td>') == 1
  every = "; ".join(protocol.CHECKPOINTS.values())
  assert text.count(f"<h3>Checkpoint: {every}</h3>") == 2


def test_axes_of_what_does_not_change(monkeypatch):
  """They show whole numbers and no offset; steps are whole."""
  figures = []
  monkeypatch.setattr(report, "_image", lambda f, _: figures.append(f) or "")
  for scores in ((50.0001, 50.0002), (50.0,)):
    found = made_up.one("L2", 0, {made_up.COPY: scores}, (1, 2)[: len(scores)])
    report.curves([found])
  for axis in (figure.axes[0] for figure in figures):
    low, high = axis.get_ylim()
    assert low < 49.1 and high > 50.9
    assert not axis.yaxis.get_major_formatter().get_useOffset()
    assert all(float(t).is_integer() for t in axis.get_xticks())


def test_both_sides_of_the_distances_are_named():
  rng = np.random.default_rng(0)
  gates = {t: {"encoder/block_000": rng.random((4, 4))} for t in TASKS}
  axis = gate_figures.distance_figure(gates).axes[0]
  for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
    assert [label.get_text() for label in labels] == list(TASKS)


def test_nothing_comes_from_the_network(text):
  pictures = 0
  for source in _Page(text).sources:
    if source.startswith("#"):
      continue
    kind, data = source.split(",", 1)
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    pictures += 1
  # The loss, a curve a task, the gates and their distances.
  assert pictures == 5
  assert not re.search(r"https?://|@import|<script|<link", text)


def test_gates_that_are_none_are_named(tmp_path):
  path = tmp_path / "x.npz"
  path.write_bytes(b"no zip")
  with pytest.raises(errors.UserError, match="--gates=L2="):
    report.gate_pictures("L2", str(path))


def test_the_command(tmp_path, gates, monkeypatch):
  for i, result in enumerate(made_up.results()):
    (tmp_path / f"{i}.json").write_text(json.dumps(result))
  output = tmp_path / "report.html"
  given = f"--results={tmp_path}", f"--gates=L2={gates}", f"--output={output}"
  program.run("tools.report", given, monkeypatch)
  assert "<h1>HyperGrid and vanilla T5</h1>" in output.read_text()
