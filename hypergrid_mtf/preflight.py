"""Checks of a run, before any graph of it is built.

Each check raises UserError: what is wrong, where it came from, what would be
right.
"""

import copy
import os
import socket
import tempfile

import gin
import seqio
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, compat, errors, layers

# Modes of utils.run that read a checkpoint of model_dir at once.
_READS_CHECKPOINT = (
  "eval",
  "score_eval",
  "perplexity_eval",
  "infer",
  "score_from_strings",
  "score_from_dataset",
  "export",
  "export_infer",
  "export_score",
)


def gin_value(parameter: str, default=None):
  """The value gin will pass, with macros resolved.

  Args:
    parameter: e.g. "run.mode".
    default: for a parameter that is not bound.

  Returns:
    the value
  """
  try:
    # Copying a reference evaluates it, which is how gin itself passes it on.
    return copy.deepcopy(gin.query_parameter(parameter))
  except ValueError:
    return default


def check_model_dir(model_dir: str) -> None:
  """Makes the folder and checks that it can be written.

  Args:
    model_dir: from --model_dir; cloud folders are not probed.
  """
  if "://" in model_dir:
    return
  try:
    os.makedirs(model_dir, exist_ok=True)
    with tempfile.TemporaryFile(dir=model_dir):
      pass
  except OSError as e:
    raise errors.UserError(
      f"--model_dir={model_dir} cannot be written ({e.strerror}): give a "
      "folder that you own."
    ) from None


def check_data(mixture_or_task, tfds_data_dir: str | None) -> None:
  """Checks that every TFDS data set of a mixture is on disk or can be fetched.

  Args:
    mixture_or_task: a seqio Mixture or Task.
    tfds_data_dir: from --t5_tfds_data_dir, or None for the default of TFDS.
  """
  if tfds_data_dir and not tf.io.gfile.exists(tfds_data_dir):
    raise errors.UserError(
      f"the data folder --t5_tfds_data_dir={tfds_data_dir} does not exist: "
      "make it with python -m tools.prepare_data, or give the one TFDS wrote."
    )
  missing = []
  for task in seqio.get_subtasks(mixture_or_task):
    source = task.source
    if not isinstance(source, seqio.TfdsDataSource):
      continue
    name, data_dir = source.tfds_dataset.get_split_params()
    if name and not compat.is_prepared(name, data_dir):
      missing.append(name)
  if not missing:
    return
  names = ", ".join(sorted(set(missing)))
  if tfds_data_dir:
    raise errors.UserError(
      f"{mixture_or_task.name} needs data that --t5_tfds_data_dir="
      f"{tfds_data_dir} does not hold: {names}; prepare it with python -m "
      "tools.prepare_data, or train on what is there with "
      f"--gin_file={os.path.join(tfds_data_dir, 'local_mixture.gin')} given "
      "last."
    )
  if not _online():
    raise errors.UserError(
      f"{mixture_or_task.name} needs data that is not on this machine and "
      f"cannot be downloaded without internet: {names}; prepare local files "
      "with python -m tools.prepare_data and give their folder as "
      "--t5_tfds_data_dir."
    )


def _online() -> bool:
  try:
    socket.create_connection(("storage.googleapis.com", 443), 5).close()
  except OSError:
    return False
  return True


def build_model(mixture_or_task):
  """Builds the configured model and checks its HyperGrid layers.

  Args:
    mixture_or_task: a seqio Mixture or Task, whose vocabularies size it.

  Returns:
    a transformer.Bitransformer or Unitransformer; plain Python, no graph.
  """
  features = mixture_or_task.output_features
  targets = features["targets"].vocabulary.vocab_size
  inputs = features.get("inputs", features["targets"]).vocabulary.vocab_size
  model = utils.build_model(
    model_type=gin_value("run.model_type", "bitransformer"),
    input_vocab_size=inputs,
    output_vocab_size=targets,
  )
  for layer, model_dim in hypergrid_layers(model):
    layer.check(model_dim)
  return model


def hypergrid_layers(model) -> list:
  """The HyperGrid layers of a model, as (layer, d_model dimension) pairs."""
  stacks = [
    getattr(model, s) for s in ("encoder", "decoder") if hasattr(model, s)
  ]
  return [
    (layer, stack.model_dim)
    for stack in stacks or [model]
    for layer in getattr(stack.layer_stack, "layers", [])
    if isinstance(layer, layers.HyperGrid)
  ]


def check_checkpoints(model, model_dir: str, mode: str) -> None:
  """Checks that the checkpoints this run reads are there and fit the model.

  Args:
    model: from `build_model`.
    model_dir: from --model_dir.
    mode: run.mode.
  """
  latest = tf.train.latest_checkpoint(model_dir)
  waits = mode in ("eval", "score_eval", "perplexity_eval") and (
    gin_value("run.eval_checkpoint_step") is None
  )
  if mode in _READS_CHECKPOINT and latest is None and not waits:
    raise errors.UserError(
      f'run.mode = "{mode}" needs a trained model, and --model_dir={model_dir} '
      "holds no checkpoint: give the folder that a training run wrote."
    )
  init_checkpoint = (
    gin_value("run.init_checkpoint") if mode == "train" else None
  )
  if not latest and not init_checkpoint:
    return
  shapes = checkpoints.variable_shapes(model)
  if latest:
    checkpoints.check_fits(
      latest, shapes, f"in --model_dir={model_dir}", same_model=True
    )
  if init_checkpoint:
    checkpoints.check_fits(
      init_checkpoint, shapes, "run.init_checkpoint", same_model=False
    )
