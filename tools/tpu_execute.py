r"""Executes a TPU program of many cores on virtual CPU devices.

  python -m tools.tpu_execute --size=tiny --variants=L2,GG --packed \
    --mesh_shape=model:2,batch:4 --microbatches=1,2 --output=execution.json

The step is the one that `tools.tpu_compile` compiles: t5's own, lowered by Mesh
TensorFlow for the cores of a TPU. Loss and all variables after it, weights and
the optimizer's, are compared with those of one core with one microbatch. The
bytes that the program sends are compared with those that `tools.collectives`
counts. `make tpu-compiler` makes the environment that this needs
(docs/tpu_compiler.md).
"""

import dataclasses
import json

import pandas as pd
import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf import gate as gate_lib
from hypergrid_mtf.run import console, files
from tools.cost import collectives, models
from tools.cost.tpu import client, execution

FLAGS = flags.FLAGS  # --gin_param is t5's own

_TOKENS = "serialize_num_microbatches.tokens_per_microbatch_per_replica"


def step_of(flag_values) -> collectives.Step:
  """What the flags ask for, checked, in one microbatch.

  Args:
    flag_values: absl's FLAGS, parsed.

  Returns:
    a collectives.Step

  Raises:
    UserError: naming the flag that is wrong.
  """
  f = flag_values
  step = collectives.Step(
    size=f.size,
    mesh_shape=f.mesh_shape,
    layout=f.layout,
    batch=f.batch,
    inputs=f.inputs,
    targets=f.targets,
    packed=f.packed,
    bindings=(
      'utils.get_variable_dtype.slice_dtype = "float32"',
      f'utils.get_variable_dtype.activation_dtype = "{f.activation_dtype}"',
      "dropout_rate = 0.0",  # cores draw other numbers than one does
      *(f.gin_param or ()),
      f"{_TOKENS} = None",
    ),
  )
  step.check()
  rows = f.batch // step.mesh().ways("batch")
  for number in f.microbatches:
    if not number.isdecimal() or int(number) < 1 or rows % int(number):
      raise errors.UserError(
        f"--microbatches={number} does not divide the {rows} row(s) that a "
        "core has: give divisors of it, such as 1."
      )
  return step


def in_microbatches(step: collectives.Step, number: int) -> collectives.Step:
  """The same step in a number of microbatches."""
  if number == 1:
    return step
  rows = step.batch // step.mesh().ways("batch") // number
  tokens = rows * max(step.inputs, step.targets)
  bindings = (*step.bindings[:-1], f"{_TOKENS} = {tokens}")
  return dataclasses.replace(step, bindings=bindings)


def counted(step: collectives.Step, setting: models.Setting) -> dict:
  """What Mesh TensorFlow's operations send, by the kinds of a program.

  Args:
    step: with its microbatches.
    setting: the model.

  Returns:
    {kind: {"count", "bytes"}}, as `sent.count`
  """
  kinds = {"alltoall": "all-to-all", "permute": "collective-permute"}
  found: dict[str, dict[str, int]] = {}
  for sent in collectives.count(step, setting)["collectives"]:
    kind = kinds.get(sent["kind"], "all-reduce")
    of_kind = found.setdefault(kind, {"count": 0, "bytes": 0})
    of_kind["count"] += sent["count"]
    of_kind["bytes"] += sent["bytes"]
  return found


def table_of(records: list[dict]) -> pd.DataFrame:
  """The table of some records."""
  return pd.DataFrame(
    {
      "model": record["model"],
      "microbatches": record["microbatches"],
      "loss": f"{record['loss']:.6f}",
      "loss error": f"{record['loss_error']:.1e}",
      "largest error": f"{record['error']:.1e}",
      "in": record["worst"],
      "replicas": f"{record['spread']:.1e}",
      "changed": f"{record['changed']}/{record['variables']}",
      **{
        f"{kind} bytes": f"{record['sent'].get(kind, _NONE)['bytes']:,}"
        for kind in record["counted"] | record["sent"]
      },
      "as counted": "yes" if record["sent"] == record["counted"] else "NO",
    }
    for record in records
  )


_NONE = {"count": 0, "bytes": 0}


def main(argv) -> None:
  """Executes model after model, and prints the table.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  client.check()
  if FLAGS.output:
    files.check_output(FLAGS.output)
  step = step_of(FLAGS)
  compared = models.settings(
    FLAGS.variants, FLAGS.grids, kernels=FLAGS.gated_kernel
  )
  for setting in compared:
    collectives.check(step, setting)
  cores = client.cores(FLAGS.topology)
  size = step.mesh().shape.size
  if size != len(cores):
    raise errors.UserError(
      f"--mesh_shape={step.mesh_shape} has {size} devices and --topology="
      f"{FLAGS.topology} {len(cores)} cores: give a mesh of {len(cores)}."
    )
  records = []
  for setting in compared:
    _, one = execution.execute(step, setting, cores[:1])
    for number in map(int, FLAGS.microbatches):
      split = in_microbatches(step, number)
      known, pod = execution.execute(split, setting, cores)
      records.append(
        {
          "model": setting.words,
          "microbatches": known["loop"],
          **execution.compare(one, pod),
          "spread": known["spread"],
          "sent": known["sent"],
          "counted": counted(split, setting),
        }
      )
      last = records[-1]
      console.say(
        f"{last['model']}, {number} microbatch(es): loss {last['loss']:.6f}, "
        f"error {last['loss_error']:.1e}, of a variable {last['error']:.1e}"
      )
      if FLAGS.output:
        report = {"step": dataclasses.asdict(step), "models": records}
        files.write(FLAGS.output, json.dumps(report, indent=1) + "\n")
  console.say(table_of(records).to_string(index=False))
  if FLAGS.output:
    console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: the tests import this module and have flags too."""
  flags.DEFINE_string("size", "tiny", "A file of models/.")
  flags.DEFINE_list(
    "variants",
    list(gate_lib.VARIANTS),
    "Beside vanilla, separated by commas.",
  )
  flags.DEFINE_list("grids", [], "ROWSxCOLUMNS, …; the gin files' if empty.")
  flags.DEFINE_list("gated_kernel", [], "HyperGrid.gated_kernel, one or more.")
  flags.DEFINE_bool("packed", False, "Several examples a row.")
  flags.DEFINE_list("microbatches", ["1"], "Of a step, one number or more.")
  flags.DEFINE_integer("batch", 8, "Rows a step, on the whole mesh.")
  flags.DEFINE_integer("inputs", 64, "Input tokens a row.")
  flags.DEFINE_integer("targets", 32, "Target tokens a row.")
  flags.DEFINE_string("topology", "v3:2x2", "As libtpu names it.")
  flags.DEFINE_string("mesh_shape", "model:2,batch:4", "AXIS:SIZE, ….")
  flags.DEFINE_string("layout", collectives.LAYOUT, "DIMENSION:AXIS, ….")
  flags.DEFINE_enum(
    "activation_dtype", "float32", ("bfloat16", "float32"), "As t5's."
  )
  flags.DEFINE_string("output", None, "Also write the results as JSON.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
