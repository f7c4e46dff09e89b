"""Whether the checkpoints that a run reads are there and fit its model."""

import ast
import os
import re

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors, layers
from hypergrid_mtf.launch import gin_files, request

# Hyperparameters that change what a trained HyperGrid computes and leave no
# trace in the shapes of its variables.
_UNSEEN_IN_SHAPES = ("gate", "condition_on", "gated_kernel")


def check_checkpoints(
  model, model_dir: str, asked: request.Request, allow_partial: bool = False
) -> checkpoints.WarmStart | None:
  """Checks that the checkpoints a run reads are there and fit the model.

  Args:
    model: from `build_model`.
    model_dir: from --model_dir.
    asked: the run.
    allow_partial: from --allow_partial_warm_start.

  Returns:
    what a run that begins takes from run.init_checkpoint, if it is given one
  """
  latest = checkpoints.latest_checkpoint(model_dir)
  if not asked.trains and latest is None and not asked.waits:
    raise errors.UserError(
      f'mode "{asked.mode}" needs a trained model, and --model_dir={model_dir} '
      "holds no checkpoint: give the folder that a training run wrote."
    )
  init_checkpoint = (
    gin_files.value("run.init_checkpoint") if asked.trains else None
  )
  if not latest and not init_checkpoint:
    return None
  shapes = checkpoints.variable_shapes(model)
  if latest:  # nothing else is read then
    checkpoints.check_same_model(latest, shapes, f"in --model_dir={model_dir}")
    _check_same_function(model, model_dir)
    return None
  return _check_warm_start(init_checkpoint, shapes, asked, allow_partial)


def _check_warm_start(path, shapes, asked, allow_partial):
  origin = "run.init_checkpoint"
  if not isinstance(path, str):
    raise errors.UserError(f"{origin} = {path!r} is no path of a checkpoint.")
  found = checkpoints.reader_shapes(path, origin)
  checkpoints.use_legacy_names(found, shapes)
  warm = checkpoints.warm_start(
    found, shapes, gin_files.value("run.init_variable_filter") or ""
  )
  if warm.unexpected and not allow_partial:
    kinds = {
      kind: getattr(warm, kind) for kind in ("reshaped", "missing", "unused")
    }
    says = ", ".join(f"{len(v)} {kind}" for kind, v in kinds.items() if v)
    name = next(n for v in kinds.values() for n in v)
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) was made by another model: of its "
      f"variables and this configuration's, {says}, the first being {name} "
      f"({_shape_of(warm, name)}); give the gin files of its size, or "
      "--allow_partial_warm_start to load what fits."
    )
  names = map(utils.init_checkpoint_variable_mapping, warm.loaded)
  checkpoints.check_dtype(path, names, origin)
  step = checkpoints.step_of(path)
  if step is not None and asked.train_steps and step >= asked.train_steps:
    raise errors.UserError(
      f"run.train_steps = {asked.train_steps} is reached before training "
      f"begins: {path} ({origin}) is at step {step}, and t5 counts on from "
      f"there; give {step + asked.train_steps} for that many steps more."
    )
  return warm


def _shape_of(warm: checkpoints.WarmStart, name: str) -> str:
  if name in warm.reshaped:
    there, here = warm.reshaped[name]
    return f"{list(there)} there and {list(here)} here"
  if name in warm.missing:
    return f"absent there and {list(warm.missing[name])} here"
  return f"{list(warm.unused[name])} there and absent here"


def _check_same_function(model, model_dir: str) -> None:
  """Checks what shapes cannot show against the configuration of the training.

  A gate of another form reads the same variables and computes something else.
  """
  path = os.path.join(model_dir, "operative_config.gin")
  gated = layers.hypergrid_layers(model)
  if not gated or not tf.io.gfile.exists(path):
    return
  with tf.io.gfile.GFile(path) as f:
    text = f.read()
  for name in _UNSEEN_IN_SHAPES:
    trained = {
      ast.literal_eval(value)
      for value in re.findall(
        rf"^(?:\w+/)*HyperGrid\.{name} = (['\"]\w+['\"])$", text, re.M
      )
    }
    now = {getattr(layer, name) for layer, _ in gated}
    if trained and now != trained:
      raise errors.UserError(
        f"HyperGrid.{name} is {', '.join(sorted(now))} here, and the model in "
        f"--model_dir={model_dir} was trained with "
        f"{', '.join(sorted(trained))}: give the gin files it was trained with."
      )
