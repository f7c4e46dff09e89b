"""What gin finds wrong in a file or a flag, in one sentence that shows it."""

import importlib
import inspect
import re
import tokenize
from collections.abc import Iterable

import gin
from gin import config_parser

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_statements

_FORM = "a binding has the form name.parameter = value"


def explain(
  error: Exception, text: str, file: str | None, searched: Iterable[str]
) -> str:
  """What gin found wrong, with the flag or the file and line it is in.

  Args:
    error: that gin raised.
    text: of the file or flag.
    file: its path, or None for a --gin_param.
    searched: folders where gin looks for files.

  Returns:
    one sentence
  """
  message, _, location = str(error).partition("\n  In ")
  found = re.search(r" line (\d+)\n", location)
  line = int(found[1]) if found else None
  if isinstance(error, tokenize.TokenError):
    message, (line, _) = error.args
    message = "a bracket or a quote is not closed"
  elif isinstance(error, OSError):
    message = f"the included file is not found: {not_found(error)}"
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
    message = _FORM
  elif "Expected newline" in message or "Unable to parse value" in message:
    message = (
      "this is not a value that gin can read: texts stand in one pair of "
      "quotes, and nothing follows the value"
    )
  message = " ".join(message.split()).rstrip(".")
  place = _place(file, text, line, searched)
  return _ended(f"{place} is wrong: {message}{_hint(message)}")


def _place(file, text, line, searched):
  place = gin_statements.where(file, text, line, searched)
  if not file:
    return place
  lines = text.split("\n")
  shown = lines[line - 1].strip() if line and line <= len(lines) else ""
  return f"the gin file {place}" + (f" ({shown})" if shown else "")


def _ended(sentence: str) -> str:
  return sentence if sentence.endswith("?") else f"{sentence}."


def _hint(message: str) -> str:
  """The known name that is nearest to the one that gin does not know."""
  found = re.search(
    r"Configurable '(.+)' doesn't have a parameter named '(\w+)'", message
  )
  if found:
    signature = inspect.signature(gin.get_configurable(found[1]))
    return gin_statements.did_you_mean(found[2], signature.parameters)
  found = re.search(
    r"No configurable matching (?:reference '@|')([\w.]+)", message
  )
  if found:
    known = []
    for selector, _ in gin.config._REGISTRY.items():
      parts = selector.split(".")
      known += [".".join(parts[i:]) for i in range(len(parts))]
    return gin_statements.did_you_mean(found[1], known)
  return ""


def not_found(error: OSError) -> str:
  """What file gin did not find, without the places where it looked."""
  return str(error).splitlines()[0].split(". Searched config paths")[0]


def check_imports(text: str, file: str | None, searched: Iterable[str]) -> None:
  """Checks the imports that t5 has gin skip without a word when they fail.

  It does so for modules that it once had and that old configurations name.

  Args:
    text: of the file or flag.
    file: its path, or None for a --gin_param.
    searched: folders where gin looks for files.

  Raises:
    UserError: naming the flag, or the file and line.
  """
  if gin_statements.source_of(file, text, searched) not in ("flag", "user"):
    return
  references = gin_statements.References()
  for statement in config_parser.ConfigParser(text, references):
    if not isinstance(statement, config_parser.ImportStatement):
      continue
    package = statement.module.partition(".")[0]
    if package in ("__gin__", "mesh_tensorflow", "seqio", "t5"):
      continue
    try:
      importlib.import_module(
        statement.module.rpartition(".")[0]
        if statement.is_from
        else statement.module
      )
    except Exception as e:  # whatever a module may raise
      place = _place(file, text, statement.location.line_num, searched)
      raise errors.UserError(
        f"{place} is wrong: the import fails: {e}."
      ) from None


def check_references() -> None:
  """Checks that every reference and macro in the configuration is defined.

  Gin does so when t5 closes the configuration, with a traceback.

  Raises:
    UserError: naming the binding, and the defined name that is near.
  """
  config = gin.config._CONFIG
  defined = {scope for scope, selector in config if selector == "gin.macro"}
  is_macro = gin.get_configurable(gin.config.macro)
  for (scope, selector), parameters in config.items():
    for name, value in parameters.items():
      key = gin.config._format_binding_key(scope, selector, name)
      if key == "run.vocabulary":
        continue  # t5 binds it again
      if selector == "gin.macro":
        key = scope
      told = gin_statements.told(key)
      for macro in gin.config.iterate_references(value, to=is_macro):
        undefined = "/".join(macro.scopes)
        if macro.config_key not in config:
          raise errors.UserError(
            _ended(
              f"{key} = {value} refers to the macro {undefined}{told}, "
              "which no gin file or --gin_param defines"
              f"{gin_statements.did_you_mean(undefined, defined)}"
            )
          )
      one = {(scope, selector): {name: value}}
      try:
        gin.config.find_unknown_references_hook(one)
        gin.config.find_missing_overrides_hook(one)
      except ValueError as e:
        raise errors.UserError(
          f"{key} = {value} cannot be used{told}: {errors.sentence(e)}"
        ) from None
