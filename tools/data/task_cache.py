"""Writes the tokens of tasks to files that SeqIO reads with `use_cached`.

The format is that of `seqio_cache_tasks`, which needs Apache Beam: a folder per
task, with TFRecords, `info.SPLIT.json`, `stats.SPLIT.json` and, last,
`COMPLETED`. The vocabulary's record is next to them, so that a run can check
it. Each split is one file, in the order of the raw data, so that a run sees the
same examples in the same order from both.
"""

import collections
import hashlib
import json
import os
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tqdm

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import console, files, vocabulary_file

_ONE_SHARD = "-00000-of-00001"


def write_task(
  task: seqio.Task, folder: str, record: dict[str, dict]
) -> dict[str, int] | None:
  """Writes a task atomically.

  Args:
    task: a task with its raw data on this machine.
    folder: the folder of all cached tasks; local or in the cloud.
    record: {feature: facts} of its vocabularies.

  Returns:
    {split: examples}; None if the task is already cached

  Raises:
    UserError: it is cached with another vocabulary; it has no examples; the
      file system refuses.
  """
  target = os.path.join(folder, seqio.get_task_dir_from_name(task.name))
  if tf.io.gfile.exists(os.path.join(target, "COMPLETED")):
    other = vocabulary_file.difference(target, record)
    if other:
      raise UserError(
        f"{target} has {task.name} with another vocabulary: {other}, or "
        "another --output_cache_dir."
      )
    return None
  with (
    files.new_folder(target, "--output_cache_dir") as part,
    tqdm.tqdm(
      desc=task.name,
      unit="example",
      disable=None,  # None disables it without a terminal.
      file=console.terminal(),
      leave=False,
    ) as bar,
  ):
    rows = {
      split: _write_split(task, split, part, bar) for split in task.splits
    }
    vocabulary_file.write(part, record)
    files.write(os.path.join(part, "COMPLETED"), "")
  return rows


def _write_split(
  task: seqio.Task, split: str, folder: str, bar: tqdm.tqdm
) -> int:
  """Writes one split; returns its number of examples."""
  # If a preprocessor draws random numbers, they are the same in every run.
  seed = int.from_bytes(hashlib.md5(task.name.encode()).digest()[:7], "little")
  dataset = task.source.get_dataset(split=split, shuffle=False, seed=seed)
  dataset = task.preprocess_precache(dataset, seed=seed)
  info: dict[str, Any] = {}
  stats: collections.Counter[str] = collections.Counter()
  path = seqio.get_cached_tfrecord_prefix(folder, split) + _ONE_SHARD
  with tf.io.TFRecordWriter(path) as writer:
    for example in dataset:
      writer.write(seqio.dict_to_tfexample(example).SerializeToString())
      info = info or _info(example)
      _count(task, example, stats)
      bar.update()
  if not stats["examples"]:
    raise UserError(
      f"the split {split!r} of the task {task.name!r} has no examples, or its "
      "preprocessors drop all of them: leave the task out."
    )
  for place, content in (
    (seqio.get_cached_info_path(folder, split), info),
    (seqio.get_cached_stats_path(folder, split), stats),
  ):
    files.write(place, json.dumps(content, sort_keys=True, indent=2) + "\n")
  return stats["examples"]


def _info(example) -> dict[str, Any]:
  """SeqIO's description of an example; the first dimension may vary."""
  features = {}
  for name, value in example.items():
    shape = value.shape.as_list()
    features[name] = {
      "shape": [None, *shape[1:]] if shape else [],
      "dtype": value.dtype.name,
    }
  return {
    "num_shards": 1,
    "features": features,
    "seqio_version": seqio.__version__,
  }


def _count(task: seqio.Task, example, stats: collections.Counter[str]) -> None:
  """Adds an example to SeqIO's statistics of a cached split."""
  stats["examples"] += 1
  for name, feature in task.output_features.items():
    value = example.get(name)
    if not (isinstance(value, tf.Tensor) and value.dtype.is_integer):
      continue
    vocabulary = feature.vocabulary
    ids = value.numpy()
    count = int(np.sum((ids != vocabulary.pad_id) & (ids != vocabulary.eos_id)))
    stats[f"{name}_tokens"] += count
    most = f"{name}_max_tokens"
    stats[most] = max(stats[most], count)
