"""Writing files whole or not at all."""

import os

import tensorflow.compat.v1 as tf


def write(path: str, content: str | bytes) -> None:
  """Writes a file beside its place, then renames it.

  Args:
    path: local or in the cloud; its folder is made.
    content: what it will hold.
  """
  tf.io.gfile.makedirs(os.path.dirname(path) or ".")
  part = f"{path}.part"
  with tf.io.gfile.GFile(
    part, "wb" if isinstance(content, bytes) else "w"
  ) as f:
    f.write(content)
  tf.io.gfile.rename(part, path, overwrite=True)
