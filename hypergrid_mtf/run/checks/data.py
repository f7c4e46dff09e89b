"""Checks that vocabulary and data exist, are readable, and are not empty."""

import os
import socket

import seqio
import tensorflow.compat.v1 as tf
from absl import logging

from hypergrid_mtf import errors, layers, tfds_data
from hypergrid_mtf.run import (
  config,
  console,
  examples,
  input_files,
  request,
  source_files,
  vocabulary_file,
)
from t5_tasks import mixtures, task_tokens, vocabularies

# Lines of an input file that are checked for lost characters.
_MOST_LINES = 1000


def check_mixture(run: request.Run) -> None:
  """Checks that the mixture or task is known and has one vocabulary."""
  _ = run.mixture


def check_input_files(run: request.Run) -> None:
  """Checks that files of inputs and targets exist and are lines of text."""
  _ = run.input_lines


def check_sources(run: request.Run) -> None:
  """Checks that the run's data exist and use its vocabulary."""
  if run.trains and run.reader == "tsv_dataset_fn":
    source_files.check_tsv(config.value("tsv_dataset_fn.filename"))
  elif run.trains or run.split:
    if run.use_cached:
      _check_cached(run)
    check_data(run.mixture, run.flags.t5_tfds_data_dir, run.use_cached)
  if run.split:
    check_split(run.mixture, run.split, run.use_cached)


def check_examples(run: request.Run) -> None:
  """Checks that each training task has readable examples."""
  _ = run.examples


def _check_cached(run: request.Run) -> None:
  missing = []
  where = f"{run.cached_parameter} = True"
  for task in seqio.get_subtasks(run.mixture):
    if not examples.is_cached(task):
      if task.supports_caching:  # seqio reads the others from raw data
        missing.append(task.name)
      continue
    other = vocabulary_file.difference(task.cache_dir, run.vocabulary)
    if other:
      raise errors.UserError(
        f"{where}, and {task.name} was cached with another vocabulary: "
        f"{other}, or cache it again."
      )
    split = run.split or "train"
    if split in task.splits:
      source_files.check_cache(task, split)
  if missing:
    folders = ",".join(seqio.get_global_cache_dirs())
    raise errors.UserError(
      f"{where}, and {', '.join(missing)} "
      f"{'is' if len(missing) == 1 else 'are'} not in "
      f"--additional_task_cache_dirs={folders}: write them with python -m "
      "tools.cache_tasks, or leave that binding out."
    )


def check_data(
  mixture_or_task, tfds_data_dir: str | None, use_cached: bool = False
) -> None:
  """Checks that every TFDS data set of a mixture is on disk, or makes it.

  TFDS would otherwise make it while the graph is built, too late for later
  checks; so it is made now, with a message.

  Args:
    mixture_or_task: a seqio Mixture or Task.
    tfds_data_dir: from --t5_tfds_data_dir, or None for the default of TFDS.
    use_cached: whether cached tasks are read, which need no raw data.

  Raises:
    UserError: with the data sets, and how to get them.
  """
  if tfds_data_dir and not tf.io.gfile.exists(tfds_data_dir):
    raise errors.UserError(
      f"the data folder --t5_tfds_data_dir={tfds_data_dir} does not exist: "
      "make it with python -m tools.prepare_data, or give one that TFDS wrote."
    )
  missing = _missing(mixture_or_task, use_cached)
  if not missing:
    return
  names = ", ".join(missing)
  if not tfds_data_dir:
    if not _online():
      raise errors.UserError(
        f"{mixture_or_task.name} needs data that are not on this machine and "
        f"cannot be downloaded without internet: {names}; prepare local files "
        "with python -m tools.prepare_data and give their folder as "
        "--t5_tfds_data_dir."
      )
    return
  needs = (
    f"{mixture_or_task.name} needs data that are not in --t5_tfds_data_dir="
    f"{tfds_data_dir}: {names}; "
  )
  why = _why_not_generated(missing)
  if why:
    local = os.path.join(tfds_data_dir, "local_mixture.gin")
    raise errors.UserError(
      f"{needs}{why}: prepare them with python -m tools.prepare_data (with "
      "--download it fetches the official files), or train on the existing "
      f"data with --gin_file={local} given last."
    )
  if any(map(tfds_data.has_downloads, missing)) and not _online():
    raise errors.UserError(
      f"{needs}TFDS cannot download them without internet: prepare local files "
      "with python -m tools.prepare_data."
    )
  for name in missing:
    _generate(name, tfds_data_dir)


def _missing(mixture_or_task, use_cached: bool) -> list[str]:
  """The TFDS data sets that are not on disk."""
  missing = set()
  for task in seqio.get_subtasks(mixture_or_task):
    if not isinstance(task.source, seqio.TfdsDataSource) or (
      use_cached and examples.is_cached(task)
    ):
      continue
    name, data_dir = task.source.tfds_dataset.get_split_params()
    if name and not tfds_data.is_prepared(name, data_dir):
      missing.add(name)
  return sorted(missing)


def _why_not_generated(names: list[str]) -> str:
  stuck = filter(None, map(tfds_data.why_not_generated, names))
  return "; ".join(dict.fromkeys(stuck))


def _generate(name: str, data_dir: str) -> None:
  """Has TFDS make a data set now, instead of later inside t5's graph."""
  console.say(f"TFDS is making {name} in {data_dir}, including its downloads")
  try:
    tfds_data.generate(name, data_dir)
  except Exception as e:  # from the network, the disk, or TFDS's reader
    logging.exception("%s cannot be generated", name)
    raise errors.UserError(
      f"TFDS cannot make {name} in --t5_tfds_data_dir={data_dir} "
      f"({examples.describe_error(e)}): prepare it with python -m "
      "tools.prepare_data, which with --download fetches the official files."
    ) from e


def _online() -> bool:
  try:
    socket.create_connection(("storage.googleapis.com", 443), 5).close()
  except OSError:
    return False
  return True


def check_split(mixture_or_task, split: str, use_cached: bool = False) -> None:
  """Checks that some task has the split, and that no task's is empty."""
  tasks = seqio.get_subtasks(mixture_or_task)
  found = {s for t in tasks for s in t.splits}
  if split not in found:
    raise errors.UserError(
      f"no task of {mixture_or_task.name} has a split {split!r} "
      "(run.dataset_split, --eval_split, --split): there are "
      f"{', '.join(sorted(found))}."
    )
  examples.check_examples(tasks, split, use_cached)


def check_task_tokens(run: request.Run) -> None:
  """Checks that inputs begin with a task token, if a layer needs one."""
  counts = [
    layer.tasks.size
    for layer, _ in layers.own_layers(run.model)
    if hasattr(layer, "tasks")
  ]
  if not counts:
    return
  features = run.mixture.output_features
  vocabulary = features.get("inputs", features["targets"]).vocabulary
  remedy = "use a mixture of _task_token variants (docs/tasks.md)"
  firsts: list[tuple[str, int | None, str]] = [
    (f"inputs of {task} begin", token, remedy)
    for task, token in task_tokens.first_tokens(run.examples).items()
  ]
  remedy = (
    "begin the line with its task's token, or use tools.predict, which also "
    "reads tokens if the vocabulary is bytes"
  )
  for where, texts in run.input_lines.items():
    if not where.endswith("targets"):
      for text in texts:
        token = next(iter(vocabulary.encode(text)), None)
        firsts.append((f"line {text[:40]!r} of {where} begins", token, remedy))
  for what, token, remedy in firsts:
    index = None if token is None else vocabulary.vocab_size - 1 - token
    if index is None or not 0 <= index < counts[0]:
      raise errors.UserError(
        f"the {what} with {token}, but the model reads the task from a task "
        f"token, <extra_id_0> to <extra_id_{counts[0] - 1}> "
        f"(num_tasks.count): {remedy}."
      )


def note_bucket(run: request.Run) -> list[str]:
  """Notes data that TFDS will look for in its public bucket."""
  reads = run.trains and run.reader != "tsv_dataset_fn"
  if run.flags.t5_tfds_data_dir or not (reads or run.split):
    return []
  missing = _missing(run.mixture, run.use_cached)
  why = _why_not_generated(missing)
  return [
    f"{', '.join(missing)}: not on this machine, so TFDS will look in its "
    "public bucket gs://tfds-data"
    + (f", and fail if they are not in the bucket ({why})" if why else "")
    + "; python -m tools.prepare_data --download --tfds_dir=data and "
    "--t5_tfds_data_dir=data avoid the bucket"
  ] * bool(missing)


def note_lost_characters(run: request.Run) -> list[str]:
  """Notes characters of inputs and examples that the vocabulary lacks."""
  features = run.mixture.output_features
  vocabulary = features.get("inputs", features["targets"]).vocabulary
  looked_at = [
    (vocabulary, lines[:_MOST_LINES], f"lines of {where}")
    for where, lines in run.input_lines.items()
  ] + [
    (feature.vocabulary, examples.texts(run.examples, key), f"sampled {key}")
    for key, feature in features.items()
  ]
  lost = (vocabularies.describe_lost_characters(*given) for given in looked_at)
  return list(filter(None, lost))


def note_cuts(run: request.Run) -> list[str]:
  """Notes examples and lines that are cut because they are too long."""
  features, lengths = run.mixture.output_features, run.lengths or {}
  lines = []
  for key in features.keys() & lengths.keys():
    feature, most = features[key], lengths[key]
    for task, rows in run.examples.items():
      has_token = key == "inputs" and task.endswith(mixtures.TASK_TOKEN_SUFFIX)
      sizes = [
        len(feature.vocabulary.encode(text)) + feature.add_eos + has_token
        for text in examples.texts({task: rows}, key)
      ]
      cut = sum(size > most for size in sizes)
      if cut:
        lines.append(
          f"run.sequence_length: {cut} of {len(sizes)} sampled {key} of {task} "
          f"have more than {most} tokens (up to {max(sizes)}) and are cut"
        )
  for where, texts in run.input_lines.items():
    key = "targets" if where.endswith("targets") else "inputs"
    if key in lengths:
      vocabulary = features.get(key, features["targets"]).vocabulary
      eos = config.value("run.model_type", "bitransformer") != "lm"
      cut = input_files.describe_cut(texts, vocabulary, lengths[key], eos)
      lines += [cut] if cut else []
  return sorted(lines)


def note_collisions(run: request.Run) -> list[str]:
  """Notes tasks that a gate cannot tell apart by their first token."""
  gated = layers.hypergrid_layers(run.model)
  if not run.examples or not any(layer.gates_differ for layer, _ in gated):
    return []
  found = task_tokens.describe_collisions(run.mixture, run.examples)
  return [found] if found else []
