"""Command lines for programs that run without absl."""

import argparse
import sys
from collections.abc import Callable


class UserError(ValueError):
  """An error that the user can correct: one sentence, exit status 2."""


class Parser(argparse.ArgumentParser):
  """Reports errors in one sentence; keeps the words after -- as `rest`."""

  def __init__(self, **kwargs):
    kwargs["formatter_class"] = argparse.RawDescriptionHelpFormatter
    super().__init__(allow_abbrev=False, **kwargs)

  def parse_args(self, args, namespace=None):  # type: ignore[override]
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    found = super().parse_args(words[:end], namespace)
    found.rest = words[end + 1 :]
    return found

  def error(self, message):
    raise UserError(f"{message}; see --help.")


def run_program(main: Callable[[list[str]], int]) -> None:
  """Runs `main` on the command line and exits with its status."""
  try:
    sys.exit(main(sys.argv[1:]))
  except UserError as e:
    print(f"error: {e}", file=sys.stderr)
    sys.exit(2)
