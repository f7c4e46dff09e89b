r"""Checks a run without starting it; takes the flags of `hypergrid_mtf.main`.

  python -m tools.check --model_dir=runs/l2 --gin_file=models/base.gin …

Checks everything that can be known before a graph is built: gin files and
bindings, mixture, data, vocabulary, lengths, grid, mesh, disk, checkpoints,
write access. An error is one sentence, with exit status 2. Unusual settings,
and what a warm start loads, are only printed. Nothing but a lock is written to
the folder of the run. `hypergrid_mtf.main --dry_run` checks the same and then
trains one step.
"""

from hypergrid_mtf.run import console, run_flags

define_flags = run_flags.define
console.read_flags(__name__, define_flags, ["vocabulary", "t5_tfds_data_dir"])

from hypergrid_mtf import main as program


def main(argv) -> int | None:
  """Makes the checks; returns the exit status."""
  return program.main(argv, only_check=True)


if __name__ == "__main__":
  console.run(main)
