"""Patches of `MtfModel.eval`, t5's own evaluation."""

import tensorflow as tf
from t5.models import utils

from hypergrid_mtf.compat.wrap import wrap


def patch_eval_summary_dir() -> None:
  """`MtfModel.eval` writes into a summary folder that does not exist.

  What: `t5.models.utils.run_eval` writes `<task>_targets` before it makes the
  folder. The folder is now made first.
  Can go: with a t5 release whose run_eval makes the folder.
  """

  @wrap(utils, "write_targets_and_examples")
  def write_targets_and_examples(original, summary_dir, targets, datasets):
    tf.io.gfile.makedirs(summary_dir)
    return original(summary_dir, targets, datasets)


def patch_steps_of_all_checkpoints() -> None:
  """`MtfModel.eval` of all checkpoints evaluates each once per file.

  What: `t5.models.utils.get_checkpoints_iterator("all")` gives the step of
  every file `model.ckpt*`, in the order of the file system. Each step is now
  given once, sorted.
  Can go: with a t5 release that does this as mesh_tensorflow does.
  """

  @wrap(utils, "get_checkpoints_iterator")
  def get_checkpoints_iterator(original, checkpoint_steps, model_dir):
    steps = original(checkpoint_steps, model_dir)
    return sorted(set(steps)) if checkpoint_steps == "all" else steps
