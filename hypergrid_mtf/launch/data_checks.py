"""Whether the data that a run reads are there."""

import os
import socket

import seqio
import tensorflow.compat.v1 as tf

from hypergrid_mtf import compat, errors


def check_data(mixture_or_task, tfds_data_dir: str | None) -> None:
  """Checks that every TFDS data set of a mixture is on disk or can be fetched.

  Args:
    mixture_or_task: a seqio Mixture or Task.
    tfds_data_dir: from --t5_tfds_data_dir, or None for the default of TFDS.
  """
  if tfds_data_dir and not tf.io.gfile.exists(tfds_data_dir):
    raise errors.UserError(
      f"the data folder --t5_tfds_data_dir={tfds_data_dir} does not exist: "
      "make it with python -m tools.prepare_data, or give the one TFDS wrote."
    )
  missing = []
  for task in seqio.get_subtasks(mixture_or_task):
    source = task.source
    if not isinstance(source, seqio.TfdsDataSource):
      continue
    name, data_dir = source.tfds_dataset.get_split_params()
    if name and not compat.is_prepared(name, data_dir):
      missing.append(name)
  if not missing:
    return
  names = ", ".join(sorted(set(missing)))
  if tfds_data_dir:
    raise errors.UserError(
      f"{mixture_or_task.name} needs data that --t5_tfds_data_dir="
      f"{tfds_data_dir} does not hold: {names}; prepare it with python -m "
      "tools.prepare_data, or train on what is there with "
      f"--gin_file={os.path.join(tfds_data_dir, 'local_mixture.gin')} given "
      "last."
    )
  if not _online():
    raise errors.UserError(
      f"{mixture_or_task.name} needs data that is not on this machine and "
      f"cannot be downloaded without internet: {names}; prepare local files "
      "with python -m tools.prepare_data and give their folder as "
      "--t5_tfds_data_dir."
    )


def check_split(mixture_or_task, split: str) -> None:
  """Checks that some task of the mixture has the split.

  Args:
    mixture_or_task: a seqio Mixture or Task whose data is on disk.
    split: run.dataset_split, --eval_split or --split of a tool.
  """
  found = {s for t in seqio.get_subtasks(mixture_or_task) for s in t.splits}
  if split not in found:
    raise errors.UserError(
      f"no task of {mixture_or_task.name} has a split {split!r} "
      "(run.dataset_split, --eval_split, --split): there are "
      f"{', '.join(sorted(found))}."
    )


def _online() -> bool:
  try:
    socket.create_connection(("storage.googleapis.com", 443), 5).close()
  except OSError:
    return False
  return True
