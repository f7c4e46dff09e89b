"""Gin files and bindings: where they are found, and what they say."""

import copy
import importlib
import io
import os
import traceback
from unittest import mock

import gin
from t5.models import mesh_transformer_main

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_faults, gin_statements

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


def parse(original, *args, **kwargs) -> None:
  """A parsing of gin files, with its errors in one sentence.

  Args:
    original: t5's or gin's own function.
    *args: of it.
    **kwargs: of it.

  Raises:
    UserError: naming the flag or the file and line, the text, and the fault.
  """
  gin_statements.clear()
  parse_config = gin.config.parse_config

  def parse_each(bindings, skip_unknown=False):
    # Flags come as one list: each is parsed by itself, to be named by itself.
    if isinstance(bindings, list | tuple):
      for binding in bindings:
        _parse_text(parse_config, binding, None, skip_unknown)
      return [], []
    if isinstance(bindings, str):
      return parse_config(bindings, skip_unknown)
    name = getattr(bindings, "name", "a gin file")
    try:
      text = bindings.read()
    except UnicodeDecodeError as e:
      raise errors.UserError(
        f"the gin file {name} is not a text file: {e}."
      ) from None
    return _parse_text(parse_config, text, name, skip_unknown)

  try:
    with mock.patch.object(gin.config, "parse_config", parse_each):
      original(*args, **kwargs)
  except OSError as e:
    raise errors.UserError(
      f"a gin file was not found: {gin_faults.not_found(e)} (--gin_file is "
      "looked up in the current folder, in --gin_location_prefix, in "
      "operative_configs and in t5's own gin folder)."
    ) from None


def _parse_text(parse_config, text, file, skip_unknown):
  """Parses one file or flag, and keeps its statements."""
  stream = io.StringIO(text)
  if file:
    stream.name = file
  try:
    parsed = parse_config(stream, skip_unknown)
  except errors.UserError as e:
    # Of a file that this one includes: gin adds each file on the way.
    raise errors.UserError(str(e).partition("\n  In ")[0]) from None
  except Exception as e:  # also whatever an imported module may raise
    message = gin_faults.explain(e, text, file, _SEARCHED)
    raise errors.UserError(message) from None
  gin_statements.add(text, file, _SEARCHED)
  if skip_unknown is not True:
    gin_faults.check_imports(text, file, _SEARCHED)
  return parsed


def import_modules(names: list[str] | None) -> None:
  """Imports what --module_import names, such as the user's tasks.

  Args:
    names: of modules.

  Raises:
    UserError: if there is no such module, or it cannot be imported.
  """
  for name in names or []:
    try:
      importlib.import_module(name)
    except errors.UserError:
      raise
    except Exception as e:  # whatever a module of the user's may raise
      last = traceback.extract_tb(e.__traceback__)[-1]
      where = (
        ""
        if isinstance(e, ModuleNotFoundError | SyntaxError)
        else (f" ({last.filename}, line {last.lineno})")
      )
      raise errors.UserError(
        f"--module_import={name} fails: {type(e).__name__}: "
        f"{errors.sentence(e)}{where}"
      ) from None


def value(parameter: str, default=None):
  """The value gin will pass, with macros resolved.

  Args:
    parameter: e.g. "run.mode".
    default: for a parameter that is not bound.

  Returns:
    the value

  Raises:
    UserError: for a value that cannot be computed.
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
      f"the gin binding {parameter} = {value} cannot be evaluated"
      f"{gin_statements.told(parameter)}: {errors.sentence(e)}"
    ) from None
