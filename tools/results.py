r"""One JSON for a run: what it was, and everything its evaluation measured.

  python -m tools.results --model_dir=runs/l2 --cell=L2 --output=l2-seed0.json

`tools.sweep` writes one for each of its runs; `tools.tables` and `tools.report`
read nothing else. Read are the files that training and evaluation wrote:
`operative_config.gin`, the event files, and t5's predictions and targets.

The file is standard JSON, which has no nan. A metric that has no value, such as
the correlation of a model that gives one answer to every example, is the text
"nan" ("inf" and "-inf" likewise): it was evaluated, and is not a number. Files
of earlier versions have the word NaN, which Python's reader also takes;
`number` reads both.
"""

from absl import flags
from t5.models import mesh_transformer_main  # noqa: F401  (--model_dir)

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, files
from tools.experiments import result

FLAGS = flags.FLAGS


def main(argv) -> None:
  """Writes the JSON of one run.

  Args:
    argv: unused.
  """
  del argv
  files.check_output(FLAGS.output)
  if not FLAGS.cell.strip() or "/" in FLAGS.cell:
    raise errors.UserError(
      f"--cell={FLAGS.cell} is not the name of a column of a table: give a "
      "word without /, the same for all seeds (and tasks) of a model."
    )
  found = result.collect(
    FLAGS.model_dir, FLAGS.cell, FLAGS.run_seed, FLAGS.split
  )
  files.write(FLAGS.output, result.to_text(found))
  console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("cell", "run", "What the run is one seed of.")
  flags.DEFINE_integer("run_seed", None, "The --seed it was trained with.")
  flags.DEFINE_string("split", "validation", "The split evaluated on.")
  flags.DEFINE_string("output", "result.json", "The file to write.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
