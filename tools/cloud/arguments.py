"""Command lines of programs that run where absl is not installed."""

import argparse

from tools.cloud import kinds


class Parser(argparse.ArgumentParser):
  """Says what is wrong in one sentence; keeps what stands after -- whole.

  The latter is the attribute `rest` of what is parsed.
  """

  def __init__(self, **kwargs):
    kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
    super().__init__(allow_abbrev=False, **kwargs)

  def parse_args(self, args, namespace=None):  # type: ignore[override]
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    found = super().parse_args(words[:end], namespace)
    found.rest = words[end + 1 :]
    return found

  def error(self, message):
    raise kinds.UserError(f"{message}; see --help.")
