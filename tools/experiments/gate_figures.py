"""Pictures of gates, for a file and for TensorBoard."""

import io
import os

import matplotlib.pyplot as plt
import numpy as np
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import console, files

# No window is opened.
plt.switch_backend("Agg")

_PICTURES = ("png", "pdf", "svg", "jpg", "jpeg", "eps", "tif", "tiff", "webp")


def figure(gates: dict[str, dict[str, np.ndarray]]):
  """Draws one small map a task and layer.

  Args:
    gates: from `task_gates`.

  Returns:
    a matplotlib Figure
  """
  tasks = list(gates)
  names = list(next(iter(gates.values())))
  drawn, axes = plt.subplots(
    len(tasks),
    len(names),
    figsize=(1.5 * len(names) + 2.4, 1.25 * len(tasks) + 1.2),
    squeeze=False,
    layout="constrained",
  )
  grids = [g for by in gates.values() for g in by.values()]
  low = min(0.0, *(g.min() for g in grids))  # of a gate of the user's own
  top = max(1.0, *(g.max() for g in grids))
  for row, task in zip(axes, tasks, strict=True):
    for axis, name in zip(row, names, strict=True):
      image = axis.imshow(
        gates[task][name], vmin=low, vmax=top, cmap="RdBu_r", aspect="auto"
      )
      axis.set_xticks([])
      axis.set_yticks([])
      if task == tasks[0]:
        axis.set_title(name.replace("/block_", "\nblock "), fontsize=8)
      if name == names[0]:
        axis.set_ylabel(
          task, fontsize=8, rotation=0, horizontalalignment="right"
        )
  drawn.colorbar(image, ax=axes, shrink=0.6, label="gate")
  drawn.suptitle(
    "Mean gate of each task (rows: regions of d_ff, columns: of d_model)",
    fontsize=9,
  )
  return drawn


def distances(
  gates: dict[str, dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """How far the gates of two tasks are apart.

  Args:
    gates: from `task_gates`.

  Returns:
    {layer: [tasks, tasks]}, the mean absolute difference of their gates
  """
  names = list(next(iter(gates.values())))
  found = {}
  for name in names:
    stacked = np.stack([by_layer[name] for by_layer in gates.values()])
    apart = np.abs(stacked[:, None] - stacked[None])
    found[name] = apart.mean(axis=(2, 3))
  return found


def distance_figure(apart: dict[str, np.ndarray], tasks: list[str]):
  """Draws one matrix of tasks a layer.

  Args:
    apart: from `distances`.
    tasks: their names, in the same order.

  Returns:
    a matplotlib Figure
  """
  drawn, axes = plt.subplots(
    1,
    len(apart),
    figsize=(1.7 * len(apart) + 2.6, 2.9),
    squeeze=False,
    layout="constrained",
  )
  top = max(1e-6, *(d.max() for d in apart.values()))
  for axis, (name, matrix) in zip(axes[0], apart.items(), strict=True):
    image = axis.imshow(matrix, vmin=0.0, vmax=top, cmap="viridis")
    axis.set_title(name.replace("/block_", "\nblock "), fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
  axes[0][0].set_yticks(range(len(tasks)), tasks, fontsize=7)
  drawn.colorbar(image, ax=axes, shrink=0.6, label="mean |difference|")
  return drawn


def _picture(drawn, kind: str = "png", dpi: int = 130) -> bytes:
  buffer = io.BytesIO()
  drawn.savefig(buffer, format=kind, dpi=dpi)
  return buffer.getvalue()


def paths_of(output: str) -> tuple[str, str, str]:
  """What is written for one --output.

  Args:
    output: the path of the picture; without a suffix it is a PNG.

  Returns:
    (path of the picture, its kind, path of the numbers beside it)

  Raises:
    UserError: for a suffix that is not a picture's.
  """
  base, suffix = os.path.splitext(output)
  kind = suffix[1:].lower() or "png"
  drawn = plt.figure()
  writable = drawn.canvas.get_supported_filetypes()
  plt.close(drawn)
  kinds = [k for k in _PICTURES if k in writable]
  if kind not in kinds:
    raise errors.UserError(
      f"--output={output} is the picture, which cannot be a {suffix} file: "
      f"give {base}.png, or one of {', '.join(kinds)} (the numbers go to "
      f"{base}.npz)."
    )
  return output, kind, f"{base}.npz"


def to_tensorboard(pictures: dict[str, bytes], model_dir: str) -> None:
  """Adds pictures to what TensorBoard shows of a run, at its last step.

  Args:
    pictures: {tag: PNG}.
    model_dir: of the run; they go to `<model_dir>/gates`.
  """
  step = utils.get_step_from_checkpoint_path(
    checkpoints.latest_checkpoint(model_dir)
  )
  with tf.Graph().as_default():
    writer = tf.summary.FileWriter(os.path.join(model_dir, "gates"))
    for tag, png in pictures.items():
      image = tf.Summary.Image(encoded_image_string=png)
      value = tf.Summary.Value(tag=tag, image=image)
      writer.add_summary(tf.Summary(value=[value]), step)
    writer.close()


def write(
  gates: dict[str, dict[str, np.ndarray]], model_dir: str, output: str
) -> str:
  """Writes picture and numbers, and shows both pictures in TensorBoard.

  Args:
    gates: from `task_gates`.
    model_dir: of the model.
    output: the path of the picture.

  Returns:
    the path of the numbers, one array `<task>/<layer>` each
  """
  output, kind, numbers = paths_of(output)
  arrays = {f"{t}/{n}": g for t, by in gates.items() for n, g in by.items()}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  files.write(numbers, buffer.getvalue())
  drawn = {
    "gates": figure(gates),
    "distances between tasks": distance_figure(distances(gates), list(gates)),
  }
  files.write(output, _picture(drawn["gates"], kind))
  pictures = {tag: _picture(f) for tag, f in drawn.items()}
  for each in drawn.values():
    plt.close(each)
  try:
    to_tensorboard(pictures, model_dir)
  except tf.errors.OpError as e:  # a folder of someone else's
    console.say(f"not shown in TensorBoard: {errors.sentence(e)}")
  return numbers
