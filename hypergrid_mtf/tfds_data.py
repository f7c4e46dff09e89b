"""Data sets that TFDS keeps on disk, and reading them without a network.

TFDS is imported where it is used, so that `compat` can import this module.
"""

import contextlib
import os


def prepared_dir(tfds_name: str, data_dir=None):
  """Where TFDS keeps a prepared data set, whether or not it is there.

  Args:
    tfds_name: as t5 tasks give it, "glue/cola:1.0.0" or "glue/cola".
    data_dir: the TFDS data folder; None for the default of TFDS.

  Returns:
    The folder, `<data_dir>/glue/cola/1.0.0`, as a string.
  """
  import tensorflow_datasets as tfds

  name, _, version = tfds_name.partition(":")
  root = os.path.expanduser(str(data_dir or tfds.core.constants.DATA_DIR))
  return os.path.join(root, *name.split("/"), version)


def is_prepared(tfds_name: str, data_dir=None) -> bool:
  """Whether TFDS can read the data set from disk without any network."""
  import tensorflow as tf

  return tf.io.gfile.exists(
    os.path.join(prepared_dir(tfds_name, data_dir), "dataset_info.json")
  )


@contextlib.contextmanager
def without_cloud_bucket():
  """Within this context TFDS does not look into gs://tfds-data."""
  from tensorflow_datasets.core.utils import (
    gcs_utils,
  )

  before = gcs_utils._is_gcs_disabled
  gcs_utils._is_gcs_disabled = True
  try:
    yield
  finally:
    gcs_utils._is_gcs_disabled = before
