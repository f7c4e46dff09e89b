"""What a training leaves beside its checkpoints when it begins."""

import json
import os

import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import files, request, vocabulary_file


def write_start(run: request.Run) -> None:
  """Keeps the vocabulary, and what the training starts from."""
  vocabulary_file.write(run.model_dir, run.vocabulary)
  path = os.path.join(run.model_dir, request.WARM_START)
  if run.is_warm_start:
    report = dict(
      checkpoint=run.source,
      step=run.source_step,
      digest=checkpoints.digest(run.source),
      **run.warm_start.to_json(),
    )
    files.write(path, json.dumps(report, indent=1) + "\n")
  elif run.begins and tf.io.gfile.exists(path):
    tf.io.gfile.remove(path)  # of a beginning that left no checkpoint
