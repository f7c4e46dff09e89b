"""Gin files and bindings: where they are found, and what they say."""

import copy
import importlib
import os

import gin
from t5.models import mesh_transformer_main

from hypergrid_mtf import errors

_GIN_FILES = os.path.join(
  os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
  "operative_configs",
)
_search_paths = set()


def add_search_paths() -> None:
  """Lets gin find the files of this project and of t5 by their short names."""
  for folder in (
    _GIN_FILES,
    os.path.join(os.path.dirname(mesh_transformer_main.__file__), "gin"),
  ):
    if folder not in _search_paths:
      gin.add_config_file_search_path(folder)
      _search_paths.add(folder)


def parse(original, *args, **kwargs) -> None:
  """A parsing of gin files, with its errors in one sentence.

  Args:
    original: t5's or gin's own function.
    *args: of it.
    **kwargs: of it.

  Raises:
    UserError: naming what is wrong.
  """
  try:
    original(*args, **kwargs)
  except OSError as e:
    raise errors.UserError(
      f"a gin file was not found: {str(e).splitlines()[0]} (--gin_file is "
      "looked up in the current folder, in --gin_location_prefix, in "
      "operative_configs and in t5's own gin folder)."
    ) from None
  except (ValueError, SyntaxError, TypeError, ImportError) as e:
    message = " ".join(str(e).split())
    raise errors.UserError(
      f"a gin file or --gin_param is wrong: {message}"
    ) from None


def import_modules(names: list[str] | None) -> None:
  """Imports what --module_import names, such as tasks of one's own.

  Args:
    names: of modules.

  Raises:
    UserError: if there is no such module.
  """
  for name in names or []:
    try:
      importlib.import_module(name)
    except ModuleNotFoundError as e:
      raise errors.UserError(f"--module_import={name}: {e}") from None


def value(parameter: str, default=None):
  """The value gin will pass, with macros resolved.

  Args:
    parameter: e.g. "run.mode".
    default: for a parameter that is not bound.

  Returns:
    the value

  Raises:
    UserError: for a macro that is not defined.
  """
  try:
    value = gin.query_parameter(parameter)
  except ValueError:
    return default
  try:
    # Copying a reference evaluates it, which is how gin itself passes it on.
    return copy.deepcopy(value)
  except (ValueError, TypeError) as e:
    raise errors.UserError(
      f"the gin binding {parameter} = {value} cannot be evaluated: {e}"
    ) from None
