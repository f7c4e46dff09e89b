"""What was given on the command line or in gin files, and nothing reads.

Gin takes any name as a macro and any name as a scope, so that a misspelled one
is a new one, and the run continues as if it were not there.
"""

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, gin_statements

# t5.models.utils.get_vocabulary asks gin for it by name.
_READ_BY_CODE = {"MIXTURE_NAME"}
# Entered by code of mesh_tensorflow.transformer.transformer.
_SCOPES_OF_CODE = {"encoder", "decoder", "student", "teacher"}


def check_macros() -> None:
  """Checks that each macro the user defines is one that something reads.

  Files that come with t5 or this project, and those that gin wrote, define
  macros for others to use. One in a file of the user's may do so too: it is
  refused if it looks like a misspelling, and named otherwise.

  Raises:
    UserError: naming the macro, where it is, and the one that is near.
  """
  written = gin_statements.statements()
  read = set(_READ_BY_CODE).union(*(s.macros for s in written))
  bindable = {
    f"{s.selector}.{s.parameter}": s.parameter for s in written if s.parameter
  }
  for statement in written:
    name = gin_statements.macro_name(statement)
    if statement.parameter or name in read:
      continue
    if statement.source not in ("flag", "user"):
      continue
    near = gin_statements.nearest(name, sorted(read))
    if not near:  # `batch_size = 8` for `run.batch_size = 8`
      near = next((k for k, v in bindable.items() if v == name), None)
    if statement.source == "flag" or near:
      hint = (
        f": did you mean {near}?"
        if near
        else (": a binding has the form name.parameter = value.")
      )
      raise errors.UserError(
        f"{name} is a macro that nothing reads ({statement.where}){hint}"
      )
    console.say(f"nothing reads the macro {name} ({statement.where})")


def check_scopes() -> None:
  """Checks that each scope the user binds something in is one of the run's.

  Raises:
    UserError: naming the scope and the one that is near.
  """
  written = gin_statements.statements()
  known = set(_SCOPES_OF_CODE).union(*(s.scopes for s in written))
  for scope in [s.scope for s in written if s.source == "shipped"]:
    known.update(scope.split("/"))
  for statement in written:
    if not statement.parameter or statement.source not in ("flag", "user"):
      continue
    for scope in statement.scope.split("/"):
      near = gin_statements.nearest(scope, sorted(known))
      if scope in known or not (scope and near):
        continue  # code of the user's may enter a scope of its own
      raise errors.UserError(
        f"{scope}/ is a scope that nothing of the run is in "
        f"({statement.where}): did you mean {near}/?"
      )
