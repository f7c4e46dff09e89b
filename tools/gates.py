r"""Draws which regions of the feed-forward weights each task opens and closes.

  python -m tools.gates --model_dir=DIR --output=gates.png

The model is rebuilt from `<model_dir>/operative_config.gin` and its last
checkpoint, run on validation examples of each task, and the gates of each layer
are averaged over the examples. The numbers are written beside the picture as
`.npz`, one array `<task>/<stack>/block_<n> [grid_rows, grid_cols]` a layer;
TensorBoard shows the pictures too.
"""

import os

import seqio
import tensorflow.compat.v1 as tf
from absl import flags
from t5.models import mesh_transformer_main  # noqa: F401  (its flags)

from hypergrid_mtf.run import config, console, files
from tools.experiments import gate_figures, task_gates

FLAGS = flags.FLAGS  # --model_dir and --t5_tfds_data_dir are t5's own


def main(argv) -> None:
  """Draws the gates of one model."""
  del argv
  tf.disable_v2_behavior()
  gate_figures.paths_of(FLAGS.output)
  files.check_output(FLAGS.output)
  config.import_modules(FLAGS.module_import)
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  gates = task_gates.task_gates(
    FLAGS.model_dir, FLAGS.examples, FLAGS.split, FLAGS.t5_tfds_data_dir
  )
  numbers = gate_figures.write(gates, FLAGS.model_dir, FLAGS.output)
  console.say(
    f"wrote {FLAGS.output} and {numbers}, and to TensorBoard "
    f"({os.path.join(FLAGS.model_dir, 'gates')})"
  )


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("output", "gates.png", "The picture to write.")
  flags.DEFINE_integer("examples", 32, "Examples a task.", lower_bound=1)
  flags.DEFINE_string("split", "validation", "The split to read.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
