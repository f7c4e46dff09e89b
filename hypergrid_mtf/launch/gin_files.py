"""Gin files and bindings: where they are found, and what they say."""

import copy
import importlib
import os
from collections.abc import Iterable

import gin
import tensorflow.compat.v1 as tf
from t5.models import mesh_transformer_main

from hypergrid_mtf import errors

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def folder() -> str:
  """Where this project's gin files are.

  Returns:
    operative_configs, which a clone has beside the package, and an installed
    package in itself
  """
  inside = os.path.join(_PACKAGE, "operative_configs")
  if os.path.isdir(inside):
    return inside
  return os.path.join(os.path.dirname(_PACKAGE), "operative_configs")


_SEARCHED = (
  folder(),
  os.path.join(os.path.dirname(mesh_transformer_main.__file__), "gin"),
)
_added = set()


def add_search_paths() -> None:
  """Lets gin find the files of this project and of t5 by their short names."""
  for path in _SEARCHED:
    if path not in _added:
      gin.add_config_file_search_path(path)
      _added.add(path)


def find(name: str, prefixes: Iterable[str] = ()) -> str | None:
  """A gin file where gin will find it.

  Args:
    name: as given to --gin_file, or included.
    prefixes: from --gin_location_prefix.

  Returns:
    its path; None if there is none
  """
  for place in ("", *prefixes, *_SEARCHED):
    path = os.path.join(place, name)
    if tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path):
      return path
  return None


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
