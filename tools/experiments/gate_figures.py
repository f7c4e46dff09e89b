"""Pictures of gates, for a file and for TensorBoard."""

import io
import os

import matplotlib.pyplot as plt
import numpy as np
import tensorflow.compat.v1 as tf
from matplotlib import backend_bases
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import console, files

# No window is opened.
plt.switch_backend("Agg")

_PICTURES = ("png", "pdf", "svg", "jpg", "jpeg", "eps", "tif", "tiff", "webp")
Gates = dict[str, dict[str, np.ndarray]]


def _maps(rows: dict[str, dict[str, np.ndarray]], size, label, named, **how):
  """A figure of small maps, a row for each key and a column for each layer."""
  layers = list(next(iter(rows.values())))
  below = 0.07 * max(map(len, named), default=0)  # inches of their letters
  drawn, axes = plt.subplots(
    len(rows),
    len(layers),
    figsize=(size * len(layers) + 2.5, size * len(rows) + 1.2 + below),
    squeeze=False,
    layout="constrained",
  )
  for i, (row, by_layer) in enumerate(rows.items()):
    for axis, layer in zip(axes[i], layers, strict=True):
      image = axis.imshow(by_layer[layer], **how)
      axis.set(xticks=[], yticks=[])
      if i == 0:
        axis.set_title(layer.replace("/block_", "\nblock "), fontsize=8)
    axes[i][0].set_ylabel(row, fontsize=8, rotation=0, ha="right")
  axes[0][0].set_yticks(range(len(named)), named, fontsize=7)
  for axis in axes[-1] if named else ():
    axis.set_xticks(range(len(named)), named, fontsize=7, rotation=90)
  drawn.colorbar(image, ax=axes, shrink=0.6, label=label)
  return drawn


def figure(gates: Gates):
  """A matplotlib Figure of the gates, one small map a task and layer.

  Args:
    gates: from `task_gates`.
  """
  grids = [g for by in gates.values() for g in by.values()]
  drawn = _maps(
    gates,
    1.3,
    "gate",
    (),
    vmin=min(0.0, *(g.min() for g in grids)),  # of a gate of the user's own
    vmax=max(1.0, *(g.max() for g in grids)),
    cmap="RdBu_r",
    aspect="auto",
  )
  drawn.suptitle(
    "Mean gate of each task (rows: regions of d_ff, columns: of d_model)",
    fontsize=9,
  )
  return drawn


def distances(gates: Gates) -> dict[str, np.ndarray]:
  """{layer: [tasks, tasks]}, the mean absolute difference of two tasks' gates.

  Args:
    gates: from `task_gates`.
  """
  found = {}
  for layer in next(iter(gates.values())):
    stacked = np.stack([by_layer[layer] for by_layer in gates.values()])
    apart = np.abs(stacked[:, None] - stacked[None])
    found[layer] = apart.mean(axis=(2, 3))
  return found


def distance_figure(gates: Gates):
  """A matplotlib Figure of `distances`, one matrix of tasks a layer."""
  apart = distances(gates)
  top = max(1e-6, *(d.max() for d in apart.values()))
  how = dict(vmin=0.0, vmax=top, cmap="viridis")
  return _maps({"": apart}, 1.7, "mean |difference|", list(gates), **how)


def picture(drawn, kind: str = "png", dpi: int = 130) -> bytes:
  """A figure as the bytes of a file; it is closed."""
  buffer = io.BytesIO()
  drawn.savefig(buffer, format=kind, dpi=dpi)
  plt.close(drawn)
  return buffer.getvalue()


def paths_of(output: str) -> tuple[str, str, str]:
  """What is written for one --output.

  Args:
    output: the path of the picture; without a suffix it is a PNG.

  Returns:
    (path of the picture, its kind, path of the numbers next to it)

  Raises:
    UserError: for a suffix that is not a picture's.
  """
  base, suffix = os.path.splitext(output)
  kind = suffix[1:].lower() or "png"
  writable = backend_bases.FigureCanvasBase.get_supported_filetypes()
  kinds = [k for k in _PICTURES if k in writable]
  if kind not in kinds:
    raise errors.UserError(
      f"--output={output} is the picture, which cannot be a {suffix} file: "
      f"give {base}.png, or one of {', '.join(kinds)} (the numbers go to "
      f"{base}.npz)."
    )
  return output, kind, f"{base}.npz"


def write(gates: Gates, model_dir: str, output: str) -> str:
  """Writes picture and numbers, and shows both pictures in TensorBoard.

  Args:
    gates: from `task_gates`.
    model_dir: of the model; TensorBoard's go to `<model_dir>/gates`.
    output: the path of the picture.

  Returns:
    the path of the numbers, one array `<task>/<layer>` each
  """
  output, kind, numbers = paths_of(output)
  arrays = {f"{t}/{n}": g for t, by in gates.items() for n, g in by.items()}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  files.write(numbers, buffer.getvalue())
  files.write(output, picture(figure(gates), kind))
  pictures = {
    "gates": picture(figure(gates)),
    "distances between tasks": picture(distance_figure(gates)),
  }
  try:
    _to_tensorboard(pictures, model_dir)
  except tf.errors.OpError as e:  # a folder of someone else's
    console.say(f"not shown in TensorBoard: {errors.sentence(e)}")
  return numbers


def _to_tensorboard(pictures: dict[str, bytes], model_dir: str) -> None:
  """Adds PNGs to what TensorBoard shows of a run, at its last step."""
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
