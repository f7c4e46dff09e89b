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
  return program(f"tools.{name}", *arguments)


def program(module: str, *arguments) -> subprocess.CompletedProcess:
  """A program as a user calls it.

  Args:
    module: its full name.
    *arguments: its flags.

  Returns:
    `returncode`, `stdout` and `stderr` (text)
  """
  return subprocess.run(
    [sys.executable, "-m", module, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


_OUTCOMES = """
import contextlib, io, json, sys, time, traceback
import gin
from absl import flags
from hypergrid_mtf import errors, main

outcomes = {}
for name, arguments in json.loads(sys.argv[1]).items():
  gin.clear_config()
  for flag in flags.FLAGS:
    flags.FLAGS[flag].unparse()
  start = time.time()
  said = io.StringIO()
  with contextlib.redirect_stdout(said):
    try:
      flags.FLAGS(["main", *arguments])
      main.main(["main"])
      outcome, error = "done", ""
    except errors.UserError as e:
      outcome, error = "refused", errors.sentence(e)
    except Exception:
      outcome, error = "traceback", traceback.format_exc()
  outcomes[name] = dict(
    outcome=outcome,
    error=error,
    said=said.getvalue(),
    seconds=time.time() - start,
  )
print(json.dumps(outcomes))
"""


def outcomes(command_lines: dict[str, list[str]], python_path="") -> dict:
  """Runs of hypergrid_mtf.main in one process, also those that fail.

  Args:
    command_lines: the flags of each, by a name.
    python_path: a folder of more modules.

  Returns:
    {name: {outcome: "done", "refused" or "traceback", error, said (what was
    printed), seconds}}
  """
  done = subprocess.run(
    [sys.executable, "-c", _OUTCOMES, json.dumps(command_lines)],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(python_path)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])
