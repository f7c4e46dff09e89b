"""Repairs a model_dir after a crash.

A process that was killed, a full disk or a lost file leave: half-written files,
a newest checkpoint that cannot be read, a file `checkpoint` that is gone. The
training resumes from the newest checkpoint that is whole, and says so. Nothing
that was saved is removed: it is moved to `<model_dir>/damaged`.
"""

import os
import re

import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import console, files

FOLDER = "damaged"
# Checkpoints up to this size are read whole before a run, to find a flipped
# bit; what is larger, TensorFlow finds when it restores.
_READ_UP_TO = 2**30  # bytes
_FULL = ("No space left on device", "Disk quota exceeded")
_HALF_WRITTEN = re.compile(
  r"^(model\.ckpt-\d+_temp.*|.*\.tmp[0-9a-f]{32}|.*\.tempstate\d+"
  r"|.*\.[0-9a-f]{32}\.part)$"
)
_PART = re.compile(r"^(model\.ckpt-(\d+))\.(index|meta|data-\d{5}-of-\d{5})$")


def repair_model_dir(model_dir: str, read_values: bool | None = None) -> None:
  """Leaves a folder whose `checkpoint` names a checkpoint that is whole.

  Only its one writer may call it (`lock.hold`). Where no checkpoint is whole,
  the folder stays as it is, and the checks before a run say what is wrong.

  Args:
    model_dir: of a training.
    read_values: as in `checkpoints.damage`; None means for checkpoints of
      at most 1 GB.
  """
  remove_half_written(model_dir)
  steps = checkpoints.list_steps(model_dir)
  if not steps:
    return
  index = os.path.join(model_dir, "checkpoint")
  latest = _latest(model_dir)
  wrong: dict[int, str] = {}
  # The file may name an older step than the newest, because the user said so.
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
    gone = "is damaged or names a checkpoint that is gone"
    there = tf.io.gfile.exists(index)
    console.say(f"WARNING: {index} {gone if there else 'is gone'}")
  console.say(
    f"WARNING: resuming from the checkpoint of step {whole}, the newest that "
    "is whole"
  )
  name_latest(model_dir, whole)


def remove_half_written(model_dir: str) -> None:
  """Removes files that were being written when their process ended.

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
  """The step that `checkpoint` names, if anything of it is there."""
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
  """Moves all files of a checkpoint out of the way.

  Args:
    model_dir: of a training.
    step: of the checkpoint.

  Returns:
    the folder where they are now
  """
  folder = os.path.join(model_dir, FOLDER)
  number = 1
  while any(
    name.startswith(f"model.ckpt-{step}.") for name in _names(folder)
  ):  # it was damaged before, and made again
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
  """Writes `checkpoint` anew.

  Args:
    model_dir: of a training.
    step: the last of those that it names.
  """
  steps = [s for s in checkpoints.list_steps(model_dir) if s <= step]
  lines = [f'model_checkpoint_path: "model.ckpt-{step}"']
  lines += [f'all_model_checkpoint_paths: "model.ckpt-{s}"' for s in steps]
  files.write(os.path.join(model_dir, "checkpoint"), "\n".join(lines) + "\n")


def explain_full_disk(error: Exception, model_dir: str) -> None:
  """Raises UserError if a run failed because the disk is full.

  TensorFlow writes a checkpoint beside the others, renames it, names it in the
  file `checkpoint`, and only then removes an old one. So a disk that fills up
  costs the checkpoint that was being written, and none that was there.

  Args:
    error: of TensorFlow or of Python.
    model_dir: of the run; what was half-written there is removed.
  """
  if not any(text in str(error) for text in _FULL):
    return
  if "://" not in model_dir:
    remove_half_written(model_dir)
  step = checkpoints.newest_intact(model_dir)
  kept = (
    "no checkpoint was written yet"
    if step is None
    else f"the checkpoint of step {step} is whole"
  )
  raise errors.UserError(
    f"the disk of --model_dir={model_dir} is full: {kept}; make room (or bind "
    "run.keep_checkpoint_max) and give the same command again."
  ) from None
