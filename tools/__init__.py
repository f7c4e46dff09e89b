"""Programs around a run, one job each; `python -m tools` lists them."""

import sys


def _runs_alone() -> bool:
  """Whether the program is one that needs no library, or has none yet."""
  argv = sys.orig_argv
  module = argv[argv.index("-m") + 1] if "-m" in argv[:-1] else ""
  return module in ("tools", "tools.tpu") or module.startswith("tools.cloud.")


if not _runs_alone():
  # Patches the stack, a program's after its flags; moves TensorFlow's banner.
  import hypergrid_mtf  # noqa: F401
