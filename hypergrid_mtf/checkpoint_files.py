"""The files of a checkpoint: which there are, and whether they are whole.

A checkpoint `model.ckpt-20` is `model.ckpt-20.index`, which lists variables,
and shards `model.ckpt-20.data-00000-of-00002`, … with their values. TensorFlow
looks at the shards when it restores, which is after a graph was built.
"""

import collections
import hashlib
import math
import os
import re

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors

_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")
_STEP = re.compile(r"^model\.ckpt-(\d+)\.index$")
_PART = re.compile(r"^model\.ckpt-(\d+)\b")


def prefix(path: str) -> str:
  """The checkpoint that one of its files belongs to.

  Args:
    path: a checkpoint's prefix, or the path of one of its files.

  Returns:
    the prefix, as TensorFlow wants it
  """
  return _SUFFIX.sub("", path)


def exists(path: str) -> bool:
  """Whether there is an index of this prefix (or a file of TensorFlow 0.x)."""
  if tf.io.gfile.exists(f"{path}.index"):
    return True
  return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def path_of(model_dir: str, step: int) -> str:
  """The prefix that the checkpoint of a step has in a folder."""
  return os.path.join(model_dir, f"model.ckpt-{step}")


def steps(model_dir: str, parts: bool = False) -> list[int]:
  """The steps of the checkpoints in a folder, whether listed there or not.

  Args:
    model_dir: local or in the cloud; may be absent.
    parts: also those that have lost their index, as t5 takes them.

  Returns:
    steps, in order
  """
  try:
    names = tf.io.gfile.listdir(model_dir)
  except tf.errors.OpError:
    return []
  found = ((_PART if parts else _STEP).match(name) for name in names)
  return sorted({int(match.group(1)) for match in found if match})


def listed(found: list[int]) -> str:
  """Steps for a message: all of a few, the ends of many."""
  if len(found) <= 8:
    return ", ".join(map(str, found))
  first, last = (", ".join(map(str, part)) for part in (found[:3], found[-3:]))
  return f"{first}, …, {last}"


def damage(path: str, read_values: bool = False) -> str | None:
  """What is wrong with the files of a checkpoint.

  Args:
    path: its prefix.
    read_values: read all of it too, as a restore does: finds a bit that was
      flipped, and takes as long.

  Returns:
    a clause about one of its files, or None if it is whole
  """
  name = os.path.basename(path)
  if not exists(path):
    return f"there is no file {name}.index"
  try:
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    types = reader.get_variable_to_dtype_map()
  except (ValueError, tf.errors.OpError) as e:
    return f"its index cannot be read ({_reason(e)})"
  if tf.io.gfile.exists(f"{path}.index"):
    wrong = _shard_damage(path, shapes, types)
    if wrong:
      return wrong
  if read_values:
    for variable in sorted(shapes):
      try:
        reader.get_tensor(variable)
      except (ValueError, tf.errors.OpError) as e:
        return f"the value of {variable} cannot be read ({_reason(e)})"
  return None


def _reason(error: Exception) -> str:
  """What TensorFlow found, without the path and the guesses before it."""
  return errors.sentence(error).split(": ")[-1]


def _shard_damage(path, shapes, types) -> str | None:
  """What is wrong with the number and the sizes of the data files."""
  shards: dict[int, dict[int, str]] = collections.defaultdict(dict)
  for file in tf.io.gfile.glob(f"{path}.data-*"):
    match = _SHARD.search(file)
    if match:
      number, of = map(int, match.groups())
      shards[of][number] = file
  name = os.path.basename(path)
  if not shards:
    return f"its values, {name}.data-…, are gone"
  needed, exact = _size_of_values(shapes, types)
  wrong = None
  for of, files in sorted(shards.items()):
    gone = [n for n in range(of) if n not in files]
    if gone:
      wrong = f"{name}.data-{gone[0]:05d}-of-{of:05d} is gone"
      continue
    sizes = {file: tf.io.gfile.stat(file).length for file in files.values()}
    held = sum(sizes.values())
    if held == needed or (held > needed and not exact):
      return None
    empty = [os.path.basename(f) for f, size in sizes.items() if not size]
    wrong = (
      f"{empty[0]} is empty"
      if empty
      else f"{name}.data-… hold {held:,} bytes where its index has {needed:,}"
    )
  return wrong


def _size_of_values(shapes, types) -> tuple[int, bool]:
  """Bytes of all values, and whether that is all (strings say no length)."""
  size, exact = 0, True
  for variable, shape in shapes.items():
    dtype = tf.as_dtype(types[variable])
    if dtype.is_numpy_compatible and dtype != tf.string:
      size += math.prod(shape) * dtype.size
    else:
      exact = False
  return size, exact


def digest(path: str) -> str:
  """SHA-256 of an index, which holds a checksum of every value.

  Args:
    path: a checkpoint's prefix.

  Returns:
    hexadecimal; the same for a copy, another for another training
  """
  index = f"{path}.index"
  with tf.io.gfile.GFile(
    index if tf.io.gfile.exists(index) else path, "rb"
  ) as f:
    return hashlib.sha256(f.read()).hexdigest()


def newest_whole(
  model_dir: str, but: str | None = None, read_values: bool = False
) -> int | None:
  """The newest step of a folder whose checkpoint is whole.

  Args:
    model_dir: the folder.
    but: the prefix of one that is left out.
    read_values: as in `damage`.

  Returns:
    the step, or None
  """
  for step in reversed(steps(model_dir)):
    path = path_of(model_dir, step)
    if path != but and not damage(path, read_values):
      return step
  return None


def check_whole(
  path: str, origin: str, latest: bool = False, read_values: bool = False
) -> None:
  """Raises UserError if a checkpoint is damaged, naming one that is not.

  Args:
    path: its prefix.
    origin: where the path came from, for the message (a flag or gin binding).
    latest: whether it is read for being the last of its folder.
    read_values: as in `damage`.
  """
  wrong = damage(path, read_values)
  if not wrong:
    return
  folder = os.path.dirname(path)
  whole = newest_whole(folder, but=path, read_values=read_values)
  if whole is None:
    advice = "no other checkpoint there is whole: give another folder"
  elif latest:
    advice = (
      f"that of step {whole} is whole: {how_to_name(folder, whole)} to take it"
    )
  else:
    advice = f"take a whole one, such as {path_of(folder, whole)}"
  raise errors.UserError(
    f"the checkpoint {path} ({origin}) is damaged: {wrong}; {advice}."
  )


def how_to_name(model_dir: str, step: int) -> str:
  """What makes a step the latest of a folder, for a message."""
  file = os.path.join(model_dir, "checkpoint")
  return (
    f"let the first line of {file} be "
    f'`model_checkpoint_path: "model.ckpt-{step}"`'
  )
