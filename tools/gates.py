r"""Draws which regions of the feed-forward weights each task opens and closes.

  python -m tools.gates --model_dir=DIR --output=gates.png

Rebuilds the model from `<model_dir>/operative_config.gin` and its last
checkpoint, runs it on validation examples of each task, and averages the gates
of each layer over the examples. The numbers are written next to the picture as
`.npz`, one array `<task>/<stack>/block_<n> [grid_rows, grid_cols]` per layer;
TensorBoard also shows the pictures.
"""

import io
import os

from absl import flags

from hypergrid_mtf.run import console, t5_flags

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("model_dir", "module_import", "t5_tfds_data_dir")
  flags.DEFINE_string("output", "gates.png", "The picture to write.")
  flags.DEFINE_integer("examples", 32, "Examples per task.", lower_bound=1)
  flags.DEFINE_string("split", "validation", "The split to read.")


console.read_flags(__name__, define_flags, ["model_dir", "t5_tfds_data_dir"])

import matplotlib.pyplot as plt
import numpy as np
import tensorflow.compat.v1 as tf
from matplotlib import backend_bases
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors, gate_figures, task_gates
from hypergrid_mtf.run import files

plt.switch_backend("Agg")  # no window is opened
_PICTURES = ("png", "pdf", "svg", "jpg", "jpeg", "eps", "tif", "tiff", "webp")


def paths_of(output: str) -> tuple[str, str, str]:
  """The files that are written for an --output.

  Args:
    output: the path of the picture; a PNG without a suffix.

  Returns:
    (path of the picture, its kind, path of the numbers next to it)

  Raises:
    UserError: for a suffix of another kind of file.
  """
  base, suffix = os.path.splitext(output)
  kind = suffix[1:].lower() or "png"
  writable = backend_bases.FigureCanvasBase.get_supported_filetypes()
  kinds = [k for k in _PICTURES if k in writable]
  if kind not in kinds:
    raise errors.UserError(
      f"--output={output} is for the picture, which cannot be a {suffix} file: "
      f"give {base}.png, or one of {', '.join(kinds)} (the numbers go to "
      f"{base}.npz)."
    )
  return output, kind, f"{base}.npz"


def write(gates: task_gates.Gates, model_dir: str, output: str) -> str:
  """Writes the picture and the numbers, and both pictures to TensorBoard.

  Args:
    gates: from `task_gates`.
    model_dir: of the model; TensorBoard's files go to `<model_dir>/gates`.
    output: the path of the picture.

  Returns:
    the path of the numbers, one array `<task>/<layer>` each
  """
  output, kind, numbers = paths_of(output)
  arrays = {f"{t}/{n}": g for t, by in gates.items() for n, g in by.items()}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  files.write(numbers, buffer.getvalue())
  figure = gate_figures.figure(gates)
  png = gate_figures.picture(figure)
  files.write(
    output, png if kind == "png" else gate_figures.picture(figure, kind)
  )
  pictures = {
    "gates": png,
    "distances between tasks": gate_figures.picture(
      gate_figures.distance_figure(gates)
    ),
  }
  try:
    _to_tensorboard(pictures, model_dir)
  except tf.errors.OpError as e:  # the folder may be someone else's
    console.say(f"not shown in TensorBoard: {errors.sentence(e)}")
  return numbers


def _to_tensorboard(pictures: dict[str, bytes], model_dir: str) -> None:
  """Adds PNGs to a run's TensorBoard, at its last step."""
  step = utils.get_step_from_checkpoint_path(
    checkpoints.latest_checkpoint(model_dir)
  )
  values = [
    tf.Summary.Value(tag=tag, image=tf.Summary.Image(encoded_image_string=png))
    for tag, png in pictures.items()
  ]
  with tf.Graph().as_default():
    writer = tf.summary.FileWriter(os.path.join(model_dir, "gates"))
    writer.add_summary(tf.Summary(value=values), step)
    writer.close()


def main(argv) -> None:
  """Draws the gates of one model."""
  del argv
  paths_of(FLAGS.output)
  files.check_output(FLAGS.output)
  gates = task_gates.task_gates(
    FLAGS.model_dir,
    FLAGS.examples,
    FLAGS.split,
    FLAGS.t5_tfds_data_dir,
    FLAGS.module_import,
  )
  numbers = write(gates, FLAGS.model_dir, FLAGS.output)
  console.say(
    f"wrote {FLAGS.output} and {numbers}, and to TensorBoard "
    f"({os.path.join(FLAGS.model_dir, 'gates')})"
  )


if __name__ == "__main__":
  console.run(main)
