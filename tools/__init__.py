"""Programs around a run, one per job; `python -m tools` lists them."""

import sys


def _runs_alone() -> bool:
  """Whether the program needs no libraries, or imports them later itself."""
  argv = sys.orig_argv
  module = argv[argv.index("-m") + 1] if "-m" in argv[:-1] else ""
  return module in ("tools", "tools.tpu") or module.startswith("tools.cloud.")


if not _runs_alone():
  # Patches the libraries (in a program, after its flags) and moves TensorFlow's
  # banner.
  import hypergrid_mtf  # noqa: F401
