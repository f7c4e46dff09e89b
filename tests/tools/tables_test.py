"""The program: what is wrong is said first."""

import json

from tests import command
from tests.tools.experiments import made_up


def test_what_is_wrong_is_said_before_the_tables(tmp_path):
  for i, result in enumerate(made_up.results()):
    (tmp_path / f"{i}.json").write_text(json.dumps(result))
  results_path = f"--results={tmp_path}"
  document = tmp_path / "x.md"
  document.write_text("no place")
  for done, said in (
    (command.tool("tables", f"--update={document}", results_path), "no place"),
    (command.tool("report", "--gates=L2=x.npz", results_path), "L2=x.npz"),
  ):
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "scores_best" not in done.stdout
