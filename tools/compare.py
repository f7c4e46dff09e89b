r"""Compares runs, task by task, from the files that their evaluation wrote.

  python -m tools.compare --runs=vanilla=DIR,L2=DIR --output=table.md

Reads the `eval` summaries of each model_dir at its last evaluated step, never
the model. Averages are T5's, by the groups of t5.evaluation.eval_utils: the
metrics of a task first (MNLI's two sets are one task), then the tasks of a
benchmark; a benchmark that is not whole says how much of it there is.
"""

from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, files
from tools.experiments import comparison

FLAGS = flags.FLAGS


def main(argv) -> None:
  """Prints the table.

  Args:
    argv: unused.
  """
  del argv
  runs = dict(r.split("=", 1) for r in FLAGS.runs or [] if "=" in r)
  if not runs or len(runs) != len(FLAGS.runs):
    raise errors.UserError(
      f"--runs={','.join(FLAGS.runs or [])} does not name runs: give "
      "NAME=MODEL_DIR, separated by commas, each name once."
    )
  if FLAGS.output:
    files.check_output(FLAGS.output)
  frame = comparison.table(runs, FLAGS.split)
  console.say(comparison.to_text(frame).to_string(index=False))
  for sentence in comparison.not_numbers(frame):
    console.say(sentence)
  if FLAGS.output:
    files.write(FLAGS.output, comparison.to_markdown(frame) + "\n")
    console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_list(
    "runs", None, "Runs to compare, each NAME=MODEL_DIR, separated by commas."
  )
  flags.DEFINE_string("split", "validation", "The split evaluated on.")
  flags.DEFINE_string(
    "output", None, "Also write the table to this Markdown file."
  )


if __name__ == "__main__":
  define_flags()
  console.run(main)
