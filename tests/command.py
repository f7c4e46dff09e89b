"""The command line, for tests."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

_SCRIPT = """
import json, sys
import gin
from absl import flags
from hypergrid_mtf import main

for arguments in json.loads(sys.argv[1]):
  gin.clear_config()
  for name in ("gin_file", "gin_param", "module_import"):
    flags.FLAGS[name].unparse()
  flags.FLAGS(["main", *arguments])
  main.main(["main"])
"""


def run(*command_lines: list[str], python_path="") -> str:
  """Runs of hypergrid_mtf.main, one after the other.

  In one process: starting TensorFlow takes longer than a small run.

  Args:
    *command_lines: the flags of each.
    python_path: a folder of more modules.

  Returns:
    what they print
  """
  done = subprocess.run(
    [sys.executable, "-c", _SCRIPT, json.dumps(command_lines)],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(python_path)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def tool(name: str, *arguments) -> subprocess.CompletedProcess:
  """One of tools/ as a user calls it.

  Args:
    name: of its module.
    *arguments: its flags.

  Returns:
    `returncode`, `stdout` and `stderr` (text)
  """
  return subprocess.run(
    [sys.executable, "-m", f"tools.{name}", *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
