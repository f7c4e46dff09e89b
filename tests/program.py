"""A program of this project with its real flags, in the process of the tests.

Programs define flags of the same names, so each gets a set of its own.
"""

import copy
import functools
import importlib
import re

import grimp
import tensorflow.compat.v1 as tf
from absl import flags

# Importing this project imports these, which define flags.
MESH = ("mesh_tensorflow.transformer.utils", "mesh_tensorflow.simd_mesh_impl")
T5_MAIN = "t5.models.mesh_transformer_main"
_T5_MAIN = re.compile(r"^from t5.models import mesh_transformer_main", re.M)


@functools.cache
def _imports() -> grimp.ImportGraph:
  """Who imports whom in this project."""
  packages = "hypergrid_mtf", "t5_tasks", "tools"
  return grimp.build_graph(*packages, cache_dir=None)


def _uses_t5_main(name: str) -> bool:
  path = importlib.import_module(name).__file__
  with open(path, encoding="utf-8") as f:
    return bool(_T5_MAIN.search(f.read()))


def defined(name: str, monkeypatch) -> flags.FlagValues:
  """The flags that a program has when it is started by itself.

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
    if hasattr(module, "define_flags"):
      module.define_flags()
  imported = {name, *_imports().find_upstream_modules(name)}
  places = [*imported, *MESH]
  if any(_uses_t5_main(other) for other in imported):
    places.append(T5_MAIN)
  by_module = flags.FLAGS.flags_by_module_dict()
  for place in places:
    for flag in by_module.get(place, ()):
      if flag.name not in found:
        found[flag.name] = copy.deepcopy(flag)
        found[flag.name].unparse()
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
