"""Reads the first examples of each task as a training will."""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds
from absl import logging

from hypergrid_mtf import errors, tfds_data
from hypergrid_mtf.run import source_files

# {task name: its first examples}.
Examples = dict[str, list[Mapping[str, Any]]]


def is_cached(task: seqio.Task) -> bool:
  """Whether a task is cached in one of --additional_task_cache_dirs."""
  return task.supports_caching and task.cache_dir is not None


def training_tasks(mixture_or_task) -> list[seqio.Task]:
  """The tasks with a train split and a rate above 0.

  Raises:
    UserError: there is none, or a rate cannot be computed.
  """
  if isinstance(mixture_or_task, seqio.Task):
    rated = [mixture_or_task]
  else:
    rated = [t for t in mixture_or_task.tasks if _rate(mixture_or_task, t) > 0]
  tasks = [task for task in rated if "train" in task.splits]
  if tasks:
    return tasks
  why = "every task has rate 0."
  if rated:
    names = ", ".join(task.name for task in rated)
    why = f"of its tasks with a rate above 0 ({names}) none has a train split."
  raise errors.UserError(
    f"there is nothing to train on in {mixture_or_task.name}: {why}"
  )


def _rate(mixture, task) -> float:
  try:
    return mixture.get_rate(task)
  except Exception as e:  # Rates may be the user's functions.
    raise errors.UserError(
      f"the rate of the task {task.name!r} in {mixture.name} cannot be "
      f"computed ({describe_error(e)}): give it a number."
    ) from e


def check_examples(tasks, split: str, use_cached: bool = False) -> None:
  """Checks what can be known about examples without reading them.

  Args:
    tasks: seqio Tasks; those without the split are skipped.
    split: the split to read.
    use_cached: whether cached tasks are read, which need no sources.

  Raises:
    UserError: a task whose source says that it is empty, or whose file is
      missing, empty or malformed.
  """
  for task in tasks:
    if split in task.splits and not (use_cached and is_cached(task)):
      source_files.check_task(task, split)
      if _is_readable(task) and _num_declared(task, split) == 0:
        raise _no_examples(task, split)


def first_examples(
  tasks, split: str, count: int, lengths, use_cached: bool = False
) -> Examples:
  """Reads the first examples of each task.

  Args:
    tasks: seqio Tasks that have the split; those not on this machine are
      skipped, and nothing is downloaded.
    split: the split to read.
    count: how many examples of each task.
    lengths: run.sequence_length; None for 512.
    use_cached: whether training reads cached tasks.

  Raises:
    UserError: a task whose examples cannot be read, or that has none, possibly
      because its preprocessors drop them all.
  """
  if not isinstance(lengths, dict):
    lengths = dict.fromkeys(("inputs", "targets"), lengths or 512)
  found = {}
  for task in tasks:
    cached = use_cached and is_cached(task)
    if not (cached or _is_readable(task)):
      continue
    try:
      # A separate graph, because t5's main disables eager execution.
      with tf.Graph().as_default():
        ds = task.get_dataset(
          lengths,
          split=split,
          use_cached=cached,
          shuffle=False,
          num_epochs=1,
        )
        examples = list(tfds.as_numpy(ds.take(count)))
    except errors.UserError:
      raise
    except Exception as e:  # Sources and preprocessors may raise anything.
      logging.exception("%s cannot be read", task.name)
      raise errors.UserError(
        f"the split {split!r} of the task {task.name!r} cannot be read: "
        f"{describe_error(e)}"
      ) from e
    if not examples:
      raise _no_examples(task, split)
    found[task.name] = examples
  return found


def texts(examples: Examples, feature: str) -> list[str]:
  """The texts of a feature before tokenization."""
  key = f"{feature}_pretokenized"
  return [
    tf.compat.as_text(example[key])
    for rows in examples.values()
    for example in rows
    if isinstance(example.get(key), bytes)
  ]


def _is_readable(task) -> bool:
  """Whether a task's data is on this machine, if it comes from TFDS."""
  if not isinstance(task.source, seqio.TfdsDataSource):
    return True
  name, data_dir = task.source.tfds_dataset.get_split_params()
  return bool(name) and tfds_data.is_prepared(name, data_dir)


def _num_declared(task, split: str) -> int | None:
  """How many examples a task declares; None if it declares none."""
  try:
    return task.num_input_examples(split)
  except KeyError:  # SeqIO would fail in the same way when it reads them.
    raise errors.UserError(
      f"num_input_examples of the task {task.name!r} has no number for its "
      f"split {split!r}: give one for each split, or leave it out."
    ) from None


def _no_examples(task, split: str) -> errors.UserError:
  return errors.UserError(
    f"the split {split!r} of the task {task.name!r} has no examples, or its "
    "preprocessors drop all of them: add examples, or leave the task out."
  )


def describe_error(error: Exception) -> str:
  """The first line of an error, without TensorFlow's node name."""
  lines = str(error).strip().splitlines()
  if isinstance(error, tf.errors.OpError | OSError | ValueError) and lines:
    return lines[0].rpartition("}} ")[2]
  return ": ".join([type(error).__name__, *lines[:1]])
