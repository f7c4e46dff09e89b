"""Defines the flags of t5 and Mesh TensorFlow without importing either.

Their modules define them only after importing TensorFlow, which takes seconds.
Here the definitions are read from the source text of these modules. absl
ignores a repeated definition from a module of the same name.
"""

import ast
import contextlib
import importlib.util
import os

from absl import flags

flags.disclaim_key_flags()  # --help shows them as the calling program's

_MODULES = (
  "t5.models.mesh_transformer_main",
  "mesh_tensorflow.transformer.utils",
  "mesh_tensorflow.simd_mesh_impl",
)


def folder(package: str) -> str:
  """The folder of a package such as "t5.models", without importing it."""
  top, *rest = package.split(".")
  spec = importlib.util.find_spec(top)
  assert spec and spec.submodule_search_locations
  return os.path.join(spec.submodule_search_locations[0], *rest)


def define(*names: str, others: bool = False) -> None:
  """Defines flags of t5, with its own defaults, help and checks.

  Args:
    *names: flags that --help shows.
    others: also define the others, which --helpfull shows; undefined flags are
      refused.
  """
  for module in _MODULES:
    with open(f"{folder(module)}.py", encoding="utf-8") as f:
      text = f.read()
    if others or any(f'"{name}"' in text for name in names):
      for node in ast.walk(ast.parse(text)):
        if (
          isinstance(node, ast.Call)
          and isinstance(node.func, ast.Attribute)
          and node.func.attr.startswith("DEFINE_")
        ):
          given = [ast.literal_eval(a) for a in node.args]
          named = {k.arg: ast.literal_eval(k.value) for k in node.keywords}
          if others or given[0] in names:
            # It exists if that module was imported before.
            with contextlib.suppress(flags.DuplicateFlagError):
              named["module_name"] = module
              getattr(flags, node.func.attr)(*given, **named)
  for name in names:
    flags.declare_key_flag(name)
