"""Checkpoints with exactly the names and shapes of the published ones.

  python -m tests.hypergrid_mtf.published --size=base --path=DIR

The values are random: the real ones are in a bucket. What is known of them: the
weights are bfloat16 and the norms of 1.0 have their old names (tensorflow/mesh
issue 178; public logs of runs that loaded base/model.ckpt-999900 list them).
"""

import json
import pathlib

import tensorflow.compat.v1 as tf
from absl import app, flags

from tests import testing

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
STEP = 999_900


def shapes(size: str) -> dict[str, list[int]]:
  """{variable: shape} of a published vanilla model, without its slots."""
  ours = json.loads((GOLDEN / f"{size}.json").read_text())["vanilla"]
  if size.startswith("t5_1_1"):
    return ours
  return {_old_name(name): shape for name, shape in ours.items()}


def _old_name(name: str) -> str:
  parts = name.split("/")
  if "rms_norm" in parts:
    at = parts.index("rms_norm")
    parts[at] = "final_layer_norm" if at == 1 else "layer_norm"
  return "/".join(parts)


def slots(name: str, shape: list[int]) -> dict[str, list[int]]:
  """{variable: shape} of what Adafactor keeps of one variable.

  A second moment is kept as its mean rows and columns where both sides are
  128 or more (mesh_tensorflow/optimize.py, AdafactorOptimizer).
  """
  if len(shape) == 2 and min(shape) >= 128:
    small, large = sorted(shape)
    return {f"{name}_slot_vr": [small], f"{name}_slot_vc": [large]}
  return {f"{name}_slot_v": shape}


def write(folder: str, size: str) -> str:
  """Writes one of a size of tests/golden; returns the checkpoint's prefix.

  The folder has no list of its checkpoints, as a download of one file has none.
  """
  weights = shapes(size)
  both = dict(weights)
  for name, shape in weights.items():
    both |= slots(name, shape)
  values = testing.random_weights(both, key_size=64)
  for name in weights:  # slots keep their precision
    values[name] = values[name].astype(tf.bfloat16.as_numpy_dtype)
  prefix = testing.write_checkpoint(folder, values, steps=(STEP,))
  pathlib.Path(folder, "checkpoint").unlink()
  return prefix


def _main(argv) -> None:
  del argv
  print(write(flags.FLAGS.path, flags.FLAGS.size))


if __name__ == "__main__":
  flags.DEFINE_string("size", "base", "A file of tests/golden.")
  flags.DEFINE_string("path", ".", "The folder of model.ckpt-999900.")
  app.run(_main)
