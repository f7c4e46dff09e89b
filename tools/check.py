r"""Checks a run without starting it: flags are those of `hypergrid_mtf.main`.

  python -m tools.check --model_dir=runs/l2 --gin_file=models/base.gin …

Everything that can be known before a graph is built: gin files and bindings,
mixture, data, vocabulary, lengths, grid, mesh, disk, checkpoints, write access.
What is wrong is one sentence, with exit status 2; what is only unusual is said,
and so is what a warm start takes from its checkpoint. Nothing is written in the
folder of the run but its lock. `hypergrid_mtf.main --dry_run` checks the same
and then trains one step.
"""

from hypergrid_mtf.run import console, run_flags

define_flags = run_flags.define
console.read_flags(__name__, define_flags, ["vocabulary", "t5_tfds_data_dir"])

from hypergrid_mtf import main as program


def main(argv) -> int | None:
  """Checks; returns the exit status."""
  return program.main(argv, only_check=True)


if __name__ == "__main__":
  console.run(main)
