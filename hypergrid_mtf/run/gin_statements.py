"""The bindings of gin files and flags as they were written.

Gin keeps of a configuration what each parameter is bound to at last. Here is
where that was written, and what else was.
"""

import dataclasses
import difflib
import io
import os
import re
from collections.abc import Iterable, Iterator

from gin import config_parser
from mesh_tensorflow.transformer import utils

_statements: list[
  "Statement"
] = []  # of the last parsing, as gin's own configuration is


@dataclasses.dataclass(frozen=True)
class Statement:
  """One binding as it was written, whether or not a later one replaced it.

  Attributes:
    scope: "encoder" of `encoder/run.mode = …`, or "".
    selector: "run" of `run.mode = …`; the name of a macro.
    parameter: "mode" of `run.mode = …`; "" for a macro.
    macros: names of the macros that its value refers to.
    scopes: of the references in its value.
    where: the flag, or the file and the line.
    source: "flag", "user", "shipped" (with t5 or this project) or "generated"
      (by gin itself, such as an operative_config.gin).
  """

  scope: str
  selector: str
  parameter: str
  macros: frozenset[str]
  scopes: frozenset[str]
  where: str
  source: str


class References(config_parser.ParserDelegate):
  """Collects what a value refers to, without looking it up."""

  def __init__(self):
    self.macros: set[str] = set()
    self.scopes: set[str] = set()

  def configurable_reference(self, scoped_configurable_name, evaluate):
    self.scopes.update(scoped_configurable_name.split("/")[:-1])

  def macro(self, macro_name):
    self.macros.add(macro_name)


def clear() -> None:
  """Forgets the statements of an earlier parsing."""
  _statements.clear()


def add(text: str, file: str | None, searched: Iterable[str]) -> None:
  """Takes the statements of one file or flag.

  Args:
    text: of it.
    file: its path, or None for a --gin_param.
    searched: folders where gin looks for files, which come with a package.
  """
  _statements.extend(_read(text, file, searched))


def source_of(file: str | None, text: str, searched: Iterable[str] = ()) -> str:
  """Who wrote a file or flag: see `Statement.source`."""
  if not file:
    return "flag"
  defaults = os.path.join(os.path.dirname(utils.__file__), "gin")
  for shipped in (defaults, *searched):
    if os.path.abspath(file).startswith(shipped + os.sep):
      return "shipped"
  # The heads that gin writes over the parts of a configuration.
  if re.search(r"^# (Macros|Parameters for \S+):\n# ={70,}$", text, re.M):
    return "generated"
  return "user"


def where(
  file: str | None, text: str, line: int | None, searched: Iterable[str] = ()
) -> str:
  """The flag with its text, or the file and line."""
  if not file:
    return f'--gin_param="{text.strip()}"'
  for path in searched:
    if os.path.abspath(file).startswith(path + os.sep):
      file = os.path.relpath(file, path)  # as --gin_file takes it
  return f"{file}, line {line}" if line else file


def _read(text, file, searched) -> Iterator[Statement]:
  stream = io.StringIO(text)
  references = References()
  source = source_of(file, text, searched)
  for statement in config_parser.ConfigParser(stream, references):
    if isinstance(statement, config_parser.BindingStatement):
      yield Statement(
        statement.scope,
        statement.selector,
        statement.arg_name,
        frozenset(references.macros),
        frozenset(references.scopes),
        where(file, text, statement.location.line_num, searched),
        source,
      )
    # A block's bindings are read at once: its later ones lose theirs, which
    # the first one has.
    references.macros.clear()
    references.scopes.clear()


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


def statements() -> tuple[Statement, ...]:
  """Every binding of the last parsing, in order, also replaced ones."""
  return tuple(_statements)


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
      macros = [
        s
        for s in reversed(_statements)
        if not s.parameter and macro_name(s) in statement.macros
      ]
      return macros[0] if macros else statement
  return None


def macro_name(statement: Statement) -> str:
  """The name of a macro as `%name` refers to it, with its scope."""
  scope = f"{statement.scope}/" if statement.scope else ""
  return scope + statement.selector


def told(parameter: str) -> str:
  """ " (where a parameter is bound)", for a sentence about it, or ""."""
  found = origin(parameter)
  return f" ({found.where})" if found else ""
