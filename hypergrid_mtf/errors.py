"""The error that a user can correct: one sentence, no traceback."""


class UserError(ValueError):
  """What the user gave is wrong, and the message says how to correct it.

  The message is one sentence: what is wrong, the value, where it came from, and
  what would be right. Command lines print it and exit with status 2
  (`hypergrid_mtf.run.console.run`); library callers can catch it as a
  ValueError.
  """


def sentence(error: BaseException) -> str:
  """An error's message on one line, without the call stack that gin appends."""
  return " ".join(str(error).split("\n  In call to configurable")[0].split())
