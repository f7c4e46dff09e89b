"""Text files of inputs and targets that a run reads."""

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors


def check_files(files) -> None:
  """Checks that files a run reads are there.

  Args:
    files: (where it was given, path) pairs.
  """
  for where, path in files:
    if isinstance(path, list | tuple):
      continue  # t5 also takes the lines themselves
    if not path or not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
      raise errors.UserError(
        f"{where} = {path!r} is no file: give a text file, one example a line."
      )
