"""Whether the data that a run reads are there, and something to train on."""

import os
import socket
from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds
from absl import logging

from hypergrid_mtf import errors, tfds_data
from hypergrid_mtf.run import cached_tasks, console, source_files

# By name, the first examples of each task.
Examples = dict[str, list[Mapping[str, Any]]]


def check_data(
  mixture_or_task, tfds_data_dir: str | None, use_cached: bool = False
) -> None:
  """Checks that every TFDS data set of a mixture is on disk, or can come there.

  What TFDS would put into a given folder in the middle of a graph, it puts
  there now. What it reads from its public bucket, in the middle of a graph too,
  is said.

  Args:
    mixture_or_task: a seqio Mixture or Task.
    tfds_data_dir: from --t5_tfds_data_dir, or None for the default of TFDS.
    use_cached: whether cached tasks are read, which need no raw data.

  Raises:
    UserError: naming the data sets, and what brings them.
  """
  if tfds_data_dir and not tf.io.gfile.exists(tfds_data_dir):
    raise errors.UserError(
      f"the data folder --t5_tfds_data_dir={tfds_data_dir} does not exist: "
      "make it with python -m tools.prepare_data, or give the one TFDS wrote."
    )
  missing = set()
  for task in seqio.get_subtasks(mixture_or_task):
    source = task.source
    if not isinstance(source, seqio.TfdsDataSource):
      continue
    if use_cached and cached_tasks.is_cached(task):
      continue
    name, data_dir = source.tfds_dataset.get_split_params()
    if name and not tfds_data.is_prepared(name, data_dir):
      missing.add(name)
  if not missing:
    return
  names = ", ".join(sorted(missing))
  stuck = filter(None, map(tfds_data.why_not_generated, sorted(missing)))
  why = "; ".join(dict.fromkeys(stuck))
  if tfds_data_dir:
    needs = (
      f"{mixture_or_task.name} needs data that --t5_tfds_data_dir="
      f"{tfds_data_dir} does not hold: {names}; "
    )
    if why:
      local = os.path.join(tfds_data_dir, "local_mixture.gin")
      raise errors.UserError(
        f"{needs}{why}: prepare it with python -m tools.prepare_data (with "
        "--download it fetches the official files), or train on what is there "
        f"with --gin_file={local} given last."
      )
    if any(map(tfds_data.has_downloads, missing)) and not _online():
      raise errors.UserError(
        f"{needs}TFDS cannot download it without internet: prepare local files "
        "with python -m tools.prepare_data."
      )
    for name in sorted(missing):
      _generate(name, tfds_data_dir)
    return
  if not _online():
    raise errors.UserError(
      f"{mixture_or_task.name} needs data that is not on this machine and "
      f"cannot be downloaded without internet: {names}; prepare local files "
      "with python -m tools.prepare_data and give their folder as "
      "--t5_tfds_data_dir."
    )
  console.say(
    f"{names}: not on this machine, so TFDS will look for it in its public "
    "bucket gs://tfds-data"
    + (f", and fail where the bucket has it not ({why})" if why else "")
    + "; python -m tools.prepare_data --download --tfds_dir=data and "
    "--t5_tfds_data_dir=data go without the bucket"
  )


def _generate(name: str, data_dir: str) -> None:
  """Has TFDS make a data set, where t5 would have it made in its graph."""
  console.say(f"TFDS makes {name} in {data_dir}, with what it downloads for it")
  try:
    tfds_data.generate(name, data_dir)
  except Exception as e:  # of the network, the disk, or TFDS's reader
    logging.exception("%s cannot be generated", name)
    raise errors.UserError(
      f"TFDS cannot make {name} in --t5_tfds_data_dir={data_dir} "
      f"({_reason(e)}): prepare it with python -m tools.prepare_data, which "
      "with --download fetches the official files."
    ) from e


def check_split(mixture_or_task, split: str, use_cached: bool = False) -> None:
  """Checks that a task of the mixture has the split, and none an empty one.

  Args:
    mixture_or_task: a seqio Mixture or Task whose data is on disk.
    split: run.dataset_split, --eval_split or --split of a tool.
    use_cached: as in `check_examples`.
  """
  tasks = seqio.get_subtasks(mixture_or_task)
  found = {s for t in tasks for s in t.splits}
  if split not in found:
    raise errors.UserError(
      f"no task of {mixture_or_task.name} has a split {split!r} "
      "(run.dataset_split, --eval_split, --split): there are "
      f"{', '.join(sorted(found))}."
    )
  check_examples(tasks, split, use_cached)


def training_tasks(mixture_or_task) -> list[seqio.Task]:
  """The tasks that a run trains on.

  Args:
    mixture_or_task: a seqio Mixture or Task.

  Returns:
    those with a train split and a rate above 0

  Raises:
    UserError: there are none, or a rate cannot be computed.
  """
  if isinstance(mixture_or_task, seqio.Task):
    rated = [mixture_or_task]
  else:
    rated = [t for t in mixture_or_task.tasks if _rate(mixture_or_task, t) > 0]
  tasks = [task for task in rated if "train" in task.splits]
  if tasks:
    return tasks
  if rated:
    names = ", ".join(task.name for task in rated)
    raise errors.UserError(
      f"there is nothing to train on in {mixture_or_task.name}: of its tasks "
      f"with a rate above 0 ({names}) none has a train split."
    )
  raise errors.UserError(
    f"there is nothing to train on in {mixture_or_task.name}: every task has "
    "rate 0."
  )


def _rate(mixture, task) -> float:
  try:
    return mixture.get_rate(task)
  except Exception as e:  # Rates are functions, also of the user's own.
    raise errors.UserError(
      f"the rate of the task {task.name!r} in {mixture.name} cannot be "
      f"computed ({_reason(e)}): give it a number."
    ) from e


def check_examples(tasks, split: str, use_cached: bool = False) -> None:
  """Checks what can be known of examples without reading them.

  Args:
    tasks: seqio Tasks; those without the split are passed over.
    split: that is read.
    use_cached: whether cached tasks are read, whose sources are not needed.

  Raises:
    UserError: a task whose source says that it has none, or whose file is
      missing, empty or not as it will be parsed.
  """
  for task in tasks:
    if split not in task.splits:
      continue
    if use_cached and cached_tasks.is_cached(task):
      continue
    source_files.check_task(task, split)
    if _is_readable(task) and _declared(task, split) == 0:
      raise _no_examples(task, split)


def first_examples(
  tasks, split: str, count: int, lengths, use_cached: bool = False
) -> Examples:
  """Reads the first examples of each task, as training will.

  Args:
    tasks: seqio Tasks that have the split; those that are not on this machine
      are left out, nothing is downloaded.
    split: that is read.
    count: how many examples of each task.
    lengths: run.sequence_length.
    use_cached: whether training reads cached tasks.

  Returns:
    up to `count` examples of each task, with every feature

  Raises:
    UserError: a task whose examples cannot be read, or that has none, be it
      that its preprocessors leave all of them out.
  """
  if not isinstance(lengths, dict):
    lengths = dict.fromkeys(("inputs", "targets"), lengths or 512)
  found = {}
  for task in tasks:
    cached = use_cached and cached_tasks.is_cached(task)
    if not (cached or _is_readable(task)):
      continue
    try:
      # A graph of its own: t5's main program has eager execution off.
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
    except Exception as e:  # Whatever a source or a preprocessor raises.
      logging.exception("%s cannot be read", task.name)
      raise errors.UserError(
        f"the split {split!r} of the task {task.name!r} cannot be read: "
        f"{_reason(e)}"
      ) from e
    if not examples:
      raise _no_examples(task, split)
    found[task.name] = examples
  return found


def texts(examples: Examples, feature: str) -> list[str]:
  """The texts of a feature, as they were before they were tokenized.

  Args:
    examples: from `first_examples`.
    feature: "inputs" or "targets".

  Returns:
    one of each example that has it
  """
  key = f"{feature}_pretokenized"
  return [
    tf.compat.as_text(example[key])
    for rows in examples.values()
    for example in rows
    if isinstance(example.get(key), bytes)
  ]


def describe_cuts(examples: Examples, features, lengths) -> list[str]:
  """Which of some examples are longer than a sequence, and so lose their end.

  Args:
    examples: from `first_examples`.
    features: {name: seqio.Feature} of the mixture.
    lengths: run.sequence_length.

  Returns:
    a line for each task and feature of which any is cut
  """
  if isinstance(lengths, int):
    lengths = dict.fromkeys(features, lengths)
  lines = []
  for key in features.keys() & (lengths or {}).keys():
    feature, most = features[key], lengths[key]
    for task, rows in examples.items():
      sizes = [
        len(feature.vocabulary.encode(text)) + feature.add_eos
        for text in texts({task: rows}, key)
      ]
      cut = sum(size > most for size in sizes)
      if cut:
        lines.append(
          f"run.sequence_length: {cut} of {len(sizes)} sampled {key} of {task} "
          f"have more than {most} tokens (up to {max(sizes)}) and are cut"
        )
  return sorted(lines)


def _is_readable(task) -> bool:
  """Whether a task's data is on this machine, if it comes from TFDS."""
  if not isinstance(task.source, seqio.TfdsDataSource):
    return True
  name, data_dir = task.source.tfds_dataset.get_split_params()
  return bool(name) and tfds_data.is_prepared(name, data_dir)


def _declared(task, split: str) -> int | None:
  """How many examples a task says that it has; None where it does not."""
  try:
    return task.num_input_examples(split)
  except KeyError:  # It says so of other splits.
    return None


def _no_examples(task, split: str) -> errors.UserError:
  return errors.UserError(
    f"the split {split!r} of the task {task.name!r} has no examples, or its "
    "preprocessors leave all of them out: give it some, or leave the task out."
  )


def _reason(error: Exception) -> str:
  """The first line of an error, without TensorFlow's mark of the node."""
  lines = str(error).strip().splitlines()
  if isinstance(error, tf.errors.OpError | OSError | ValueError) and lines:
    return lines[0].rpartition("}} ")[2]
  return ": ".join([type(error).__name__, *lines[:1]])


def _online() -> bool:
  try:
    socket.create_connection(("storage.googleapis.com", 443), 5).close()
  except OSError:
    return False
  return True
