"""Binds what follows from a run's flags and machine; nothing else binds."""

import importlib.util

import gin
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import config, console, request


def settle(run: request.Run) -> None:
  """Binds the gin parameters that follow from the flags and the machine.

  Bound, not passed, so that the saved configuration has them. A line is printed
  for each value that replaces one from a file or flag.
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
  if not run.trains:  # else the score of another step would be shown
    gin.bind_parameter("get_checkpoint_iterator.find_closest", False)
  for name, value in run.mesh.settles.items():
    gin.bind_parameter(name, value)
  _settle_batch_size(run)
  _settle_packing()
  _settle_checkpoint_step(run)
  _settle_start(run)
  _settle_data_order(run)
  if flags.evaluate:
    _settle_evaluation(run)


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
  """Packs with TensorFlow's operations if tensor2tensor's are not installed.

  Public operative configs bind tensor2tensor's; TensorFlow's do the same,
  slower.
  """
  name = "pack_dataset.use_custom_ops"
  if config.value(name) and not importlib.util.find_spec("tensor2tensor"):
    gin.bind_parameter(name, False)
    console.say(
      f"{name} = False, because it needs tensor2tensor, which is not "
      f"installed{config.place(name)}"
    )


def _settle_checkpoint_step(run: request.Run) -> None:
  name = run.checkpoint_parameter
  if run.checkpoint_step == -1 and config.value(name) is None:
    gin.bind_parameter(name, -1)
    console.say(f"{name} is not given: the last checkpoint is scored")
  # An evaluation that follows a training stops when the training does. If the
  # folder is past the bound steps, they are not those of its training.
  stop = "get_checkpoint_iterator.stop_after"
  if run.waits and config.value(stop) is None:
    steps = run.train_steps
    if steps and run.latest_step <= steps:
      gin.bind_parameter(stop, steps)


def _settle_start(run: request.Run) -> None:
  """Binds what a training loads: nothing, or what fits."""
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
  """Binds Mesh TensorFlow's option to skip the batches already seen.

  The seed determines the order of the examples, so a training that resumes at
  step n skips the n batches it has seen, unless the user disabled that. Skipped
  batches are read, tokenized and packed, but not trained on.
  """
  name, first = "run.skip_seen_data", "run.seen_data_init_step"
  by_itself = config.value("run.checkpoint_input_pipeline")
  refused = config.value(name) is False and not config.is_recorded(name)
  if not run.trains or by_itself or refused:
    return
  chosen = config.origin(first) and not config.is_recorded(first)
  began = config.value(first) if chosen else run.began
  if config.value(name) in (None, False):  # other values are left to the checks
    gin.bind_parameter(name, True)
  gin.bind_parameter(first, began)
  if run.latest_step > began:
    seen = run.latest_step - began
    console.say(f"skipping the {seen} batches already seen")


def _settle_evaluation(run: request.Run) -> None:
  """Binds what an evaluation needs and a training does not, unless bound."""
  function = gin.get_configurable("mesh_eval_dataset_fn")
  for name, value in (
    ("run.eval_dataset_fn", function),
    ("mesh_eval_dataset_fn.mixture_or_task_name", run.mixture_name),
    ("mesh_eval_dataset_fn.use_cached", run.use_cached),
    ("Bitransformer.decode.max_decode_length", 128),  # as t5's eval.gin
  ):
    if config.value(name) is None:
      gin.bind_parameter(name, value)


def settle_removed(run: request.Run, path: str | None) -> bool:
  """Binds the remaining checkpoints after a training removed one.

  A training removes those beyond run.keep_checkpoint_max, even while they are
  read.

  Args:
    run: the run that failed to read one.
    path: path of the last one that it read, if any.

  Returns:
    whether it was removed, and the run should start again with the others

  Raises:
    UserError: if no other is left.
  """
  name, asked = run.checkpoint_parameter, run.checkpoint_step
  step_of = utils.get_step_from_checkpoint_path
  done = step_of(path) if path else -1
  known = config.value(name)  # fewer than requested, after the first time
  if not isinstance(known, list | tuple):
    known = [step_of(p) for p in (*run.read, path) if p]
  gone = [
    step
    for step in known
    if step >= done
    and not checkpoints.exists(checkpoints.path_of(run.model_dir, step))
  ]
  if run.trains or not gone:
    return False
  left = [s for s in checkpoints.list_steps(run.model_dir) if s > min(gone)]
  if isinstance(asked, list | tuple):
    left = [s for s in left if s in asked]
  told = f"a training removed the checkpoint of step {min(gone)}"
  by_number = isinstance(asked, int) and asked != -1
  if not left or by_number:
    raise errors.UserError(
      f"{told} from --model_dir={run.model_dir} while it was read: give "
      f"another {name}, or have the training keep more "
      "(run.keep_checkpoint_max)."
    )
  newest = asked is None or asked == -1
  with gin.unlock_config():
    gin.bind_parameter(name, asked if newest else left)
  steps = checkpoints.describe_steps(left[-1:] if newest else left)
  console.say(f"{told}: continuing with {steps}")
  return True
