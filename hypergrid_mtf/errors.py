"""Errors that a user can correct: one sentence, no traceback."""

import re


class UserError(ValueError):
  """Wrong input from the user; the message says how to correct it.

  The message is one sentence: what is wrong, the value, where it came from, and
  what would be right. Command lines print it and exit with status 2
  (`hypergrid_mtf.run.console.run`); library code can catch it as a ValueError.
  """


_UNWRITTEN = re.compile(
  "No space left on device|Disk quota exceeded|Read-only file system"
)


def describe_unwritten(error: BaseException) -> str | None:
  """The reason if a disk is full or read-only, whichever library raised it."""
  found = _UNWRITTEN.search(str(error))
  return found and found[0]


_UNREACHABLE = re.compile(r"HTTP request\b.*(gs://\S+)", re.S)
_DETAILS = re.compile(r"error details: (.*)|HTTP response code (\d+)")


def describe_unreachable(error: BaseException) -> str | None:
  """A sentence if TensorFlow could not reach a path in the cloud."""
  found = _UNREACHABLE.search(str(error))
  if not found:
    return None
  details = _DETAILS.search(str(error))
  why = details and (details[1] or f"HTTP response code {details[2]}")
  return (
    f"{found[1]} cannot be reached{f' ({why.strip()})' if why else ''}: this "
    "needs a network and, for a bucket that is not public, gcloud auth "
    "application-default login."
  )


def sentence(error: BaseException) -> str:
  """An error's message on one line, without the call stack that gin appends."""
  return " ".join(str(error).split("\n  In call to configurable")[0].split())
