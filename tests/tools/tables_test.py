"""The program, on results and on runs; errors come first."""

import json

import pytest

from hypergrid_mtf import errors
from tests import program
from tests.tools.experiments import made_up, result_test


def _write(folder):
  for i, one in enumerate(made_up.results()):
    (folder / f"{i}.json").write_text(json.dumps(one))
  return f"--results={folder}"


def test_what_is_wrong_is_said_before_the_tables(tmp_path, monkeypatch, capsys):
  results = _write(tmp_path)
  document = tmp_path / "x.md"
  document.write_text("no place")
  for name, given, said in (
    ("tools.tables", [results, f"--update={document}"], "no place"),
    ("tools.report", [results, "--gates=L2=x.npz"], "L2=x.npz"),
    ("tools.tables", [results, "--runs=a=b"], "give the results of a sweep"),
    ("tools.tables", [], "give the results of a sweep"),
    ("tools.tables", ["--runs=runs/l2"], "--runs=runs/l2 is not a run"),
    ("tools.tables", ["--runs=/a=b"], "--runs=/a=b is not a run"),
    ("tools.tables", [f"--runs=a={tmp_path}"], "has no operative_config"),
  ):
    output = "output" if name == "tools.report" else "output_dir"
    given.append(f"--{output}={tmp_path}/{output}")
    with pytest.raises(errors.UserError, match=said):
      program.run(name, given, monkeypatch)
    assert "scores_best" not in capsys.readouterr().out


def test_tables_of_results(tmp_path, monkeypatch, capsys):
  given = _write(tmp_path), f"--output_dir={tmp_path / 'tables'}"
  program.run("tools.tables", given, monkeypatch)
  assert "differences_last" in capsys.readouterr().out
  for suffix in ("md", "tex", "csv"):
    assert (tmp_path / "tables" / f"scores_last.{suffix}").read_text()


def test_tables_of_runs(tmp_path, monkeypatch, capsys):
  """A repeated name is another seed."""
  runs = (
    ("vanilla", (75.0, 50.0)),
    ("vanilla", (75.0, 54.0)),
    ("L2", (1.0, 90.0)),
  )
  given = [
    f"{name}={result_test.write_run(tmp_path / str(i), 0, scores)}"
    for i, (name, scores) in enumerate(runs)
  ]
  output = tmp_path / "tables"
  arguments = [f"--runs={','.join(given)}", f"--output_dir={output}"]
  program.run("tools.tables", arguments, monkeypatch)
  said = capsys.readouterr().out
  assert "52.00 ± 2.83 (2) | 90.00 (1)" in " ".join(said.split())
  assert "one seed of L2 is compared" in said
  again = [f"--results={output}/results", f"--output_dir={tmp_path}/again"]
  program.run("tools.tables", again, monkeypatch)
  for path in output.glob("*.md"):
    assert path.read_text() == (tmp_path / "again" / path.name).read_text()
