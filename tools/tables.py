r"""The paper's tables from the results of runs.

  python -m tools.tables --results=runs/embedded/results --output_dir=tables

Reads the JSON files that `tools.sweep` or `tools.results` wrote, and nothing
else. Writes, as Markdown, LaTeX and CSV:

  scores       each task and average: mean, standard deviation, seeds
  published    the averages beside the published ones, with their source
  differences  each model minus the baseline, and the share of the gap to the
               single-task models that it closes, with 95 % intervals
  cost         parameters, time of training

the first three for T5's choice of a checkpoint (the best of each task on the
validation set, which flatters, and no interval knows of the choice) and for the
last one.
"""

import os

from absl import flags

from hypergrid_mtf.run import console, files, gin_files
from tools.experiments import document, load, notes, render

FLAGS = flags.FLAGS


def main(argv) -> None:
  """Prints and writes the tables.

  Args:
    argv: unused.
  """
  del argv
  files.check_output_dir(FLAGS.output_dir)
  if FLAGS.update:
    document.places(document.read(FLAGS.update), FLAGS.results)
  gin_files.import_modules(FLAGS.module_import)
  found, skipped = load.load(FLAGS.results)
  for sentence in skipped:
    console.say(sentence)
  made = render.tables(found, FLAGS.baseline, FLAGS.single, FLAGS.differences)
  for sentence in notes.notes(found, made, FLAGS.baseline, FLAGS.single):
    console.say(sentence)
  for name, frame in made.items():
    console.say(f"\n{name}\n\n{render.to_markdown(frame)}")
    render.write(frame, os.path.join(FLAGS.output_dir, name))
  console.say(f"\nwrote {len(made)} tables to {FLAGS.output_dir}")
  if FLAGS.update:
    text = document.update(document.read(FLAGS.update), FLAGS.results, made)
    files.write(FLAGS.update, text)
    console.say(f"updated {FLAGS.update}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("results", None, "A folder of results, or one result.")
  flags.DEFINE_string("output_dir", "tables", "Where the tables go.")
  flags.DEFINE_string("baseline", "vanilla", "The cell to compare with.")
  flags.DEFINE_string("single", notes.SINGLE, "The cell of one model a task.")
  flags.DEFINE_bool(
    "differences", True, "Whether to make them; they take a minute or two."
  )
  flags.DEFINE_string("update", None, "A document to put the tables into.")
  flags.mark_flag_as_required("results")


if __name__ == "__main__":
  define_flags()
  console.run(main)
