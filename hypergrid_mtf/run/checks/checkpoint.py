"""Whether the checkpoints that a run reads are there, whole, and fit it.

t5 takes the nearest checkpoint in place of one that is not there. That is
another model's score under the number that was asked for, so it is refused.
"""

import os

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import config, request
from hypergrid_mtf.run.checks import trained

# What TensorFlow raises for a checkpoint that it cannot read.
_FAILED_RESTORE = (
  tf.errors.DataLossError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
)


def check_model_dir(model_dir: str) -> None:
  """Raises UserError if --model_dir is a checkpoint and not its folder."""
  path = checkpoints.prefix(model_dir.rstrip("/"))
  if not tf.io.gfile.isdir(path) and checkpoints.exists(path):
    raise errors.UserError(
      f"--model_dir={model_dir} is a checkpoint: give its folder, "
      f"{os.path.dirname(path) or '.'}, and a step where one is to be chosen "
      "(run.eval_checkpoint_step)."
    )


def check_steps(run: request.Run) -> None:
  """The steps that the run asks for are there."""
  name, value = run.checkpoint_parameter, run.checkpoint_step
  # -1 is the last one, and so is None to an export; None elsewhere waits for
  # those to come.
  if value is None or (value == -1 and isinstance(value, int)):
    return
  said, place = f"{name} = {value!r}", config.place(name)
  folder = f"--model_dir={run.model_dir}"
  if value == "all" and not run.exports:
    if run.steps == [0] and (run.evaluates or run.mode == "infer"):
      raise errors.UserError(  # to t5 it begins after step 0
        f"{said} leaves out step 0, and {folder} has no other: give 0."
      )
    return
  steps = value if isinstance(value, list | tuple) else [value]
  if not steps or not all(
    isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in steps
  ):
    several = run.evaluates or run.mode == "infer"
    others = ", a list of steps, 'all'" if several else ""
    raise errors.UserError(
      f"{said} is not a step{place}: give the number of one{others}, or -1 for "
      "the last."
    )
  if run.exports and len(steps) > 1:
    raise errors.UserError(
      f"{said} is more than one step{place}: one can be exported."
    )
  missing = [step for step in steps if step not in run.steps]
  if run.steps and missing:
    raise errors.UserError(
      f"{said}{place}: there is no checkpoint of step {missing[0]} in "
      f"{folder}, which has those of {', '.join(map(str, run.steps))}."
    )
  if run.exports and steps == [0] and run.steps and run.steps != [0]:
    raise errors.UserError(
      f"{said} is taken for the last step by t5{place}: the checkpoint of step "
      "0 can be exported from a folder of its own."
    )


def check_checkpoints(run: request.Run) -> None:
  """What the run reads of its own folder is whole, and of the same model."""
  if run.latest is None:
    if not run.trains and not run.waits:
      raise errors.UserError(
        f'mode "{run.mode}" needs a trained model, and --model_dir='
        f"{run.model_dir} holds no checkpoint: give the folder that a training "
        "run wrote."
      )
    return
  origin = f"in --model_dir={run.model_dir}"
  for path in run.read:
    if path != run.latest and checkpoints.is_gone(path):
      continue  # a training removed it since the folder was listed
    checkpoints.check_intact(path, origin, latest=path == run.latest)
    checkpoints.check_same_model(path, run.shapes, origin)
  trained.check_same_function(run.model, run.model_dir)
  trained.check_same_vocabulary(run.model_dir, run.vocabulary)
  if run.init_checkpoint:
    _check_began_from(run)


def check_warm_start(run: request.Run) -> None:
  """The checkpoint that a training starts from can be loaded into it."""
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
      f"the checkpoint {path} ({origin}) was made by another model: of its "
      f"variables and this configuration's, {says}, the first being {name} "
      f"({checkpoints.describe_shapes(*shapes)}); give the gin files of its "
      f"size, or {trained.PARTIAL}."
    )
  names = map(utils.init_checkpoint_variable_mapping, warm.loaded)
  checkpoints.check_dtype(path, names, origin)
  step = run.source_step
  if step is not None and run.train_steps and step >= run.train_steps:
    raise errors.UserError(
      f"run.train_steps = {run.train_steps} is reached before training "
      f"begins: {path} ({origin}) is at step {step}, and t5 continues from "
      f"there; give {step + run.train_steps} for that many more steps."
    )
  if not run.flags.allow_partial_warm_start:
    trained.check_source(run.model, path, origin, run.vocabulary)


def _check_began_from(run: request.Run) -> None:
  """A checkpoint to start from is not another than the run began from.

  A run that was interrupted is started again with the same flags, so it is
  refused only where it can be known to be another.
  """
  began = run.recorded_start
  path = began.get("checkpoint")
  if path and not _may_be_same(began, run):
    raise errors.UserError(
      f"{request.START} = {run.init_checkpoint!r} is another checkpoint than "
      f"{path}, from which the run in {run.model_dir} began "
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
    pass  # gone, or given wrongly: only known not to be read
  return True


def note_checkpoints(run: request.Run) -> list[str]:
  """Which checkpoint a training starts or continues from, and what it takes."""
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
      + (", the run began from it" if same else "")
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
        f"{run.latest} holds weights and not the state of an optimizer, so its "
        "training cannot be resumed: give another --model_dir, and "
        f"run.init_checkpoint = {run.latest!r}."
      )
  if run.is_warm_start:
    checkpoints.check_intact(run.source, request.START, read_values=True)
