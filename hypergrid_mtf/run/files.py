"""Atomic writes of files and folders, and checks that a folder is writable."""

import contextlib
import csv
import io
import json
import math
import os
import tempfile
import uuid
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors


def write(path: str, content: str | bytes) -> None:
  """Writes a file atomically: to a temporary name, then renames it.

  Args:
    path: local or in the cloud; its folder is made if needed.
    content: the new content.

  Raises:
    UserError: if the file system refuses.
  """
  mode = "wb" if isinstance(content, bytes) else "w"
  try:
    if os.path.exists(path) and not os.path.isfile(path):
      with open(path, mode) as f:  # a pipe or a device, such as /dev/stdout
        f.write(content)
      return
    tf.io.gfile.makedirs(os.path.dirname(path) or ".")
    with _beside(path) as part:
      with tf.io.gfile.GFile(part, mode) as f:
        f.write(content)
      tf.io.gfile.rename(part, path, overwrite=True)
  except BrokenPipeError:
    raise
  except (tf.errors.OpError, OSError) as e:
    raise errors.UserError(
      f"{path} cannot be written ({_reason(e)}): give another path."
    ) from None


def write_json(path: str, content: object) -> None:
  """Writes JSON by `write`; nan and infinities become null."""
  text = json.dumps(_without_nan(content), indent=1, allow_nan=False)
  write(path, text + "\n")


def read_json(path: str) -> dict:
  """The object in a JSON file; {} if there is none."""
  try:
    with tf.io.gfile.GFile(path) as f:
      return dict(json.load(f))
  except (ValueError, TypeError, tf.errors.OpError):
    return {}


def _without_nan(content):
  if isinstance(content, dict):
    return {key: _without_nan(value) for key, value in content.items()}
  if isinstance(content, list | tuple):
    return list(map(_without_nan, content))
  is_nan = isinstance(content, float) and not math.isfinite(content)
  return None if is_nan else content


def append_csv(path: str, row: dict[str, object]) -> None:
  """Appends a row to a CSV file, after a header if it is new."""
  tf.io.gfile.makedirs(os.path.dirname(path) or ".")
  text = io.StringIO()
  writer = csv.DictWriter(text, row, lineterminator="\n")
  if not tf.io.gfile.exists(path):
    writer.writeheader()
  writer.writerow(row)
  with tf.io.gfile.GFile(path, "a") as f:
    f.write(text.getvalue())


def cut_csv(path: str, step: int) -> None:
  """Removes rows after a step, and incomplete ones, of a killed training.

  The first column is the step; values contain no line breaks.
  """
  if not tf.io.gfile.exists(path):
    return
  with tf.io.gfile.GFile(path) as f:
    text = f.read()
  *rows, _ = text.split("\n")  # drops an incomplete row
  kept = rows[:1] + [r for r in rows[1:] if int(r.split(",")[0]) <= step]
  if kept:
    write(path, "\n".join([*kept, ""]))
  else:
    tf.io.gfile.remove(path)


@contextlib.contextmanager
def new_folder(folder: str, flag: str = "--output_dir") -> Iterator[str]:
  """Makes a new folder atomically; never replaces an existing one.

  Args:
    folder: where it will be; local or in the cloud.
    flag: where that path came from.

  Yields:
    a temporary folder to write to, renamed at the end

  Raises:
    UserError: if the path exists, or the file system refuses.
  """
  check_new_folder(folder, flag)
  folder = folder.rstrip("/")
  part = f"{folder}.{uuid.uuid4().hex}.part"
  try:
    tf.io.gfile.makedirs(part)
    yield part
    check_new_folder(folder, flag)
    if tf.io.gfile.isdir(folder) and "://" not in folder:
      tf.io.gfile.rmtree(folder)  # empty
    tf.io.gfile.rename(part, folder)
  except errors.UserError:
    raise
  except Exception as e:  # from TensorFlow, Python, safetensors …
    reason = errors.describe_unwritten(e) or _reason(e)
    if reason is None:
      raise
    raise errors.UserError(
      f"{flag}={folder} cannot be written ({reason}): give another path."
    ) from None
  finally:
    with contextlib.suppress(tf.errors.OpError):
      if tf.io.gfile.isdir(part):
        tf.io.gfile.rmtree(part)


def check_new_folder(folder: str, flag: str = "--output_dir") -> None:
  """Checks that a folder does not exist or is empty.

  Args:
    folder: the folder that a program will make.
    flag: where it came from.

  Raises:
    UserError: if it exists and is not empty, or cannot be made.
  """
  if not folder:
    raise errors.UserError(f"{flag}= is empty: give a folder.")
  taken = tf.io.gfile.exists(folder) and (
    not tf.io.gfile.isdir(folder) or tf.io.gfile.listdir(folder)
  )
  if taken:
    raise errors.UserError(
      f"{flag}={folder} already exists and is not overwritten: give a new "
      "folder."
    )


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
  """A temporary name, unique to this call; removed at the end."""
  part = f"{path}.{uuid.uuid4().hex}.part"
  try:
    yield part
  finally:
    # The user should see the earlier error.
    with contextlib.suppress(tf.errors.OpError):
      if tf.io.gfile.exists(part):
        tf.io.gfile.remove(part)


def _reason(error: Exception) -> str | None:
  """A file system's reason, without the path."""
  if isinstance(error, tf.errors.OpError):
    return error.message.splitlines()[0].split("; ")[-1]
  return error.strerror if isinstance(error, OSError) else None


def check_output(path: str, flag: str = "--output") -> None:
  """Makes the folder of an output file and checks that it can be written.

  Args:
    path: the file that a program will write.
    flag: where the path came from.

  Raises:
    UserError: if it is empty, a folder, or in a folder that cannot be written.
  """
  if not path or os.path.isdir(path):
    raise errors.UserError(
      f"{flag}={path} is {'a folder' if path else 'empty'}: name a file."
    )
  _check_folder(os.path.dirname(path) or ".", f"{flag}={path}")


def check_output_dir(folder: str, flag: str = "--output_dir") -> None:
  """Makes an output folder and checks that it can be written.

  Args:
    folder: the folder that a program will write to.
    flag: where it came from.

  Raises:
    UserError: if it is empty or cannot be written.
  """
  if not folder:
    raise errors.UserError(f"{flag}= is empty: give a folder.")
  _check_folder(folder, f"{flag}={folder}")


def _check_folder(folder: str, given: str) -> None:
  if "://" in folder:
    return  # a probe in the cloud costs money, and offline takes minutes
  try:
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as e:
    raise errors.UserError(
      f"{given} cannot be written ({e.strerror}): give a folder that you can "
      "write to."
    ) from None
