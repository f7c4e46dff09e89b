"""What a developer relies on: how tests are reported, and the workflows."""

import re
import shutil

from tests import command

_TESTS = """
import sys, types, warnings
import pytest

def test_passes():
  warnings.warn("a library says something", UserWarning)

def test_our_message():
  warnings.warn("hypergrid_mtf.compat: imported too late")

def test_our_place():
  ours = types.ModuleType("tools.something")
  exec("import warnings; warnings.warn('old', FutureWarning)", vars(ours))

@pytest.mark.parametrize("unused", range(2))
def test_needs_data(unused):
  pytest.skip("no benchmark data")
"""


def test_warnings_of_ours_fail_and_what_is_skipped_is_said(tmp_path):
  (tmp_path / "some_test.py").write_text(_TESTS)
  shutil.copy(command.ROOT / "tests" / "conftest.py", tmp_path)
  summary = tmp_path / "summary.md"
  done = command.python(
    *("-m", "pytest", "-c", "pyproject.toml", tmp_path / "some_test.py"),
    GITHUB_STEP_SUMMARY=str(summary),
  )
  assert "2 failed, 1 passed, 2 skipped" in done.stdout, done.stdout
  for name in ("test_our_message", "test_our_place"):
    assert re.search(rf"FAILED .*::{name} ", done.stdout)
  assert re.search(r"SKIPPED \[2\] .*: no benchmark data", done.stdout)
  assert summary.read_text() == (
    "1 passed, 2 failed, 2 skipped\n\n- 2 × Skipped: no benchmark data\n"
  )


def test_what_the_workflows_and_hooks_call_is_there():
  makefile = (command.ROOT / "Makefile").read_text()
  made = set(re.findall(r"^([\w-]+):", makefile, re.M))
  workflows = command.ROOT / ".github" / "workflows"

  def targets(path):
    return set(re.findall(r"make .*?([\w-]+)$", path.read_text(), re.M))

  assert targets(workflows / "test.yml") == targets(command.ROOT / ".ci/run")
  weekly = (workflows / "weekly.yml").read_text()
  (listed,) = re.findall(r"target: \[(.*)\]", weekly)
  assert {"upstream-test", "kill-test"} <= set(listed.split(", ")) <= made
  assert targets(workflows / "test.yml") <= made
  hooks = (command.ROOT / ".pre-commit-config.yaml").read_text()
  lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.M)[1]
  for program in re.findall(r"entry: (\S+)", hooks):
    assert program in lint
