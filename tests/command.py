"""Programs as a user calls them, for tests."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

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


def python(
  *words, cwd=ROOT, interpreter=sys.executable, **environment: str
) -> subprocess.CompletedProcess:
  """Python with arguments; standard output and error are captured as text."""
  return subprocess.run(
    [interpreter, *words],
    cwd=cwd,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )


def program(module: str, *arguments: str) -> subprocess.CompletedProcess:
  """A program, by the full name of its module."""
  return python("-m", module, *arguments)


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess:
  """One of tools/."""
  return program(f"tools.{name}", *arguments)


def outcomes(command_lines: dict[str, list[str]], python_path="") -> dict:
  """Runs of hypergrid_mtf.main in one process, also those that fail.

  Args:
    command_lines: the flags of each, by a name.
    python_path: a folder of more modules.

  Returns:
    {name: {outcome: "done", "refused" or "traceback", error, said (what was
    printed), seconds}}
  """
  given = json.dumps(command_lines)
  done = python("-c", _OUTCOMES, given, PYTHONPATH=str(python_path))
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


def run(*command_lines: list[str], python_path="") -> str:
  """What good runs print; in one process, because TensorFlow starts slowly."""
  named = {str(n): line for n, line in enumerate(command_lines)}
  found = outcomes(named, python_path).values()
  for one in found:
    assert one["outcome"] == "done", one["error"][-3000:]
  return "".join(one["said"] for one in found)
