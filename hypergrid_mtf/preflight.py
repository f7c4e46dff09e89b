"""Checks of a run, before any graph of it is built.

Each check raises UserError: what is wrong, where it came from, what would be
right.
"""

import ast
import os
import re
import socket
import tempfile

import seqio
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import (
  checkpoints,
  compat,
  errors,
  layers,
  projection,
  request,
)

# Hyperparameters that change what a trained HyperGrid computes and leave no
# trace in the shapes of its variables.
_UNSEEN_IN_SHAPES = ("gate", "condition_on", "gated_kernel")


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


def check_input_files(files) -> None:
  """Checks that files a run reads are there.

  Args:
    files: (where it was given, path) pairs.
  """
  for where, path in files:
    if isinstance(path, list | tuple):
      continue  # t5 also takes the lines themselves
    if not path or not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
      raise errors.UserError(
        f"{where} = {path!r} is no file: give a text file, one example a line."
      )


def check_sizes() -> None:
  """Checks the bindings that the size of a run is computed from."""
  batch_size = request.gin_value("run.batch_size", 1)
  methods = [
    f"{what}_per_{share}"
    for what in ("sequences", "tokens")
    for share in ("batch", "replica")
  ]
  by_method = (
    isinstance(batch_size, list | tuple)
    and len(batch_size) == 2
    and batch_size[0] in methods
    and isinstance(batch_size[1], int)
  )
  if not (by_method or isinstance(batch_size, int)):
    raise errors.UserError(
      f"run.batch_size = {batch_size!r} is no batch size: give an integer, "
      f"or a pair such as ('tokens_per_batch', 4096) with one of {methods}."
    )
  lengths = request.gin_value("run.sequence_length")
  if lengths is not None and not (
    isinstance(lengths, int)
    or (
      isinstance(lengths, dict)
      and all(isinstance(n, int) and n > 0 for n in lengths.values())
    )
  ):
    raise errors.UserError(
      f"run.sequence_length = {lengths!r} is no length: give an integer, or "
      '{"inputs": 512, "targets": 128}.'
    )
  request.gin_value("run.train_steps")  # an undefined macro is refused here


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


def check_split(mixture_or_task, split: str) -> None:
  """Checks that some task of the mixture has the split.

  Args:
    mixture_or_task: a seqio Mixture or Task whose data is on disk.
    split: run.dataset_split, --eval_split or --split of a tool.
  """
  found = {s for t in seqio.get_subtasks(mixture_or_task) for s in t.splits}
  if split not in found:
    raise errors.UserError(
      f"no task of {mixture_or_task.name} has a split {split!r} "
      "(run.dataset_split, --eval_split, --split): there are "
      f"{', '.join(sorted(found))}."
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
  model_type = request.gin_value("run.model_type", "bitransformer")
  try:
    model = utils.build_model(
      model_type=model_type,
      input_vocab_size=inputs,
      output_vocab_size=targets,
    )
    gated = hypergrid_layers(model)
    for layer, model_dim in gated:
      layer.check(model_dim)
  except errors.UserError:
    raise
  except (TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      f"the gin bindings describe no model of run.model_type = {model_type!r}: "
      f"{errors.sentence(e)}"
    ) from None
  if gated and getattr(model, "autoregressive", False):
    raise errors.UserError(
      "HyperGrid takes its conditioning vector from an encoder, and "
      f"run.model_type = {model_type!r} is a decoder alone: use "
      '"bitransformer".'
    )
  return model


def hypergrid_layers(model) -> list:
  """The HyperGrid layers of a model, as (layer, d_model dimension) pairs."""
  if hasattr(model, "student"):
    model = model.student
  names = ("encoder", "decoder")
  stacks = [getattr(model, n) for n in names if hasattr(model, n)] or [model]
  return [
    (layer, stack.model_dim)
    for stack in stacks
    for layer in getattr(stack.layer_stack, "layers", [])
    if isinstance(layer, layers.HyperGrid)
  ]


def check_packing(model, asked: request.Request) -> None:
  """Checks that the forced order of contraction serves the rows of the run.

  Args:
    model: from `build_model`.
    asked: the run.
  """
  reader, packs = {
    "train": ("mesh_train_dataset_fn", True),
    "perplexity_eval": ("mesh_eval_dataset_fn", False),
  }.get("train" if asked.trains else asked.mode, (None, False))
  if not reader or not request.gin_value(f"{reader}.pack", packs):
    return
  for layer, _ in hypergrid_layers(model):
    if layer.contraction == "weights" and layer.gates_differ:
      raise errors.UserError(projection.cannot_serve_packed_rows("weights"))


def latest_checkpoint(model_dir: str) -> str | None:
  """`tf.train.latest_checkpoint`, but a damaged folder is not an empty one.

  TensorFlow takes a `checkpoint` file that it cannot follow for none at all,
  and training would begin anew over what was saved.
  """
  index = os.path.join(model_dir, "checkpoint")
  try:
    latest = tf.train.latest_checkpoint(model_dir)
  except (ValueError, tf.errors.OpError):
    latest = None
  if latest is None and tf.io.gfile.exists(index):
    raise errors.UserError(
      f"{index} is damaged or names a checkpoint that is gone: let its first "
      "line name one that is there, or remove it to begin anew."
    )
  return latest


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
  latest = latest_checkpoint(model_dir)
  if not asked.trains and latest is None and not asked.waits:
    raise errors.UserError(
      f'mode "{asked.mode}" needs a trained model, and --model_dir={model_dir} '
      "holds no checkpoint: give the folder that a training run wrote."
    )
  init_checkpoint = (
    request.gin_value("run.init_checkpoint") if asked.trains else None
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
    found, shapes, request.gin_value("run.init_variable_filter") or ""
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
  gated = hypergrid_layers(model)
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
