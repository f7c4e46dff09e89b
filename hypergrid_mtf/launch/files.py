"""Writing files whole or not at all, and whether a folder can be written."""

import os
import tempfile

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors


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


def check_model_dir(model_dir: str) -> None:
  """Makes the folder and checks that it can be written.

  Args:
    model_dir: from --model_dir; cloud folders are not probed.
  """
  if not model_dir:
    raise errors.UserError(
      "--model_dir= is empty: give the folder where the run is kept."
    )
  if "://" not in model_dir:
    _check_folder(model_dir, f"--model_dir={model_dir}")


def check_output(path: str, flag: str = "--output") -> None:
  """Makes the folder of an output file and checks that it can be written.

  Args:
    path: of the file that a program will write.
    flag: where the path came from.
  """
  _check_folder(os.path.dirname(os.path.abspath(path)), f"{flag}={path}")


def _check_folder(folder: str, given: str) -> None:
  try:
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as e:
    raise errors.UserError(
      f"{given} cannot be written ({e.strerror}): give a folder that you own."
    ) from None
