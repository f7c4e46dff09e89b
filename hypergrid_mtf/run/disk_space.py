"""Room on the disk: whether the checkpoints to come fit, and when they did not.

TensorFlow writes a checkpoint beside the others, renames it, names it in the
file `checkpoint`, and only then removes an old one. So a disk that fills up
costs the checkpoint that was being written, and none that was there.
"""

import math
import shutil

from hypergrid_mtf import checkpoint_files, checkpoints, errors
from hypergrid_mtf.run import damaged, gin_files, request

_FULL = ("No space left on device", "Disk quota exceeded")
# What TensorFlow writes beside the variables: the graph (also in each
# checkpoint's .meta) and the events. Measured with models/nano and L2: 32 MB.
_BESIDE = 32 * 2**20  # bytes
# t5's number of steps between two checkpoints, where nothing is bound.
_EVERY = 5000


def size_of_checkpoint(model) -> int:
  """Bytes of a checkpoint's values, all float32.

  Args:
    model: from `gin_model.build`.
  """
  shapes = checkpoints.variable_shapes(model)
  return 4 * sum(math.prod(shape) for shape in shapes.values())


def check(
  model, model_dir: str, asked: request.Request, began: int = 0
) -> None:
  """Checks that the checkpoints to come fit on the disk.

  Args:
    model: from `gin_model.build`.
    model_dir: of the training; in the cloud there is room.
    asked: the run.
    began: the step of the checkpoint that a new training begins from.

  Raises:
    UserError: if they cannot.
  """
  if not asked.trains or "://" in model_dir:
    return
  free = shutil.disk_usage(model_dir).free
  size = size_of_checkpoint(model)
  count, why = _checkpoints_to_come(model_dir, asked, began)
  needed = size * count + _BESIDE
  if needed <= free:
    return
  raise errors.UserError(
    f"the disk of --model_dir={model_dir} has {_text(free)} free, and this "
    f"training will write {_text(needed)}: {count} checkpoint"
    f"{'s'[: count > 1]} of {_text(size)}{why}; free some, give another "
    "folder, or bind run.keep_checkpoint_max to a smaller number."
  )


def _checkpoints_to_come(model_dir: str, asked, began: int) -> tuple[int, str]:
  """How many more there will be at a time, and what that follows from."""
  every = gin_files.value("run.save_checkpoints_steps", _EVERY)
  kept = gin_files.value("run.keep_checkpoint_max")
  there = checkpoint_files.steps(model_dir)
  begins = there[-1] if there else began
  if not asked.train_steps or not every:
    return 2, ""
  count = max(1, math.ceil((asked.train_steps - begins) / every))
  count += not there  # that of the first step
  why = f" (run.train_steps = {asked.train_steps}, one every {every} steps"
  if kept and kept < count + len(there):
    count = max(1, kept - len(there)) + 1  # one more while it is written
    why += f", run.keep_checkpoint_max = {kept}"
  return count, f"{why})"


def _text(size: float) -> str:
  for unit in ("bytes", "KB", "MB", "GB", "TB"):
    if size < 1000 or unit == "TB":
      return f"{size:.3g} {unit}"
    size /= 1000
  raise AssertionError


def explain_full(error: Exception, model_dir: str) -> None:
  """Raises UserError if a run failed because the disk is full.

  Args:
    error: of TensorFlow or of Python.
    model_dir: of the run; what was half-written there is removed.
  """
  if not any(text in str(error) for text in _FULL):
    return
  if "://" not in model_dir:
    damaged.remove_half_written(model_dir)
  step = checkpoint_files.newest_whole(model_dir)
  kept = (
    "no checkpoint was written yet"
    if step is None
    else f"the checkpoint of step {step} is whole"
  )
  raise errors.UserError(
    f"the disk of --model_dir={model_dir} is full: {kept}; make room (or bind "
    "run.keep_checkpoint_max) and give the same command again."
  ) from None
