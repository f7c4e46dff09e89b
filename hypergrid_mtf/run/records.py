"""What a training records next to its checkpoints when it starts."""

import os

import seqio
import t5
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import files, request, vocabulary_file

DATA = "data.json"


def write_start(run: request.Run) -> None:
  """Records the vocabulary, the data, and the initial checkpoint."""
  vocabulary_file.write(run.model_dir, run.vocabulary)
  if run.begins:
    files.write_json(os.path.join(run.model_dir, DATA), describe_data(run))
  path = os.path.join(run.model_dir, request.WARM_START)
  if run.is_warm_start:
    source = dict(
      checkpoint=run.source,
      step=run.source_step,
      digest=checkpoints.digest(run.source),
    )
    files.write_json(path, source | run.warm_start.to_json())
  elif run.begins and tf.io.gfile.exists(path):
    tf.io.gfile.remove(path)  # from a start that left no checkpoint


def describe_data(run: request.Run) -> dict[str, str]:
  """{name: text} of what makes the examples: t5, and each task's steps."""
  found = {"t5": t5.__version__, "seqio": seqio.__version__}
  for task in seqio.get_subtasks(run.mixture):
    source = task.source
    is_tfds = isinstance(source, seqio.TfdsDataSource)
    name = source.tfds_dataset.name if is_tfds else type(source).__name__
    steps = map(_describe_preprocessor, task.preprocessors)
    found[f"task {task.name}"] = " > ".join([str(name), *steps])
  return found


def _describe_preprocessor(function) -> str:
  """Its name and its bound arguments, if they can be named."""
  inner = getattr(function, "func", function)
  name = getattr(inner, "__qualname__", type(inner).__name__)
  given = getattr(function, "keywords", {}).items()
  shown = [f"{k}={getattr(v, '__qualname__', v)}" for k, v in sorted(given)]
  shown = [text for text in shown if " at 0x" not in text]
  return f"{name}({', '.join(shown)})" if shown else name


def read_data(folder: str) -> dict[str, str]:
  """What `write_start` recorded about the data; {} if nothing."""
  return files.read_json(os.path.join(folder, DATA))
