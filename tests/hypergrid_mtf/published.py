"""Checkpoints with exactly the names and shapes of the published ones.

  python -m tests.hypergrid_mtf.published --size=base --path=DIR/model.ckpt

The values are random: the real ones are in a bucket. What is known of them: the
weights are bfloat16 and the norms of 1.0 have their old names (tensorflow/mesh
issue 178; public logs of runs that loaded base/model.ckpt-999900 list them).
"""

import json
import pathlib
import zlib

import tensorflow.compat.v1 as tf
from absl import app, flags

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


def _value(name: str, shape: list[int]) -> tf.Tensor:
  seed = [0, zlib.crc32(name.encode()) & 0x7FFFFFFF]
  value = tf.random.stateless_normal(shape, seed)
  if name.endswith("scale"):
    return 1 + 0.1 * value
  if "_slot_" in name:
    return tf.abs(value)
  if name.endswith("/q"):  # T5 folds the attention's scale into it
    return value * (shape[0] * 64) ** -0.5
  if len(shape) == 2 and not name.endswith("embedding"):
    return value * shape[0] ** -0.5
  return value


def write(path: str, size: str) -> str:
  """Writes one.

  Args:
    path: without the step.
    size: of tests/golden.

  Returns:
    the checkpoint's prefix
  """
  prefix = f"{path}-{STEP}"
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  with tf.Graph().as_default(), tf.Session() as sess:
    values = {"global_step": tf.constant(STEP, tf.int64)}
    for name, shape in shapes(size).items():
      for n, s in {name: shape, **slots(name, shape)}.items():
        # Slots and the step are not weights: they keep their precision.
        dtype = tf.float32 if n != name else tf.bfloat16
        values[n] = tf.cast(_value(n, s), dtype)
    names = list(values)
    save = tf.raw_ops.SaveV2(
      prefix=prefix,
      tensor_names=names,
      shape_and_slices=[""] * len(names),
      tensors=list(values.values()),
    )
    sess.run(save)
  return prefix


def _main(argv) -> None:
  del argv
  print(write(flags.FLAGS.path, flags.FLAGS.size))


if __name__ == "__main__":
  flags.DEFINE_string("size", "base", "A file of tests/golden.")
  flags.DEFINE_string("path", "model.ckpt", "Where it goes, without the step.")
  app.run(_main)
