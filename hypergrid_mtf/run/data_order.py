"""A resumed training sees its data as one that was not interrupted."""

import gin

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import console, gin_files, gin_statements


def bind(model_dir: str, began: int) -> None:
  """Binds Mesh TensorFlow's own skipping of the batches that were seen.

  The order of the examples follows from the seed, so a training that resumes at
  step n skips the n batches that it has seen, unless the user bound it not to.
  To skip is to read, tokenize and pack without training.

  Args:
    model_dir: of the training.
    began: the step of its first batch: that of a warm start, or 0.
  """
  if gin_files.value("run.skip_seen_data") is False or gin_files.value(
    "run.checkpoint_input_pipeline"
  ):
    return
  gin.bind_parameter("run.skip_seen_data", True)
  name = "run.seen_data_init_step"
  # An operative_config.gin has the one of another training.
  given = gin_statements.origin(name)
  if given and given.source == "flag":
    began = gin_files.value(name)
  gin.bind_parameter(name, began)
  latest = checkpoints.latest_checkpoint(model_dir)
  seen = (checkpoints.step_of(latest) or 0) - began if latest else 0
  if seen > 0:
    console.say(f"skipping the {seen} batches that were seen before")
