"""Repairs a model_dir after a crash.

A killed process, a full disk or a lost file can leave half-written files, an
unreadable newest checkpoint, or no file `checkpoint`. The training resumes from
the newest intact checkpoint, and says so. Nothing that was saved is removed:
damaged checkpoints are moved to `<model_dir>/damaged`.
"""

import os
import re

import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import console, files

FOLDER = "damaged"
# Checkpoints up to this size are fully read before a run, to find flipped bits;
# in larger ones TensorFlow finds them when it restores.
_READ_UP_TO = 2**30  # bytes
_FULL = ("No space left on device", "Disk quota exceeded")
_HALF_WRITTEN = re.compile(
  r"^(model\.ckpt-\d+_temp.*|.*\.tmp[0-9a-f]{32}|.*\.tempstate\d+"
  r"|.*\.[0-9a-f]{32}\.part)$"
)
_PART = re.compile(r"^(model\.ckpt-(\d+))\.(index|meta|data-\d{5}-of-\d{5})$")


def repair_model_dir(model_dir: str, read_values: bool | None = None) -> None:
  """Makes the file `checkpoint` name an intact checkpoint.

  Only the folder's single writer may call it (`lock.hold`). If no checkpoint is
  intact, the folder stays as it is, and the checks before a run say what is
  wrong.

  Args:
    model_dir: of a training.
    read_values: as in `checkpoints.damage`; None means only for checkpoints of
      at most 1 GB.
  """
  remove_half_written(model_dir)
  steps = checkpoints.list_steps(model_dir)
  if not steps:
    return
  index = os.path.join(model_dir, "checkpoint")
  latest = _latest(model_dir)
  wrong: dict[int, str] = {}
  # The user may have made the file name an older step than the newest.
  limit = steps[-1] if latest is None else latest
  whole = None
  for step in [s for s in reversed(steps) if s <= limit]:
    path = checkpoints.path_of(model_dir, step)
    damage = checkpoints.damage(path, _reads(path, read_values))
    if not damage:
      whole = step
      break
    wrong[step] = damage
  if whole is None:
    return
  for step, damage in wrong.items():
    folder = set_aside(model_dir, step)
    console.say(
      f"WARNING: the checkpoint of step {step} is damaged: {damage}; it was "
      f"moved to {folder}"
    )
  if whole == latest:
    return
  if not wrong:
    gone = "is damaged or names a missing checkpoint"
    there = tf.io.gfile.exists(index)
    console.say(f"WARNING: {index} {gone if there else 'is missing'}")
  console.say(
    f"WARNING: resuming from the checkpoint of step {whole}, the newest intact "
    "one"
  )
  name_latest(model_dir, whole)


def remove_half_written(model_dir: str) -> None:
  """Removes files left half-written by a process that ended.

  Args:
    model_dir: of a training.
  """
  for name in filter(_HALF_WRITTEN.match, _names(model_dir)):
    path = os.path.join(model_dir, name.rstrip("/"))
    if tf.io.gfile.isdir(path):
      tf.io.gfile.rmtree(path)
    else:
      tf.io.gfile.remove(path)


def _names(folder: str) -> list[str]:
  try:
    return tf.io.gfile.listdir(folder)
  except tf.errors.OpError:
    return []


def _latest(model_dir: str) -> int | None:
  """The step named in `checkpoint`, if any file of it exists."""
  try:
    state = tf.train.get_checkpoint_state(model_dir)
  except (ValueError, tf.errors.OpError):
    return None
  if state is None:
    return None
  name = os.path.basename(state.model_checkpoint_path)
  match = re.fullmatch(r"model\.ckpt-(\d+)", name)
  if not match:
    return None
  step = int(match.group(1))
  there = checkpoints.list_steps(model_dir, parts=True)
  return step if step in there else None


def _reads(path: str, read_values: bool | None) -> bool:
  if read_values is not None:
    return read_values
  shards = tf.io.gfile.glob(f"{path}.data-*")
  return sum(tf.io.gfile.stat(f).length for f in shards) <= _READ_UP_TO


def set_aside(model_dir: str, step: int) -> str:
  """Moves all files of a damaged checkpoint away.

  Args:
    model_dir: of a training.
    step: of the checkpoint.

  Returns:
    the folder that they are now in
  """
  folder = os.path.join(model_dir, FOLDER)
  number = 1
  while any(
    name.startswith(f"model.ckpt-{step}.") for name in _names(folder)
  ):  # damaged before, and saved again
    number += 1
    folder = os.path.join(model_dir, f"{FOLDER}{number}")
  tf.io.gfile.makedirs(folder)
  for name in _names(model_dir):
    match = _PART.match(name)
    if match and int(match.group(2)) == step:
      tf.io.gfile.rename(
        os.path.join(model_dir, name), os.path.join(folder, name)
      )
  return folder


def name_latest(model_dir: str, step: int) -> None:
  """Rewrites the file `checkpoint`.

  Args:
    model_dir: of a training.
    step: the last step that it names.
  """
  steps = [s for s in checkpoints.list_steps(model_dir) if s <= step]
  lines = [f'model_checkpoint_path: "model.ckpt-{step}"']
  lines += [f'all_model_checkpoint_paths: "model.ckpt-{s}"' for s in steps]
  files.write(os.path.join(model_dir, "checkpoint"), "\n".join(lines) + "\n")


def explain_full_disk(error: Exception, model_dir: str) -> None:
  """Raises UserError if a run failed because the disk is full.

  TensorFlow writes a checkpoint under a temporary name, renames it, names it in
  the file `checkpoint`, and only then removes an old one. So a full disk loses
  the checkpoint that was being written, and no earlier one.

  Args:
    error: of TensorFlow or of Python.
    model_dir: of the run; half-written files there are removed.
  """
  if not any(text in str(error) for text in _FULL):
    return
  if "://" not in model_dir:
    remove_half_written(model_dir)
  step = checkpoints.newest_intact(model_dir)
  kept = (
    "no checkpoint has been written yet"
    if step is None
    else f"the checkpoint of step {step} is intact"
  )
  raise errors.UserError(
    f"the disk of --model_dir={model_dir} is full: {kept}; free some space (or "
    "bind run.keep_checkpoint_max) and run the same command again."
  ) from None
