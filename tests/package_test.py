"""The package as pip installs it: the command, the tasks and the gin files."""

import importlib.util
import pathlib
import shutil
import zipfile

import pytest

from tests import command

_BUILD = (
  "import sys; from setuptools import build_meta; "
  "build_meta.build_wheel(sys.argv[1])"
)


def _modules(package: str) -> set[str]:
  return {
    path.relative_to(command.ROOT).as_posix()
    for path in (command.ROOT / package).rglob("*.py")
  }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
  """Built from a copy, so that nothing is left in the clone or found there."""
  for module in ("setuptools", "wheel"):
    if not importlib.util.find_spec(module):
      pytest.skip(f"no wheel can be built without {module}")
  root = tmp_path_factory.mktemp("package")
  copy = root / "clone"
  copy.mkdir()
  for name in ("hypergrid_mtf", "t5_tasks", "tools", "operative_configs"):
    shutil.copytree(
      command.ROOT / name,
      copy / name,
      ignore=shutil.ignore_patterns("__pycache__"),
    )
  for name in ("pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(command.ROOT / name, copy)
  built = command.python("-c", _BUILD, str(root), cwd=copy)
  assert built.returncode == 0, built.stderr[-3000:]
  (path,) = root.glob("*.whl")
  return path


def test_what_the_wheel_holds(wheel):
  """All modules and gin files, and no top-level package of a common name."""
  with zipfile.ZipFile(wheel) as zipped:
    names = set(zipped.namelist())
    (entry_points,) = (
      zipped.read(name).decode()
      for name in names
      if name.endswith("entry_points.txt")
    )
  info = {name for name in names if ".dist-info/" in name}
  gin = {
    f"hypergrid_mtf/{path.relative_to(command.ROOT).as_posix()}"
    for path in (command.ROOT / "operative_configs").rglob("*.gin")
  }
  assert "hypergrid_mtf/operative_configs/experiments/glue.gin" in gin
  assert names - info == _modules("hypergrid_mtf") | _modules("t5_tasks") | gin
  assert "hypergrid_mtf = hypergrid_mtf.run.console:" in entry_points


def test_the_command_outside_a_clone_refuses_in_one_sentence(wheel, tmp_path):
  site = tmp_path / "site"
  installed = command.python(
    *("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"),
    *(f"--target={site}", wheel),
  )
  assert installed.returncode == 0, installed.stderr
  done = command.python(
    site / "bin" / "hypergrid_mtf",
    "--model_dir=model",
    "--gin_file=models/nano.gin",
    "--gin_file=hypergrid/L2.gin",
    "--gin_file=experiments/embedded.gin",
    "--gin_param=MIXTURE_NAME = 'embedded_copy_v2'",
    cwd=tmp_path,
    PYTHONPATH=str(site),
  )
  assert done.returncode == 2, done.stderr
  assert done.stderr.count("\n") == 1, done.stderr
  # So it found its gin files.
  assert done.stderr.startswith(
    "error: No task or mixture named 'embedded_copy_v2' is registered; "
    "similar: embedded_copy_v1, "
  ), done.stderr
  assert (tmp_path / "model" / "hypergrid_mtf.log").exists()
