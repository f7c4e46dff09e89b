"""Gin's configuration, with the place where each binding was written.

Gin keeps what a parameter is bound to at last. Here is where that was written
(a flag, or a file and its line), what else was, and what gin finds wrong in it,
in one sentence.
"""

import copy
import dataclasses
import difflib
import importlib
import inspect
import io
import os
import re
import tokenize
import traceback
from collections.abc import Iterable, Iterator, Sequence
from unittest import mock

import gin
from gin import config_parser

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files

# What mesh_tensorflow's own main parses before anything else.
DEFAULTS = os.path.join(gin_files.MESH_FOLDER, "defaults.gin")

# What t5 writes next to the checkpoints of a training.
RECORD = "operative_config.gin"

_added: set[str] = set()
# Of the last parsing, as gin's own configuration is.
_statements: list["Statement"] = []


@dataclasses.dataclass(frozen=True)
class Statement:
  """One binding as it was written, whether or not a later one replaced it.

  Attributes:
    scope: "encoder" of `encoder/run.mode = …`, or "".
    selector: "run" of `run.mode = …`; the name of a macro.
    parameter: "mode" of `run.mode = …`; "" for a macro.
    macros: names of the macros that its value refers to.
    scopes: of the references in its value.
    place: the flag, or the file and the line.
    source: "flag", "user", "shipped" (with t5 or this project) or "generated"
      (by gin itself, such as an operative_config.gin).
  """

  scope: str
  selector: str
  parameter: str
  macros: frozenset[str]
  scopes: frozenset[str]
  place: str
  source: str

  @property
  def macro(self) -> str:
    """The name of a macro as `%name` refers to it, with its scope."""
    return f"{self.scope}/{self.selector}" if self.scope else self.selector

  @property
  def is_users(self) -> bool:
    return self.source in ("flag", "user")


class _References(config_parser.ParserDelegate):
  """Collects what a value refers to, without looking it up."""

  def __init__(self):
    self.macros: set[str] = set()
    self.scopes: set[str] = set()

  def configurable_reference(self, scoped_configurable_name, evaluate):
    self.scopes.update(scoped_configurable_name.split("/")[:-1])

  def macro(self, macro_name):
    self.macros.add(macro_name)


def add_search_paths() -> None:
  """Lets gin find the files of this project and of t5 by their short names."""
  for path in gin_files.SEARCHED:
    if path not in _added:
      gin.add_config_file_search_path(path)
      _added.add(path)


def parse(original, *args, **kwargs) -> None:
  """Calls a parsing function of t5 or gin, with its errors in one sentence.

  Raises:
    UserError: naming the flag or the file and line, the text, and the fault.
  """
  _statements.clear()
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
      f"a gin file was not found: {_describe_missing(e)} ({gin_files.PLACES})."
    ) from None


def parse_files(
  paths: Sequence[str],
  bindings: Sequence[str] = (),
  skip_unknown: bool = False,
  clears: bool = True,
) -> None:
  """Makes gin's configuration that of some files and bindings.

  It is not closed, since a model needs less than a run.

  Args:
    paths: as given to --gin_file.
    bindings: as given to --gin_param.
    skip_unknown: pass over bindings of what is not imported.
    clears: whether what was bound before goes.
  """
  gin_files.check(paths)
  add_search_paths()
  if clears:
    gin.clear_config()  # opens it too
  with gin.unlock_config():
    parse(
      gin.parse_config_files_and_bindings,
      list(paths),
      list(bindings),
      finalize_config=False,
      skip_unknown=skip_unknown,
    )


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
    raise errors.UserError(_explain(e, text, file)) from None
  references = _References()
  source = _source_of(file, text)
  for statement in config_parser.ConfigParser(text, references):
    line = statement.location.line_num
    if isinstance(statement, config_parser.BindingStatement):
      _statements.append(
        Statement(
          statement.scope,
          statement.selector,
          statement.arg_name,
          frozenset(references.macros),
          frozenset(references.scopes),
          _place(file, text, line),
          source,
        )
      )
    elif (
      isinstance(statement, config_parser.ImportStatement)
      and skip_unknown is not True
      and source in ("flag", "user")
    ):
      _check_import(statement, _shown(file, text, line))
    # A block's bindings are read at once: its later ones lose theirs, which
    # the first one has.
    references.macros.clear()
    references.scopes.clear()
  return parsed


def _check_import(statement, shown: str) -> None:
  """Tries an import, which t5 has gin skip without a word when it fails.

  It does so for modules that it once had and that old configurations name.
  """
  package = statement.module.partition(".")[0]
  if package in ("__gin__", "mesh_tensorflow", "seqio", "t5"):
    return
  module = statement.module
  try:
    importlib.import_module(
      module.rpartition(".")[0] if statement.is_from else module
    )
  except Exception as e:  # whatever a module may raise
    raise errors.UserError(
      f"{shown} is wrong: the import fails: {e}."
    ) from None


def import_modules(names: Sequence[str] | None) -> None:
  """Imports what --module_import names, such as the user's tasks."""
  for name in names or []:
    try:
      importlib.import_module(name)
    except errors.UserError:
      raise
    except Exception as e:  # whatever a module of the user's may raise
      where = ""
      if not isinstance(e, ModuleNotFoundError | SyntaxError):
        last = traceback.extract_tb(e.__traceback__)[-1]
        where = f" ({last.filename}, line {last.lineno})"
      raise errors.UserError(
        f"--module_import={name} fails: {type(e).__name__}: "
        f"{errors.sentence(e)}{where}"
      ) from None


def _source_of(file: str | None, text: str) -> str:
  """Who wrote a file or flag: see `Statement.source`."""
  if not file:
    return "flag"
  for shipped in (gin_files.MESH_FOLDER, *gin_files.SEARCHED):
    if os.path.abspath(file).startswith(shipped + os.sep):
      return "shipped"
  # The heads that gin writes over the parts of a configuration.
  if re.search(r"^# (Macros|Parameters for \S+):\n# ={70,}$", text, re.M):
    return "generated"
  return "user"


def _place(file: str | None, text: str, line: int | None) -> str:
  """The flag with its text, or the file and line."""
  if not file:
    return f'--gin_param="{text.strip()}"'
  for path in gin_files.SEARCHED:
    if os.path.abspath(file).startswith(path + os.sep):
      file = os.path.relpath(file, path)  # as --gin_file takes it
  return f"{file}, line {line}" if line else file


def _shown(file: str | None, text: str, line: int | None) -> str:
  """The place, and for a file also the text of the line."""
  if not file:
    return _place(file, text, line)
  lines = text.split("\n")
  shown = lines[line - 1].strip() if line and line <= len(lines) else ""
  place = f"the gin file {_place(file, text, line)}"
  return f"{place} ({shown})" if shown else place


def _explain(error: Exception, text: str, file: str | None) -> str:
  """What gin found wrong, with the flag or the file and line it is in."""
  message, _, location = str(error).partition("\n  In ")
  found = re.search(r" line (\d+)\n", location)
  line = int(found[1]) if found else None
  if isinstance(error, tokenize.TokenError):
    message, (line, _) = error.args
    message = "a bracket or a quote is not closed"
  elif isinstance(error, OSError):
    message = f"the included file is not found: {_describe_missing(error)}"
  elif isinstance(error, SyntaxError):
    if error.filename and error.filename.endswith(".py"):
      message = f"{error.msg} in {error.filename}, line {error.lineno}"
    else:
      message, line = error.msg, error.lineno
  elif isinstance(error, ImportError):
    message = f"the import fails: {message}"
  elif isinstance(error, KeyError):  # an ambiguous name
    message = message.strip("\"'")
  elif not isinstance(error, ValueError | TypeError):
    message = f"{type(error).__name__}: {message}"
  no_binding = "Expected newline" in message and "=" not in text
  if "expected ':' or '='" in message or no_binding:
    message = "a binding has the form name.parameter = value"
  elif "Expected newline" in message or "Unable to parse value" in message:
    message = (
      "this is not a value that gin can read: texts stand in one pair of "
      "quotes, and nothing follows the value"
    )
  message = " ".join(message.split()).rstrip(".")
  hint = _hint(message)
  end = "" if hint.endswith("?") else "."
  return f"{_shown(file, text, line)} is wrong: {message}{hint}{end}"


def _hint(message: str) -> str:
  """The known name that is nearest to the one that gin does not know."""
  found = re.search(
    r"Configurable '(.+)' doesn't have a parameter named '(\w+)'", message
  )
  if found:
    signature = inspect.signature(gin.get_configurable(found[1]))
    return did_you_mean(found[2], signature.parameters)
  found = re.search(
    r"No configurable matching (?:reference '@|')([\w.]+)", message
  )
  known = []
  for selector, _ in gin.config._REGISTRY.items() if found else ():
    parts = selector.split(".")
    known += [".".join(parts[i:]) for i in range(len(parts))]
  return did_you_mean(found[1], known) if found else ""


def _describe_missing(error: OSError) -> str:
  """What file gin did not find, without the places where it looked."""
  return str(error).splitlines()[0].split(". Searched config paths")[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """ ": did you mean X?" for the known name nearest to a wrong one, or ""."""
  near = nearest(name, known)
  return f": did you mean {near}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
  """The known name that is spelled most like another, if any is near it."""
  # Letters' case is the smallest of differences, difflib's greatest.
  by_lower = {k.lower(): k for k in known}
  found = difflib.get_close_matches(name.lower(), by_lower, 1, 0.75)
  return by_lower[found[0]] if found else None


def describes_model() -> bool:
  """Whether more than mesh_tensorflow's defaults says how wide a model is."""
  return any(
    "d_model" in (s.selector, s.parameter)
    and not os.path.normpath(s.place).startswith(DEFAULTS)
    for s in _statements
  )


def statements() -> Iterator[Statement]:
  """Every binding of the last parsing, in order, also replaced ones."""
  return iter(_statements)


def origin(parameter: str) -> Statement | None:
  """The statement that a parameter has its value from.

  Args:
    parameter: e.g. "run.batch_size", with its scope if it has one.

  Returns:
    the last one that binds it, or, if that refers to a macro alone, the macro's
  """
  scope, selector, name = config_parser.parse_binding_key(parameter)

  def same(a, b):
    return f".{a}".endswith(f".{b}") or f".{b}".endswith(f".{a}")

  for statement in reversed(_statements):
    if statement.scope == scope and (
      statement.parameter == name and same(statement.selector, selector)
    ):
      for macro in reversed(_statements):
        if not macro.parameter and macro.macro in statement.macros:
          return macro
      return statement
  return None


def is_recorded(parameter: str) -> bool:
  """Whether a value is of gin's record of another run, and not the user's.

  An operative_config.gin has all parameters, those of this machine too.
  """
  found = origin(parameter)
  return found is not None and found.source == "generated"


def place(parameter: str) -> str:
  """ " (where a parameter is bound)", for a sentence about it, or ""."""
  found = origin(parameter)
  return f" ({found.place})" if found else ""


def value(parameter: str, default=None):
  """The value gin will pass, with macros resolved.

  Args:
    parameter: e.g. "run.mode".
    default: for a parameter that is not bound.

  Raises:
    UserError: for a value that cannot be computed.
  """
  try:
    bound = gin.query_parameter(parameter)
  except ValueError:
    return default
  return evaluate(bound, parameter)


def evaluate(bound, parameter: str, shown: str = ""):
  """A bound value as gin passes it on, its references evaluated."""
  try:
    return copy.deepcopy(bound)  # which is how gin itself evaluates them
  except Exception as e:  # whatever a function that is referred to may raise
    raise errors.UserError(
      f"the gin binding {shown or parameter} = {bound} cannot be evaluated"
      f"{place(parameter)}: {errors.sentence(e)}"
    ) from None
