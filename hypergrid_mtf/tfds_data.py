"""Data sets that TFDS keeps on disk, read without a network.

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
    `<data_dir>/glue/cola/1.0.0`
  """
  import tensorflow_datasets as tfds

  name, _, version = tfds_name.partition(":")
  root = os.path.expanduser(str(data_dir or tfds.core.constants.DATA_DIR))
  return os.path.join(root, *name.split("/"), version)


def is_prepared(tfds_name: str, data_dir=None) -> bool:
  """Whether TFDS can read the data set from disk, without a network."""
  import tensorflow as tf

  return tf.io.gfile.exists(
    os.path.join(prepared_dir(tfds_name, data_dir), "dataset_info.json")
  )


def why_not_generated(tfds_name: str) -> str | None:
  """Why the installed TFDS cannot make a data set that is not on disk.

  Returns:
    a clause, or None if it can: `download_and_prepare` makes the latest version
      of a data set and the default one
  """
  import tensorflow_datasets as tfds

  try:
    with without_cloud_bucket():
      builder = tfds.builder(tfds_name)
  except Exception as e:  # TFDS raises many kinds
    reason = str(e).strip().partition("\n")[0] or type(e).__name__
    return f"TFDS {tfds.__version__} does not know it: {reason}"
  made = {str(v) for v in (builder.canonical_version, max(builder.versions))}
  if str(builder.version) in made:
    return None
  return (
    f"TFDS {tfds.__version__} makes {builder.name} "
    f"{' and '.join(sorted(made))} and not {builder.version}"
  )


def has_downloads(tfds_name: str) -> bool:
  """Whether TFDS downloads files to make a data set that it knows."""
  import tensorflow_datasets as tfds

  name, _ = tfds.core.naming.parse_builder_name_kwargs(tfds_name)
  return bool(tfds.builder_cls(str(name)).url_infos)


def generate(tfds_name: str, data_dir) -> None:
  """Has TFDS download and prepare a data set, from its official addresses.

  Args:
    tfds_name: a data set for which `why_not_generated` is None.
  """
  import tensorflow_datasets as tfds

  with without_cloud_bucket():
    tfds.builder(tfds_name, data_dir=data_dir).download_and_prepare(
      download_config=tfds.download.DownloadConfig(try_download_gcs=False)
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
