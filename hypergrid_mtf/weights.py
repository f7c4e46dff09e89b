"""Reads the weights of a checkpoint as NumPy arrays, and writes them."""

import os
from collections.abc import Iterable

import numpy as np
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors

EMBEDDING = "shared/embedding"
Weights = dict[str, np.ndarray]


def read(checkpoint: str, shapes: dict[str, tuple[int, ...]]) -> Weights:
  """Reads the weights of a model, including under old names.

  Args:
    checkpoint: its prefix.
    shapes: of the model's variables.

  Returns:
    {the model's variable name: value}, in the checkpoint's type

  Raises:
    UserError: if it is of another model, or a value cannot be read.
  """
  origin = "the model's own"
  found = checkpoints.reader_shapes(checkpoint, origin)
  checkpoints.use_legacy_names(found, shapes)
  warm = checkpoints.warm_start(found, shapes)
  wrong = [*warm.reshaped, *warm.missing, *warm.fresh, *warm.unused]
  if wrong:
    raise errors.UserError(
      f"the checkpoint {checkpoint} does not match the operative_config.gin "
      f"next to it: {wrong[0]} differs; put back the file that the training "
      "wrote, or give its --vocabulary."
    )
  names = {n: utils.init_checkpoint_variable_mapping(n) for n in shapes}
  try:
    values = read_all(checkpoint, names.values())
    return {name: values[there] for name, there in names.items()}
  except (ValueError, tf.errors.OpError):
    checkpoints.check_intact(checkpoint, origin, read_values=True)
    raise


def read_all(checkpoint: str, names: Iterable[str]) -> Weights:
  """Reads variables of a checkpoint by their names there."""
  reader = tf.train.load_checkpoint(checkpoint)
  return {name: reader.get_tensor(name) for name in names}


def write(folder: str, step: int, weights: Weights) -> str:
  """Writes a checkpoint like a training's, without optimizer slots.

  Args:
    folder: an existing folder.
    step: the global step.
    weights: {variable: value}.

  Returns:
    the checkpoint's prefix
  """
  path = checkpoints.path_of(folder, step)
  values = {**weights, checkpoints.GLOBAL_STEP: np.array(step, np.int64)}
  with tf.Graph().as_default(), tf.Session() as session:
    # Not constants, because a graph has at most 2 GB.
    tensors = [tf.placeholder(v.dtype, v.shape) for v in values.values()]
    save = tf.raw_ops.SaveV2(
      prefix=path,
      tensor_names=list(values),
      shape_and_slices=[""] * len(values),
      tensors=tensors,
    )
    session.run(save, dict(zip(tensors, values.values(), strict=True)))
  name = os.path.basename(path)
  # With a relative folder, TensorFlow would resolve the name relative to it.
  whole = folder if "://" in folder else os.path.abspath(folder)
  tf.train.update_checkpoint_state(whole, name, [name])
  return path


def describe_size(weights: Weights) -> str:
  """The number of parameters, and their size."""
  count = sum(value.size for value in weights.values())
  size = sum(value.nbytes for value in weights.values())
  return f"{count:,} parameters, {size / 1e6:.1f} MB"
