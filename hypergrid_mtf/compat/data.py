"""Patches of how data is found and read: SeqIO and TensorFlow's Estimator."""

import seqio
import tensorflow as tf
from tensorflow_estimator.python.estimator import util

from hypergrid_mtf import tfds_data
from hypergrid_mtf.compat.wrap import wrap


def patch_tfds_reads_from_disk() -> None:
  """SeqIO asks the public cloud bucket for data that is already on disk.

  What: `LazyTfdsLoader.load` calls `tfds.load(try_gcs=True)`, and TFDS looks
  into gs://tfds-data first: minutes of retries on a machine without internet,
  and an error on one with it when a data folder is given. A data set that is
  prepared on disk is read as SeqIO's `read_only` reads it.
  Can go: with a SeqIO that checks the disk first.
  """

  @wrap(seqio.LazyTfdsLoader, "load")
  def load(original, self, *args, **kwargs):
    if self.name and tfds_data.is_prepared(self.name, self.data_dir):
      self._read_only = True
    return original(self, *args, **kwargs)


def patch_closing_of_input() -> None:
  """On a CPU a run sits idle for up to a minute after its last step.

  What: to close its session an Estimator destroys the input's iterator, which
  waits for tf.data's autotuner, and that sleeps between two looks at the
  pipeline, twice as long each time, up to 60 s, deaf to being cancelled. Inputs
  of Estimators on a CPU are read without it; those of TPUs keep it.
  Can go: with a TensorFlow that wakes the autotuner of what it destroys.
  """

  @wrap(util, "parse_input_fn_result")
  def parse_input_fn_result(original, result):
    if isinstance(result, tf.data.Dataset):
      options = tf.data.Options()
      options.autotune.enabled = False
      result = result.with_options(options)
    return original(result)
