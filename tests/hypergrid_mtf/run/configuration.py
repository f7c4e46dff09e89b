"""Gin's configuration and a run, made as the command line makes them."""

import os

import gin
from absl import flags

from hypergrid_mtf import main  # noqa: F401  (defines the flags)
from hypergrid_mtf.run import checks, request, settle, t5_main

DATA = ("experiments/embedded.gin",)
EMBEDDED = ("models/nano.gin", "hypergrid/L2.gin", *DATA)


def make_run(*given: str, files=EMBEDDED, model_dir="/nowhere") -> request.Run:
  """A run from flags and gin bindings, as main makes it; not yet settled.

  Args:
    *given: flags, which begin with "--", and bindings.
    files: of --gin_file.
    model_dir: of --model_dir.
  """
  parsed = flags.FLAGS
  parsed.unparse_flags()
  for name in parsed:
    parsed[name].unparse()
  parsed(
    ["main", f"--model_dir={model_dir}"]
    + [f"--gin_file={os.fspath(file)}" for file in files]
    + [g if g.startswith("--") else f"--gin_param={g}" for g in given]
  )
  gin.clear_config()
  t5_main.parse(parsed)
  return request.Run(parsed)


def parse(*bindings: str, files=EMBEDDED) -> None:
  """Parses mesh_tensorflow's defaults, files and bindings, as main does."""
  make_run(*bindings, files=files)


def check(run: request.Run) -> request.Run:
  """Settles a run and checks it; returns it."""
  settle.settle(run)
  checks.check_run(run)
  return run
