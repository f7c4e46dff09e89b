"""Helpers shared by several folders of tests."""

import os
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow.compat.v1 as tf

# A vocabulary that is none of t5's: 26 pieces.
PIECES = os.path.join(
  os.path.dirname(seqio.__file__),
  "test_data/sentencepiece/sentencepiece.model",
)


def source(**rows) -> seqio.FunctionDataSource:
  """A data source with given examples instead of files."""

  def dataset(split, shuffle_files, seed=None):
    del split, shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices(rows)

  return seqio.FunctionDataSource(dataset, splits=["train", "validation"])


def random_weights(
  shapes: Mapping[str, Sequence[int]], key_size: int
) -> dict[str, np.ndarray]:
  """Values of variables and slots of a scale as after a training.

  So gates differ. Queries have the scale that T5 starts with. Without it the
  attention of eight layers is so sharp that a change of all weights by 2^-24,
  their rounding, changes logits by 6e-3, and no comparison could ask for 1e-4.

  Args:
    shapes: {name: shape}.
    key_size: d_kv of the model.
  """
  values = {}
  for name, shape in shapes.items():
    rng = np.random.default_rng([0, zlib.crc32(name.encode())])
    value = rng.standard_normal(shape, np.float32)
    if "_slot_" in name:
      value = np.abs(value)
    elif name.endswith("scale"):
      value = 1 + np.float32(0.1) * value
    elif len(shape) == 2 and not name.endswith(("embedding", "bias")):
      fan_in = shape[0] * (key_size if name.endswith("/q") else 1)
      value *= np.float32(fan_in**-0.5)
    values[name] = value
  return values


def write_checkpoint(
  folder, variables: Mapping[str, object], steps: Sequence[int] = (7,)
) -> str:
  """Writes checkpoints of a training, of the same values at each step.

  Args:
    folder: a model_dir, which is made.
    variables: {name: value}; a shape stands for zeros in float32. The global
      step is added.
    steps: of the checkpoints; the last one is the newest.

  Returns:
    the prefix of the last one
  """
  os.makedirs(folder, exist_ok=True)
  values = {
    name: np.zeros(value, np.float32)
    if isinstance(value, tuple | list)
    else np.asarray(value)
    for name, value in variables.items()
  }
  names = [f"model.ckpt-{step}" for step in steps]
  for step, name in zip(steps, names, strict=True):
    saved = {"global_step": np.array(step, np.int64), **values}
    saved = dict(sorted(saved.items()))  # as a Saver has them
    with tf.Graph().as_default(), tf.Session() as sess:
      # Not constants: a graph holds at most 2 GB.
      tensors = [tf.placeholder(v.dtype, v.shape) for v in saved.values()]
      save = tf.raw_ops.SaveV2(
        prefix=os.path.join(folder, name),
        tensor_names=list(saved),
        shape_and_slices=[""] * len(saved),
        tensors=tensors,
      )
      sess.run(save, dict(zip(tensors, saved.values(), strict=True)))
  tf.train.update_checkpoint_state(str(folder), names[-1], names)
  return os.path.join(folder, names[-1])
