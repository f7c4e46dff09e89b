"""Runs one training step of a run's configuration, with one layer per stack.

A step shows what no check can: a preprocessor that fails on an example, a
user's gate, memory. Widths, grid, data, lengths and vocabulary are the run's;
depth, batch and mesh are minimal, and nothing is kept.
"""

import re
import tempfile

import gin

from hypergrid_mtf.run import console, estimator, request, t5_main

_BATCH = 2  # sequences


def one_step(asked: request.Run, flags) -> None:
  """Trains one step, if the run is a training.

  Args:
    asked: the run, after its checks.
    flags: absl's FLAGS, parsed; they are changed.
  """
  if not asked.trains:
    return
  _shrink()
  with tempfile.TemporaryDirectory() as folder:
    flags.model_dir = folder
    flags.tpu = ""
    with estimator.install(estimator.Progress()):
      t5_main.run()
  console.say(
    f"{asked.mode}: one step with one layer per stack and {_BATCH} sequences "
    "succeeded on this machine"
  )


def _shrink() -> None:
  """Binds the smallest sizes that still have a layer of each kind."""
  layers = re.findall(
    r"^((?:[\w/]*/)?[\w.]*make_layer_stack\.num_layers) =",
    gin.config_str(),
    re.M,
  )
  for name in {*layers, "make_layer_stack.num_layers"}:
    gin.bind_parameter(name, 1)
  for name, value in (
    ("mesh_shape", "model:1,batch:1"),
    ("mesh_devices", ["cpu:0"]),
    ("batch_size", ("sequences_per_batch", _BATCH)),
    ("train_steps", 1),
    ("init_checkpoint", None),
    ("ensemble_inputs", None),
  ):
    gin.bind_parameter(f"run.{name}", value)
