"""Runs a program of this project with its real flags, in the tests' process.

Programs define flags with the same names, so each gets its own set.
"""

import functools
import importlib

import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf.run import run_flags


def defined(name: str, monkeypatch) -> flags.FlagValues:
  """The flags that a program has when it runs alone.

  Args:
    name: of its module.
    monkeypatch: of the test.

  Returns:
    they, not parsed yet
  """
  module = importlib.import_module(name)
  found = flags.FlagValues()
  with monkeypatch.context() as patch:
    for function in dir(flags):
      if function.startswith("DEFINE_") or function.startswith("mark_flag"):
        original = getattr(flags, function)
        with_ours = functools.partial(original, flag_values=found)
        patch.setattr(flags, function, with_ours)
    patch.setattr(flags, "declare_key_flag", lambda *_: None)
    getattr(module, "define_flags", run_flags.define)()
  return found


def _verbs(name: str):
  return getattr(importlib.import_module(name), "VERBS", ())


def parse(name: str, arguments, monkeypatch) -> flags.FlagValues:
  """The flags of a program, parsed.

  Args:
    name: of its module.
    arguments: as they are given to it.
    monkeypatch: of the test.

  Returns:
    they; absl's errors are raised as they are
  """
  found = defined(name, monkeypatch)
  rest = found([name, *arguments])
  if not set(rest[1:]) <= set(_verbs(name)):
    raise flags.Error(f"{rest[1:]} are not flags")
  return found


def run(name: str, arguments, monkeypatch):
  """Runs a program of tools/ in this process.

  Args:
    name: of its module.
    arguments: as they are given to it.
    monkeypatch: of the test.

  Returns:
    what its `main` gives back
  """
  module = importlib.import_module(name)
  given = parse(name, arguments, monkeypatch)
  monkeypatch.setattr(module, "FLAGS", given)
  # There is no way back from it, and other tests need eager execution.
  monkeypatch.setattr(tf, "disable_v2_behavior", lambda: None)
  return module.main([name, *(a for a in arguments if a in _verbs(name))])
