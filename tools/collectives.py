r"""Counts what a training step sends between the devices of a TPU mesh.

  python -m tools.collectives --size=base --mesh_shape=model:4,batch:8

No TPU is needed: the whole step of t5 (forward, loss, gradients, optimizer,
microbatches) is lowered by Mesh TensorFlow's own TPU implementation, and never
run. Every collective that it emits is counted, by kind and mesh axis, in bytes
of the tensor that each device puts into it, as sent (bfloat16 has two). What a
ring then moves a device is up to twice that, for every model alike.

`Lowering.counters` of Mesh TensorFlow is not enough: it counts elements and not
bytes, over all devices, a loop's body once however often it runs, and neither
the sums that make dropout the same on all devices nor the n-fold tensors that
a maximum and an allconcat are sent as. (docs/cost.md, "What a pod would send".)
"""

import dataclasses
import json

import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import gate as gate_lib
from hypergrid_mtf.run import console, files
from tools.cost import collectives, models

FLAGS = flags.FLAGS  # --gin_param is t5's own


def main(argv) -> None:
  """Prints the table.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  step = collectives.Step(
    size=FLAGS.size,
    mesh_shape=FLAGS.mesh_shape,
    layout=FLAGS.layout,
    batch=FLAGS.batch,
    inputs=FLAGS.inputs,
    targets=FLAGS.targets,
    packed=FLAGS.packed,
    bindings=tuple(FLAGS.gin_param or ()),
  )
  step.check()
  compared = models.settings(
    FLAGS.variants,
    FLAGS.grids,
    FLAGS.contraction,
    FLAGS.stacks,
    FLAGS.gated_kernel,
  )
  if FLAGS.output:
    files.check_output(FLAGS.output)
  for setting in compared:  # all of them before the minutes that one takes
    collectives.check(step, setting)
  results = {}
  for setting in compared:
    results[setting.words] = collectives.count(step, setting)
  frame = collectives.compare_with_vanilla(results)
  console.say(collectives.to_text(frame).to_string(index=False))
  if FLAGS.output:
    report = {"step": dataclasses.asdict(step), "models": results}
    files.write(FLAGS.output, json.dumps(report, indent=1) + "\n")
    console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  default = collectives.Step()
  flags.DEFINE_string("size", default.size, "A file of models/.")
  flags.DEFINE_string("mesh_shape", default.mesh_shape, "AXIS:SIZE, ….")
  flags.DEFINE_string("layout", default.layout, "DIMENSION:AXIS, ….")
  flags.DEFINE_integer("batch", default.batch, "Rows a step.")
  flags.DEFINE_integer("inputs", default.inputs, "Input tokens a row.")
  flags.DEFINE_integer("targets", default.targets, "Target tokens a row.")
  flags.DEFINE_bool("packed", default.packed, "Several examples a row.")
  flags.DEFINE_list(
    "variants",
    list(gate_lib.VARIANTS),
    "Beside vanilla, separated by commas.",
  )
  flags.DEFINE_list("grids", [], "ROWSxCOLUMNS, …; the gin files' if empty.")
  flags.DEFINE_list("contraction", [], "HyperGrid.contraction, one or more.")
  flags.DEFINE_list("stacks", [], "Of both, encoder, decoder.")
  flags.DEFINE_list("gated_kernel", [], "HyperGrid.gated_kernel, one or more.")
  flags.DEFINE_string("output", None, "Also write the counts as JSON.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
