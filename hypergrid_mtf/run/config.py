"""Gin's configuration, and where each binding was written.

Gin keeps only the last value of a parameter. This module also keeps where it
was written (a flag, or a file and line) and the bindings it replaced, and turns
gin's errors into one sentence.
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

# mesh_tensorflow's main parses this first.
DEFAULTS = os.path.join(gin_files.MESH_FOLDER, "defaults.gin")

# t5 writes this next to the checkpoints.
RECORD = "operative_config.gin"

_added: set[str] = set()
# From the last parse, like gin's own configuration.
_statements: list["Statement"] = []


@dataclasses.dataclass(frozen=True)
class Statement:
  """One binding as written, whether or not a later one replaced it.

  Attributes:
    scope: "encoder" of `encoder/run.mode = …`, or "".
    selector: "run" of `run.mode = …`; the name of a macro.
    parameter: "mode" of `run.mode = …`; "" for a macro.
    macros: names of the macros that its value refers to.
    scopes: scopes of the references in its value.
    place: the flag, or the file and line.
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
  """Lets gin find this project's and t5's files by their short names."""
  for path in gin_files.SEARCHED:
    if path not in _added:
      gin.add_config_file_search_path(path)
      _added.add(path)


def parse(original, *args, **kwargs) -> None:
  """Calls a parsing function of t5 or gin; its errors become one sentence.

  Raises:
    UserError: with the flag or the file and line, the text, and the fault.
  """
  _statements.clear()
  parse_config = gin.config.parse_config

  def parse_each(bindings, skip_unknown=False):
    # Flags come as one list; each is parsed alone, so that errors name it.
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
  _drop_hiding_records()


def _drop_hiding_records() -> None:
  """Lets the user's bindings hold in every scope that gin's record names.

  An operative_config.gin binds a parameter in each scope that read it, which
  would hide a later binding without a scope.
  """
  for (scope, selector), parameters in gin.config._CONFIG.items():
    for parameter in list(parameters) if scope else ():
      found = [
        s
        for s in _statements
        if s.parameter == parameter
        and (s.scope == scope or (s.is_users and not s.scope))
        and _same(s.selector, selector)
      ]
      scoped = [s for s in found if s.scope]
      if scoped and scoped[-1].source == "generated" and not found[-1].scope:
        del parameters[parameter]


def _same(a: str, b: str) -> bool:
  """Whether two selectors, one of them perhaps short, are of one name."""
  return f".{a}".endswith(f".{b}") or f".{b}".endswith(f".{a}")


def parse_files(
  paths: Sequence[str],
  bindings: Sequence[str] = (),
  skip_unknown: bool = False,
  clears: bool = True,
) -> None:
  """Parses gin files and bindings.

  The configuration stays open (unlocked), because a model needs less than a
  run.

  Args:
    paths: as given to --gin_file.
    bindings: as given to --gin_param.
    skip_unknown: skip bindings of names that are not imported.
    clears: whether to clear earlier bindings.
  """
  gin_files.check(paths)
  add_search_paths()
  if clears:
    gin.clear_config()  # also unlocks it
  with gin.unlock_config():
    parse(
      gin.parse_config_files_and_bindings,
      list(paths),
      list(bindings),
      finalize_config=False,
      skip_unknown=skip_unknown,
    )


def _parse_text(parse_config, text, file, skip_unknown):
  """Parses one file or flag and records its statements."""
  stream = io.StringIO(text)
  if file:
    stream.name = file
  try:
    parsed = parse_config(stream, skip_unknown)
  except errors.UserError as e:
    # From an included file: gin lists each including file.
    raise errors.UserError(str(e).partition("\n  In ")[0]) from None
  except Exception as e:  # imported modules may raise anything
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
    # Gin reads a block at once: only its first binding has the location.
    references.macros.clear()
    references.scopes.clear()
  return parsed


def _check_import(statement, shown: str) -> None:
  """Tries an import; if it fails, t5 would make gin skip it silently.

  t5 does so for its former modules, which old configurations still import.
  """
  package = statement.module.partition(".")[0]
  if package in ("__gin__", "mesh_tensorflow", "seqio", "t5"):
    return
  module = statement.module
  try:
    importlib.import_module(
      module.rpartition(".")[0] if statement.is_from else module
    )
  except Exception as e:  # a module may raise anything
    raise errors.UserError(
      f"{shown} is wrong: the import fails: {e}."
    ) from None


def import_modules(names: Sequence[str] | None) -> None:
  """Imports the modules of --module_import, such as the user's tasks."""
  for name in names or []:
    try:
      importlib.import_module(name)
    except errors.UserError:
      raise
    except Exception as e:  # a user's module may raise anything
      where = ""
      if not isinstance(e, ModuleNotFoundError | SyntaxError):
        last = traceback.extract_tb(e.__traceback__)[-1]
        where = f" ({last.filename}, line {last.lineno})"
      raise errors.UserError(
        f"--module_import={name} fails: {type(e).__name__}: "
        f"{errors.sentence(e)}{where}"
      ) from None


def _source_of(file: str | None, text: str) -> str:
  """The `Statement.source` of a file or flag."""
  if not file:
    return "flag"
  for shipped in (gin_files.MESH_FOLDER, *gin_files.SEARCHED):
    if os.path.abspath(file).startswith(shipped + os.sep):
      return "shipped"
  # The section headings that gin writes.
  if re.search(r"^# (Macros|Parameters for \S+):\n# ={70,}$", text, re.M):
    return "generated"
  return "user"


def _place(file: str | None, text: str, line: int | None) -> str:
  """The flag with its text, or the file and line."""
  if not file:
    return f'--gin_param="{text.strip()}"'
  for path in gin_files.SEARCHED:
    if os.path.abspath(file).startswith(path + os.sep):
      file = os.path.relpath(file, path)  # relative, as for --gin_file
  return f"{file}, line {line}" if line else file


def _shown(file: str | None, text: str, line: int | None) -> str:
  """The place, and for a file the text of the line."""
  if not file:
    return _place(file, text, line)
  lines = text.split("\n")
  shown = lines[line - 1].strip() if line and line <= len(lines) else ""
  place = f"the gin file {_place(file, text, line)}"
  return f"{place} ({shown})" if shown else place


def _explain(error: Exception, text: str, file: str | None) -> str:
  """Gin's error, with its flag or its file and line."""
  message, _, location = str(error).partition("\n  In ")
  found = re.search(r" line (\d+)\n", location)
  line = int(found[1]) if found else None
  if isinstance(error, tokenize.TokenError):
    message, (line, _) = error.args
    message = "a bracket or a quote is not closed"
  elif isinstance(error, OSError):
    message = f"the included file was not found: {_describe_missing(error)}"
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
      "gin cannot read this value: put text in one pair of quotes, with "
      "nothing after the value"
    )
  message = " ".join(message.split()).rstrip(".")
  hint = _hint(message)
  end = "" if hint.endswith("?") else "."
  return f"{_shown(file, text, line)} is wrong: {message}{hint}{end}"


def _hint(message: str) -> str:
  """A suggestion for a name that gin does not know."""
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
  """The file that gin did not find, without the places it searched."""
  return str(error).splitlines()[0].split(". Searched config paths")[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """ ": did you mean X?" with the most similar known name, or ""."""
  near = nearest(name, known)
  return f": did you mean {near}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
  """The most similar known name, or None if none is similar."""
  # Case counts little here; difflib would count it fully.
  by_lower = {k.lower(): k for k in known}
  found = difflib.get_close_matches(name.lower(), by_lower, 1, 0.75)
  return by_lower[found[0]] if found else None


def describes_model() -> bool:
  """Whether anything but mesh_tensorflow's defaults binds a model's width."""
  return any(
    "d_model" in (s.selector, s.parameter)
    and not os.path.normpath(s.place).startswith(DEFAULTS)
    for s in _statements
  )


def statements() -> Iterator[Statement]:
  """Every binding of the last parse, in order, including replaced ones."""
  return iter(_statements)


def origin(parameter: str) -> Statement | None:
  """The statement that gave a parameter its value.

  Args:
    parameter: e.g. "run.batch_size", with its scope if it has one.

  Returns:
    the last one that binds it, or, if its value is just a macro, the macro's
  """
  scope, selector, name = config_parser.parse_binding_key(parameter)

  for statement in reversed(_statements):
    if statement.scope == scope and (
      statement.parameter == name and _same(statement.selector, selector)
    ):
      for macro in reversed(_statements):
        if not macro.parameter and macro.macro in statement.macros:
          return macro
      return statement
  return None


def is_recorded(parameter: str) -> bool:
  """Whether a value comes from gin's record of another run, not from the user.

  An operative_config.gin has all parameters, including machine-specific ones.
  """
  found = origin(parameter)
  return found is not None and found.source == "generated"


def place(parameter: str) -> str:
  """ " (place where a parameter is bound)" for a message, or ""."""
  found = origin(parameter)
  return f" ({found.place})" if found else ""


def value(parameter: str, default=None):
  """The value gin will pass, with macros resolved.

  Args:
    parameter: e.g. "run.mode".
    default: for a parameter that is not bound.

  Raises:
    UserError: if the value cannot be computed.
  """
  try:
    bound = gin.query_parameter(parameter)
  except ValueError:
    return default
  return evaluate(bound, parameter)


def evaluate(bound, parameter: str, shown: str = ""):
  """A bound value with its references evaluated, as gin passes it."""
  try:
    return copy.deepcopy(bound)  # as gin itself evaluates them
  except Exception as e:  # the function may raise anything
    raise errors.UserError(
      f"the gin binding {shown or parameter} = {bound} cannot be evaluated"
      f"{place(parameter)}: {errors.sentence(e)}"
    ) from None
