r"""Draws which regions of the feed-forward weights each task opens and closes.

  python -m tools.gates --model_dir=DIR --output=gates.png

The model is rebuilt from `<model_dir>/operative_config.gin` and its last
checkpoint, run on validation examples of each task, and the gates of each layer
are averaged over the examples. The numbers are written beside the picture as
`.npz`, one array `<task>/<stack>/block_<n> [grid_rows, grid_cols]` a layer;
TensorBoard shows the pictures too.
"""

import os

from absl import flags

from hypergrid_mtf.run import console, t5_flags

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("model_dir", "module_import", "t5_tfds_data_dir")
  flags.DEFINE_string("output", "gates.png", "The picture to write.")
  flags.DEFINE_integer("examples", 32, "Examples a task.", lower_bound=1)
  flags.DEFINE_string("split", "validation", "The split to read.")


console.read_flags(__name__, define_flags, ["model_dir", "t5_tfds_data_dir"])

import seqio
import tensorflow.compat.v1 as tf

from hypergrid_mtf.run import config, files
from tools.experiments import gate_figures, task_gates


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


if __name__ == "__main__":
  console.run(main)
