"""The one place that binds gin parameters of a run, and says what it binds."""

import importlib.util

import gin

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import config, console, request


def settle(run: request.Run) -> None:
  """Binds what follows from the flags and the machine.

  Bound, not passed, so that it is part of the saved configuration. Lines say
  what replaces a value that a file or a flag has.
  """
  flags = run.flags
  if run.vocabulary_name is not None:
    name = "t5_tasks.vocabularies.use_vocabulary.name"
    gin.bind_parameter(name, run.vocabulary_name)
  if flags.seed is not None:
    gin.bind_parameter("mesh_train_dataset_fn.seed", flags.seed)
  if run.exports:
    gin.bind_parameter("run.export_path", run.export_path)
  if run.mode == "score_eval":
    gin.bind_parameter("run.eval_dir_suffix", run.eval_dir_suffix)
  for name, value in run.mesh.settles.items():
    gin.bind_parameter(name, value)
  _settle_batch_size(run)
  _settle_packing()
  _settle_checkpoint_step(run)
  _settle_start(run)
  _settle_data_order(run)


def _settle_batch_size(run: request.Run) -> None:
  name = "run.batch_size"
  given, size = config.value(name), run.batch_size
  if isinstance(size, tuple) and run.lengths and given and given[1] != size[1]:
    gin.bind_parameter(name, size)
    console.say(
      f"{name} = {size}: {given[1]} tokens{config.place(name)} are not a "
      f"multiple of {max(run.lengths.values())}"
    )


def _settle_packing() -> None:
  """Packs with TensorFlow's operations where tensor2tensor's are not there.

  Public operative configs bind them; TensorFlow's do the same, more slowly.
  """
  name = "pack_dataset.use_custom_ops"
  if config.value(name) and not importlib.util.find_spec("tensor2tensor"):
    gin.bind_parameter(name, False)
    console.say(
      f"{name} = False: the operations it asks for are tensor2tensor's, which "
      f"is not installed{config.place(name)}"
    )


def _settle_checkpoint_step(run: request.Run) -> None:
  name = run.checkpoint_parameter
  if run.checkpoint_step == -1 and config.value(name) is None:
    gin.bind_parameter(name, -1)
    console.say(f"{name} is not given: the last checkpoint is scored")


def _settle_start(run: request.Run) -> None:
  """What a training loads: nothing where nothing is needed, or what fits."""
  if request.START in run.required and not run.begins:
    gin.bind_parameter(request.START, None)
  if not isinstance(run.init_checkpoint, str) or not run.begins:
    return
  gin.bind_parameter(request.START, run.source)
  mapping = "init_checkpoint_variable_mapping.mapping_fn"
  if config.value(mapping) is None:
    gin.bind_parameter(
      mapping, lambda name: checkpoints.name_in(run.source_shapes, name)
    )
  wanted = run.variable_filter  # the user's own, before it is replaced
  if run.flags.allow_partial_warm_start:
    gin.bind_parameter(
      "should_load_variable.filter_fn",
      lambda name: name.split("_slot_")[0] not in run.warm_start.reshaped
      and wanted(name),
    )


def _settle_data_order(run: request.Run) -> None:
  """Binds Mesh TensorFlow's own skipping of the batches that were seen.

  The order of the examples follows from the seed, so a training that resumes at
  step n skips the n batches that it has seen, unless the user bound it not to.
  To skip is to read, tokenize and pack without training.
  """
  name, first = "run.skip_seen_data", "run.seen_data_init_step"
  by_itself = config.value("run.checkpoint_input_pipeline")
  refused = config.value(name) is False and _is_chosen(name)
  if not run.trains or by_itself or refused:
    return
  began = config.value(first) if _is_chosen(first) else run.began
  if config.value(name) in (None, False):  # the checks see any other value
    gin.bind_parameter(name, True)
  gin.bind_parameter(first, began)
  if run.latest_step > began:
    seen = run.latest_step - began
    console.say(f"skipping the {seen} batches that were seen before")


def _is_chosen(name: str) -> bool:
  """Whether a value is the user's, and not of the record of another training.

  An operative_config.gin has all parameters, those of a resumed run too.
  """
  found = config.origin(name)
  return found is not None and found.source != "generated"
