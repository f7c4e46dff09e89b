"""Whether the checkpoints that a run reads are there, whole, and fit it."""

import json
import os

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoint_files, checkpoints, errors, layers
from hypergrid_mtf.run import (
  console,
  files,
  gin_files,
  request,
  trained_model,
  vocabulary_file,
)

WARM_START = "warm_start.json"
# What TensorFlow raises for a checkpoint that it cannot read.
FAILED_RESTORE = (
  tf.errors.DataLossError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
)
_PARTIAL = "--allow_partial_warm_start to load what fits"


def check_model_dir(model_dir: str) -> None:
  """Raises UserError if --model_dir is a checkpoint and not its folder."""
  path = checkpoint_files.prefix(model_dir.rstrip("/"))
  if not tf.io.gfile.isdir(path) and checkpoint_files.exists(path):
    raise errors.UserError(
      f"--model_dir={model_dir} is a checkpoint: give its folder, "
      f"{os.path.dirname(path) or '.'}, and a step where one is to be chosen "
      "(run.eval_checkpoint_step)."
    )


def check_checkpoints(
  model,
  model_dir: str,
  asked: request.Request,
  allow_partial: bool = False,
  vocabulary: dict | None = None,
) -> tuple[str, checkpoints.WarmStart] | None:
  """Checks that the checkpoints a run reads are there and fit the model.

  Args:
    model: from `gin_model.build`.
    model_dir: from --model_dir.
    asked: the run.
    allow_partial: from --allow_partial_warm_start.
    vocabulary: in use, from `t5_tasks.vocabulary_record.record`.

  Returns:
    the path of the checkpoint that a run begins from, and what it takes from
    there, if it is given one
  """
  latest = checkpoints.latest_checkpoint(model_dir)
  if not asked.trains and latest is None and not asked.waits:
    raise errors.UserError(
      f'mode "{asked.mode}" needs a trained model, and --model_dir={model_dir} '
      "holds no checkpoint: give the folder that a training run wrote."
    )
  if not latest and not asked.warm_from:
    return None
  shapes = checkpoints.variable_shapes(model)
  if not latest:
    return _check_warm_start(model, shapes, asked, allow_partial, vocabulary)
  origin = f"in --model_dir={model_dir}"
  for path in read(latest, asked):
    checkpoint_files.check_whole(path, origin, latest=path == latest)
    checkpoints.check_same_model(path, shapes, origin)
  check_same_function(model, model_dir)
  check_same_vocabulary(model_dir, vocabulary)
  if asked.warm_from:
    _check_not_read(latest, asked)
  return None


def read(latest: str, asked: request.Request) -> list[str]:
  """The checkpoints of its own folder that a run reads.

  Args:
    latest: the folder's last one.
    asked: the run.

  Returns:
    prefixes, in order; steps that are not there are left out
  """
  folder = os.path.dirname(latest)
  step = asked.checkpoint_step
  if asked.trains or step is None or step == -1:
    return [latest]
  there = checkpoint_files.steps(folder, parts=True)
  if step != "all":
    wanted = step if isinstance(step, list | tuple) else [step]
    there = [s for s in there if s in wanted]
  return [checkpoint_files.path_of(folder, s) for s in there]


def source(asked: request.Request) -> str:
  """The checkpoint that training starts from, by its prefix.

  Args:
    asked: the run, with a `warm_from`.

  Returns:
    what was given, where it is a folder its last checkpoint, where it is a file
    of a checkpoint that one
  """
  assert asked.warm_from
  origin, given = asked.warm_from
  if not isinstance(given, str):
    raise errors.UserError(
      f"{origin} = {given!r} is not the path of a checkpoint."
    )
  return checkpoints.of_path(given, origin)


def explain_failed_restore(model_dir: str, asked: request.Request) -> None:
  """Raises UserError naming the checkpoint whose values cannot be read.

  TensorFlow's error names neither the file nor the step. Reads all values.

  Args:
    model_dir: from --model_dir.
    asked: the run.
  """
  latest = checkpoints.latest_checkpoint(model_dir)
  if latest:
    for path in read(latest, asked):
      checkpoint_files.check_whole(
        path, f"in --model_dir={model_dir}", path == latest, read_values=True
      )
    names = checkpoints.reader_shapes(latest, f"in --model_dir={model_dir}")
    if asked.trains and not any("_slot_" in name for name in names):
      raise errors.UserError(
        f"{latest} holds weights and not the state of an optimizer, so its "
        "training cannot go on: give another --model_dir, and "
        f"run.init_checkpoint = {latest!r}."
      )
  elif asked.warm_from:
    checkpoint_files.check_whole(
      source(asked), asked.warm_from[0], read_values=True
    )


def _check_warm_start(model, shapes, asked, allow_partial, vocabulary):
  origin = asked.warm_from[0]
  path = source(asked)
  if not checkpoint_files.exists(path):
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) cannot be read: there is no file "
      f"{path}.index{_others(path)}."
    )
  checkpoint_files.check_whole(path, origin)
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
      f"{_PARTIAL}."
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
  check_source(model, path, origin, vocabulary, allow_partial)
  return path, warm


def _others(path: str) -> str:
  """ "; DIR has those of the steps …", for one that is not there, or ""."""
  there = checkpoint_files.steps(os.path.dirname(path))
  if not there:
    return ""
  return (
    f"; {os.path.dirname(path)} has those of the steps "
    f"{checkpoint_files.listed(there)}"
  )


def _shape_of(warm: checkpoints.WarmStart, name: str) -> str:
  if name in warm.reshaped:
    there, here = warm.reshaped[name]
    return f"{list(there)} in the checkpoint and {list(here)} in the model"
  if name in warm.missing:
    return (
      f"absent in the checkpoint and {list(warm.missing[name])} in the model"
    )
  return f"{list(warm.unused[name])} in the checkpoint and absent in the model"


def check_source(
  model,
  path: str,
  origin: str,
  vocabulary: dict | None = None,
  allow_partial: bool = False,
) -> None:
  """Checks a warm start for what shapes cannot show.

  Args:
    model: that is to be trained, from gin as it is bound.
    path: of the checkpoint that it starts from.
    origin: where the path came from, for the message.
    vocabulary: in use, as in `check_checkpoints`; None for no check.
    allow_partial: say what differs, and continue.

  Raises:
    UserError: if the weights would mean something else.
  """
  folder = os.path.dirname(path)
  wrong = vocabulary and vocabulary_file.difference(folder, vocabulary)
  if not wrong:
    try:
      trained = trained_model.trained_facts(folder)
    except errors.UserError as e:
      # A public checkpoint's may name what the library no longer has.
      console.say(f"not checked: {errors.sentence(e)}")
      return
    differ = trained and trained_model.differences(
      trained_model.facts(model), trained
    )
    if not differ:
      return
    wrong = (
      f"{trained_model.describe(differ)}; give the gin files it was trained "
      "with"
    )
  if not allow_partial:
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) was trained as another model: "
      f"{wrong}, or {_PARTIAL}."
    )
  console.say(f"{path} ({origin}) was trained as another model: {wrong}")


def check_same_function(model, model_dir: str) -> None:
  """Checks what shapes cannot show against the configuration of the training.

  Args:
    model: from gin as it is bound.
    model_dir: of the training.

  Raises:
    UserError: if the model would compute something else from its variables.
  """
  trained = trained_model.trained_facts(model_dir)
  if trained is None:
    if layers.hypergrid_layers(model):
      console.say(
        f"{model_dir} holds no {trained_model.CONFIG}: it is not checked that "
        "the gates are those of the training"
      )
    return
  differ = trained_model.differences(trained_model.facts(model), trained)
  if differ:
    raise errors.UserError(
      f"the model in --model_dir={model_dir} was trained with another function "
      f"of the same variables: {trained_model.describe(differ)}; give the gin "
      "files it was trained with, or another folder."
    )


def check_same_vocabulary(model_dir: str, vocabulary: dict | None) -> None:
  """Checks a vocabulary against the one of the training.

  Args:
    model_dir: of the training.
    vocabulary: in use, as in `check_checkpoints`; None for no check.

  Raises:
    UserError: if they differ, naming both.
  """
  wrong = vocabulary and vocabulary_file.difference(model_dir, vocabulary)
  if wrong:
    raise errors.UserError(
      f"the model in --model_dir={model_dir} was trained with another "
      f"vocabulary: {wrong}."
    )


def record_warm_start(model_dir: str, path: str, report: dict) -> None:
  """Keeps what a run began from beside its checkpoints.

  Args:
    model_dir: of the run.
    path: of the checkpoint that it starts from.
    report: what is loaded from there.
  """
  report = dict(
    checkpoint=path,
    step=checkpoints.step_of(path),
    digest=checkpoint_files.digest(path),
    **report,
  )
  files.write(
    os.path.join(model_dir, WARM_START), json.dumps(report, indent=1) + "\n"
  )


def step_of_warm_start(model_dir: str) -> int:
  """The step that a run began at: its first checkpoint's, or 0."""
  return _read_warm_start(model_dir).get("step") or 0


def forget_warm_start(model_dir: str) -> None:
  """Removes the record of an earlier beginning that left no checkpoint."""
  path = os.path.join(model_dir, WARM_START)
  if tf.io.gfile.exists(path):
    tf.io.gfile.remove(path)


def _check_not_read(latest: str, asked: request.Request) -> None:
  """Says that a run continues from its own checkpoint, and not from another.

  A run that was interrupted is started again with the same flags, so a
  checkpoint to start from is refused only where it can be known to be another
  than the one that the run began from.
  """
  folder = os.path.dirname(latest)
  assert asked.warm_from
  origin, given = asked.warm_from
  began = _read_warm_start(folder)
  path = began.get("checkpoint")
  if path and not _may_be_same(began, given, asked):
    raise errors.UserError(
      f"{origin} = {given!r} is another checkpoint than {path}, from which the "
      f"run in {folder} began ({WARM_START}): leave it out to continue from "
      f"{latest}, or give another --model_dir."
    )
  console.say(
    f"continuing from {latest}: {origin} = {given!r} is not read"
    + (", the run began from it" if path else "")
  )


def _may_be_same(began: dict, given, asked) -> bool:
  try:
    path = source(asked)
    if began.get("digest") and checkpoint_files.exists(path):
      return began["digest"] == checkpoint_files.digest(path)
    if began.get("step") is not None and checkpoint_files.exists(path):
      return began["step"] == checkpoints.step_of(path)
  except (errors.UserError, ValueError, tf.errors.OpError):
    pass  # gone, or given wrongly: only known not to be read
  return True


def _read_warm_start(folder: str) -> dict:
  path = os.path.join(folder, WARM_START)
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    return found if isinstance(found, dict) else {}
  except (ValueError, tf.errors.OpError):
    return {}
