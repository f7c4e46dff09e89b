"""What tests of several rooms share."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf


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
