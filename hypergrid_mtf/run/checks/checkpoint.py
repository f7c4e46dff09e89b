"""Checks that the checkpoints of a run exist, are intact, and fit the model.

If a checkpoint does not exist, t5 silently uses the nearest one, whose score
would appear under the requested step. So a missing checkpoint is refused.
"""

import os

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import config, request
from hypergrid_mtf.run.checks import training_record

# TensorFlow's errors for a checkpoint that it cannot read.
_FAILED_RESTORE = (
  tf.errors.DataLossError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
)


def check_model_dir(model_dir: str) -> None:
  """Raises UserError if --model_dir is a checkpoint, not a folder."""
  path = checkpoints.prefix(model_dir.rstrip("/"))
  if not tf.io.gfile.isdir(path) and checkpoints.exists(path):
    raise errors.UserError(
      f"--model_dir={model_dir} is a checkpoint: give its folder, "
      f"{os.path.dirname(path) or '.'}, and choose a step where necessary "
      "(run.eval_checkpoint_step)."
    )


def check_steps(run: request.Run) -> None:
  """Checks that the requested steps exist."""
  name, value = run.checkpoint_parameter, run.checkpoint_step
  # -1 is the last step, and so is None for an export; elsewhere None waits for
  # future ones.
  if value is None or (value == -1 and isinstance(value, int)):
    return
  said, place = f"{name} = {value!r}", config.place(name)
  folder = f"--model_dir={run.model_dir}"
  if value == "all" and not run.exports:
    if run.steps == [0] and (run.evaluates or run.mode == "infer"):
      raise errors.UserError(  # t5 starts after step 0
        f"{said} leaves out step 0, and {folder} has no other step: give 0."
      )
    return
  steps = value if isinstance(value, list | tuple) else [value]
  if not steps or not all(
    isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in steps
  ):
    several = run.evaluates or run.mode == "infer"
    others = ", a list of steps, 'all'" if several else ""
    raise errors.UserError(
      f"{said} is not a step{place}: give a number{others}, or -1 for the last."
    )
  if run.exports and len(steps) > 1:
    raise errors.UserError(
      f"{said} is more than one step{place}: only one can be exported."
    )
  missing = [step for step in steps if step not in run.steps]
  if run.steps and missing:
    raise errors.UserError(
      f"{said}{place}: there is no checkpoint of step {missing[0]} in "
      f"{folder}, which has steps {', '.join(map(str, run.steps))}."
    )
  if run.exports and steps == [0] and run.steps and run.steps != [0]:
    raise errors.UserError(
      f"t5 takes {said} for the last step{place}: to export the checkpoint of "
      "step 0, put it in a folder of its own."
    )


def check_checkpoints(run: request.Run) -> None:
  """Checks that the folder's checkpoints are intact and of the same model."""
  if run.latest is None:
    if not run.trains and not run.waits:
      raise errors.UserError(
        f'mode "{run.mode}" needs a trained model, and --model_dir='
        f"{run.model_dir} has no checkpoint: give the folder of a trained "
        "model."
      )
    return
  origin = f"in --model_dir={run.model_dir}"
  for path in run.read:
    if path != run.latest and checkpoints.is_gone(path):
      continue  # a training has removed it since the folder was listed
    checkpoints.check_intact(path, origin, latest=path == run.latest)
    checkpoints.check_same_model(path, run.shapes, origin)
  training_record.check_same_function(run.model, run.model_dir)
  training_record.check_same_vocabulary(run.model_dir, run.vocabulary)
  if run.init_checkpoint:
    _check_began_from(run)


def check_warm_start(run: request.Run) -> None:
  """Checks that the initial checkpoint can be loaded into the model."""
  if not run.is_warm_start:
    return
  path, warm, origin = run.source, run.warm_start, request.START
  if warm.unexpected and not run.flags.allow_partial_warm_start:
    kinds = {
      kind: getattr(warm, kind) for kind in ("reshaped", "missing", "unused")
    }
    says = ", ".join(f"{len(v)} {kind}" for kind, v in kinds.items() if v)
    name, shapes = next(iter(warm.unexpected.items()))
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) was made by another model: {says} "
      f"variables, the first {name} "
      f"({checkpoints.describe_shapes(*shapes)}); give the gin files of its "
      f"size, or {training_record.PARTIAL}."
    )
  names = map(utils.init_checkpoint_variable_mapping, warm.loaded)
  checkpoints.check_dtype(path, names, origin)
  step = run.source_step
  if step is not None and run.train_steps and step >= run.train_steps:
    raise errors.UserError(
      f"run.train_steps = {run.train_steps} leaves nothing to train: {path} "
      f"({origin}) is at step {step}, and t5 continues from there; give "
      f"{step + run.train_steps} to train that many more steps."
    )
  if not run.flags.allow_partial_warm_start:
    training_record.check_source(run.model, path, origin, run.vocabulary)


def _check_began_from(run: request.Run) -> None:
  """Refuses an initial checkpoint other than the one the run started from.

  An interrupted run is restarted with the same flags, so the checkpoint is
  refused only if it is certainly another one.
  """
  began = run.recorded_start
  path = began.get("checkpoint")
  if path and not _may_be_same(began, run):
    raise errors.UserError(
      f"{request.START} = {run.init_checkpoint!r} is not the checkpoint "
      f"{path}, from which the run in {run.model_dir} started "
      f"({request.WARM_START}): leave it out to continue from {run.latest}, or "
      "give another --model_dir."
    )


def _may_be_same(began: dict, run: request.Run) -> bool:
  try:
    path = run.source
    if began.get("digest") and checkpoints.exists(path):
      return began["digest"] == checkpoints.digest(path)
    if began.get("step") is not None and checkpoints.exists(path):
      return began["step"] == checkpoints.step_of(path)
  except (errors.UserError, ValueError, tf.errors.OpError):
    pass  # missing, or given wrongly; it is not read anyway
  return True


def note_checkpoints(run: request.Run) -> list[str]:
  """Notes which checkpoint a training starts from, and what it loads."""
  if run.is_warm_start:
    return [
      f"warm start from {run.source}, at step {run.source_step}\n"
      f"{run.warm_start.to_text()}"
    ]
  if run.init_checkpoint:
    same = run.recorded_start.get("checkpoint")
    return [
      f"continuing from {run.latest}: {request.START} = "
      f"{run.init_checkpoint!r} is not read"
      + (", the run started from it" if same else "")
    ]
  return []


def explain_failed_restore(error: Exception, run: request.Run) -> None:
  """Raises UserError if a run failed because a checkpoint cannot be read.

  TensorFlow's error names neither the file nor the step. Reads all values.
  """
  if not isinstance(error, _FAILED_RESTORE):
    return
  origin = f"in --model_dir={run.model_dir}"
  for path in run.read:
    checkpoints.check_intact(path, origin, path == run.latest, read_values=True)
  if run.latest and run.trains:
    names = checkpoints.reader_shapes(run.latest, origin)
    if not any("_slot_" in name for name in names):
      raise errors.UserError(
        f"{run.latest} holds weights but no optimizer state, so its training "
        "cannot be resumed: give another --model_dir, and run.init_checkpoint "
        f"= {run.latest!r}."
      )
  if run.is_warm_start:
    checkpoints.check_intact(run.source, request.START, read_values=True)
