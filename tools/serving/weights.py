"""The weights of a checkpoint as NumPy arrays, and a checkpoint of such."""

import os
from collections.abc import Iterable

import numpy as np
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoint_files, checkpoints, errors

EMBEDDING = "shared/embedding"
Weights = dict[str, np.ndarray]


def chosen(model_dir: str, step: int | None, flag: str = "--step") -> str:
  """A checkpoint of a trained model, whole as far as its files tell.

  Args:
    model_dir: its folder.
    step: which; None for the latest.
    flag: where the step came from.

  Returns:
    the checkpoint's prefix

  Raises:
    UserError: if there is none, or it is damaged.
  """
  path = checkpoints.latest_checkpoint(model_dir)
  if path is None:
    raise errors.UserError(
      f"--model_dir={model_dir} holds no checkpoint: give the folder of a "
      "model that was trained."
    )
  latest = step is None
  if step is not None:
    path = checkpoint_files.path_of(model_dir, step)
    if not checkpoint_files.exists(path):
      there = checkpoint_files.listed(checkpoint_files.steps(model_dir))
      raise errors.UserError(
        f"{flag}={step} is not a checkpoint of --model_dir={model_dir}, which "
        f"has those of the steps {there}."
      )
  checkpoint_files.check_whole(path, f"in --model_dir={model_dir}", latest)
  return path


def read(checkpoint: str, shapes: dict[str, tuple[int, ...]]) -> Weights:
  """Reads the weights of a model, under old names too.

  Args:
    checkpoint: its prefix.
    shapes: of the model's variables.

  Returns:
    {the model's name of a variable: value}, of the checkpoint's own type

  Raises:
    UserError: if it was made by another model, or a value cannot be read.
  """
  origin = "the model's own"
  found = checkpoints.reader_shapes(checkpoint, origin)
  checkpoints.use_legacy_names(found, shapes)
  taken = checkpoints.warm_start(found, shapes)
  if taken.unexpected or taken.fresh:
    name = next(
      n
      for kind in (taken.reshaped, taken.missing, taken.fresh, taken.unused)
      for n in kind
    )
    raise errors.UserError(
      f"the checkpoint {checkpoint} was made by another model than the "
      f"operative_config.gin beside it describes: {name} is not the same in "
      "both; put back the file that the training wrote."
    )
  names = {n: utils.init_checkpoint_variable_mapping(n) for n in shapes}
  try:
    values = read_all(checkpoint, names.values())
    return {name: values[there] for name, there in names.items()}
  except (ValueError, tf.errors.OpError):
    checkpoint_files.check_whole(checkpoint, origin, read_values=True)
    raise


def read_all(checkpoint: str, names: Iterable[str]) -> Weights:
  """Reads variables of a checkpoint by its own names.

  Args:
    checkpoint: its prefix.
    names: of variables that it has.

  Returns:
    {name: value}
  """
  reader = tf.train.load_checkpoint(checkpoint)
  return {name: reader.get_tensor(name) for name in names}


def write(folder: str, step: int, weights: Weights) -> str:
  """Writes a checkpoint as a training writes one, without optimizer slots.

  Args:
    folder: that exists.
    step: the global step that it is of.
    weights: {variable: value}.

  Returns:
    the checkpoint's prefix
  """
  path = checkpoint_files.path_of(folder, step)
  values = {**weights, checkpoints.GLOBAL_STEP: np.array(step, np.int64)}
  with tf.Graph().as_default(), tf.Session() as sess:
    # Not constants: a graph holds at most 2 GB.
    tensors = [
      tf.placeholder(value.dtype, value.shape) for value in values.values()
    ]
    save = tf.raw_ops.SaveV2(
      prefix=path,
      tensor_names=list(values),
      shape_and_slices=[""] * len(values),
      tensors=tensors,
    )
    sess.run(save, dict(zip(tensors, values.values(), strict=True)))
  name = os.path.basename(path)
  tf.train.update_checkpoint_state(folder, name, [name])
  return path


def size(weights: Weights) -> tuple[int, int]:
  """How many parameters, and how many bytes they take."""
  return (
    sum(value.size for value in weights.values()),
    sum(value.nbytes for value in weights.values()),
  )
