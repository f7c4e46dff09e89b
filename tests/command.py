"""Runs programs as a user does, for tests."""

import atexit
import contextlib
import functools
import io
import multiprocessing
import os
import pathlib
import re
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent import futures

ROOT = pathlib.Path(__file__).parents[1]

# A server that has imported TensorFlow, and forks: a new process starts in a
# tenth of a second.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["hypergrid_mtf.run.checks", "t5_tasks"])
_STREAMS = ("stdin", "stdout", "stderr")


def flags(*words: str) -> list[str]:
  """Turns gin files and bindings into flags; keeps other flags."""
  found = []
  for word in words:
    if not word.startswith("--"):
      for flag, sign in (("gin_param", " = "), ("gin_file", ".gin")):
        if sign in word:
          word = f"--{flag}={word}"
          break
    found.append(word)
  return found


def calls(table: str, **names: str) -> dict[str, list[str]]:
  """Command lines of a table.

  Args:
    table: rows of `name | word | …`, words as `flags` takes them; a row goes on
      in lines that begin with " |".
    **names: of words that stand for others, with " | " between them.

  Returns:
    {name: flags}
  """
  found = {}
  for row in re.sub(r"\n +\|", " |", table.strip()).split("\n"):
    name, *words = row.split(" | ")
    given = " | ".join(names.get(word, word) for word in words).split(" | ")
    found[name] = flags(*given)
  return found


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


def _main(module: str, arguments: tuple[str, ...], folder: str) -> None:
  """Runs a program in this process, with its streams in files of a folder."""
  from hypergrid_mtf.run import console

  for number, name in enumerate(_STREAMS):
    os.dup2(os.open(os.path.join(folder, name), os.O_RDWR), number)
  sys.stdin = os.fdopen(0)
  sys.argv = [module, *arguments]
  sys.orig_argv = [sys.executable, "-m", *sys.argv]
  console.capture()
  try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
  finally:
    sys.stdout.flush()
    atexit._run_exitfuncs()  # a fork ends without them


def program(
  module: str, *arguments: str, stdin=""
) -> subprocess.CompletedProcess:
  """A program, by the full name of its module."""
  with tempfile.TemporaryDirectory() as folder:
    streams = [pathlib.Path(folder, name) for name in _STREAMS]
    for path in streams:
      path.write_text(stdin if path.name == "stdin" else "")
    process = _FORKS.Process(target=_main, args=(module, arguments, folder))
    process.start()
    process.join()
    _, out, err = (path.read_text() for path in streams)
  return subprocess.CompletedProcess(module, process.exitcode, out, err)


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess:
  """One of tools/."""
  return program(f"tools.{name}", *arguments)


def call(function, *arguments):
  """Calls a function of a module in a separate process; returns its result."""
  with futures.ProcessPoolExecutor(1, mp_context=_FORKS) as pool:
    return pool.submit(function, *arguments).result()


def _without_rewriting(session, original, target="", graph=None, config=None):
  """Starts a session as `original` does, without TensorFlow's rewriting."""
  from tensorflow.core.protobuf import config_pb2

  options = config_pb2.ConfigProto()
  if config is not None:
    options.CopyFrom(config)
  options.graph_options.rewrite_options.disable_meta_optimizer = True
  original(session, target, graph, options)


def _run_all(command_lines: dict[str, list[str]], python_path: str) -> dict:
  import gin
  from absl import flags
  from tensorflow.python.client import session
  from tensorflow.python.training import training_util

  from hypergrid_mtf import errors, main

  # A third of a short training: Estimators write graph.pbtxt, and TensorFlow
  # rewrites each graph.
  training_util.write_graph = lambda *_, **__: None
  session.BaseSession.__init__ = functools.partialmethod(
    _without_rewriting, session.BaseSession.__init__
  )
  sys.path.insert(0, python_path)
  found = {}
  for name, arguments in command_lines.items():
    gin.clear_config()
    for flag in flags.FLAGS:
      flags.FLAGS[flag].unparse()
    start, error = time.time(), ""
    with contextlib.redirect_stdout(io.StringIO()) as said:
      try:
        flags.FLAGS(["main", *arguments])
        main.main(["main"])
        outcome = "done"
      except errors.UserError as e:
        outcome, error = "refused", errors.sentence(e)
      except Exception:
        outcome, error = "traceback", traceback.format_exc()
    found[name] = dict(
      outcome=outcome,
      error=error,
      said=said.getvalue(),
      seconds=time.time() - start,
    )
  return found


def outcomes(command_lines: dict[str, list[str]], python_path="") -> dict:
  """Runs hypergrid_mtf.main several times in one process, even if runs fail.

  Args:
    command_lines: the flags of each, by a name.
    python_path: a folder of more modules.

  Returns:
    {name: {outcome: "done", "refused" or "traceback", error, said (what was
    printed), seconds}}
  """
  return call(_run_all, command_lines, str(python_path))


def run(*command_lines: list[str], python_path="") -> str:
  """The output of successful runs; one process saves TensorFlow's start."""
  named = {str(n): line for n, line in enumerate(command_lines)}
  found = outcomes(named, python_path).values()
  for one in found:
    assert one["outcome"] == "done", one["error"][-3000:]
  return "".join(one["said"] for one in found)
