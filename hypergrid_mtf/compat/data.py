"""Patches of how SeqIO and TensorFlow's Estimator find and read data."""

import functools
import os
import re

import seqio
import tensorflow as tf
from tensorflow_estimator.python.estimator import util

from hypergrid_mtf import tfds_data
from hypergrid_mtf.compat.wrap import wrap


def patch_tfds_reads_from_disk() -> None:
  """SeqIO asks the public cloud bucket for data that is already on disk.

  What: `LazyTfdsLoader.load` calls `tfds.load(try_gcs=True)`, and TFDS looks
  into gs://tfds-data first: minutes of retries without internet, and, with
  internet, an error if a data folder is given. A data set prepared on disk is
  now read as by SeqIO's `read_only`.
  Can go: with a SeqIO that checks the disk first.
  """

  @wrap(seqio.LazyTfdsLoader, "load")
  def load(original, self, *args, **kwargs):
    if self.name and tfds_data.is_prepared(self.name, self.data_dir):
      self._read_only = True
    return original(self, *args, **kwargs)


def patch_splits_of_cached_tasks() -> None:
  """A cached task cannot be read without its raw data.

  What: `Task.splits` asks TFDS, although `use_cached` needs none of its data.
  TFDS looks into its public bucket, for minutes without internet, and then
  knows no splits: the mixture leaves the task out. If a task is cached and not
  prepared on disk, its splits now come from the cache.
  Can go: with a SeqIO that reads the splits of a cache.
  """
  original = seqio.Task.splits
  if getattr(original.fget, "_hypergrid_patch", False):
    return

  @functools.wraps(original.fget)
  def splits(self):
    source = self.source
    if isinstance(source, seqio.TfdsDataSource) and self.supports_caching:
      name, data_dir = source.tfds_dataset.name, source.tfds_dataset.data_dir
      if name and not tfds_data.is_prepared(name, data_dir) and self.cache_dir:
        return _cached_splits(self.cache_dir)
    return original.fget(self)

  vars(splits)["_hypergrid_patch"] = True
  seqio.Task.splits = property(splits)


def _cached_splits(folder: str) -> list[str]:
  """The splits that a task was cached with."""
  pattern = os.path.basename(seqio.get_cached_info_path(folder, "*"))
  expression = re.escape(pattern).replace(r"\*", "(.+)")
  names = sorted(tf.io.gfile.listdir(folder))
  return [m[1] for m in map(re.compile(expression).fullmatch, names) if m]


def patch_closing_of_input() -> None:
  """On a CPU a run is idle for up to a minute after its last step.

  What: when an Estimator closes its session, it destroys the input iterator,
  which waits for tf.data's autotuner. That sleeps between checks, twice as long
  each time, up to 60 s, and cannot be cancelled. Estimators on a CPU now read
  their inputs without it; those on TPUs keep it.
  Can go: with a TensorFlow that wakes the autotuner of a destroyed iterator.
  """

  @wrap(util, "parse_input_fn_result")
  def parse_input_fn_result(original, result):
    if isinstance(result, tf.data.Dataset):
      options = tf.data.Options()
      options.autotune.enabled = False
      result = result.with_options(options)
    return original(result)
