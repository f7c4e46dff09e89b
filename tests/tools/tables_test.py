"""The program: what is wrong is said first."""

import json

import pytest

from hypergrid_mtf import errors
from tests import program
from tests.tools.experiments import made_up


def test_what_is_wrong_is_said_before_the_tables(tmp_path, monkeypatch, capsys):
  for i, result in enumerate(made_up.results()):
    (tmp_path / f"{i}.json").write_text(json.dumps(result))
  results_path = f"--results={tmp_path}"
  document = tmp_path / "x.md"
  document.write_text("no place")
  for name, given, said in (
    ("tools.tables", f"--update={document}", "no place"),
    ("tools.report", "--gates=L2=x.npz", "L2=x.npz"),
  ):
    with pytest.raises(errors.UserError, match=said):
      program.run(name, [given, results_path], monkeypatch)
    assert "scores_best" not in capsys.readouterr().out


def test_the_command(tmp_path, monkeypatch, capsys):
  for i, result in enumerate(made_up.results()):
    (tmp_path / f"{i}.json").write_text(json.dumps(result))
  given = f"--results={tmp_path}", f"--output_dir={tmp_path / 'tables'}"
  program.run("tools.tables", given, monkeypatch)
  assert "differences_last" in capsys.readouterr().out
  for suffix in ("md", "tex", "csv"):
    assert (tmp_path / "tables" / f"scores_last.{suffix}").read_text()
