r"""Executes a TPU program for many cores on virtual CPU devices.

  python -m tools.dev.tpu_execute --size=tiny --variants=L2,GG --packed \
    --microbatches=1,2 --output=execution.json

The step is the one that `tools.tpu_compile` compiles: t5's own, lowered by Mesh
TensorFlow for the cores of a TPU. The initial values of variables depend only
on their names. The loss and all variables after the step, including the
optimizer's, are compared with those of one core with one microbatch. It needs
the environment of `make tpu-compiler` (docs/dev/tpu_compiler.md).
"""

import math
import os
import tempfile
import zlib

from absl import flags

from hypergrid_mtf.run import console
from tools import flag_groups
from tools.cost import models

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flag_groups.define_mesh(
    mesh_shape="model:2,batch:4", activation_dtype="float32"
  )
  models.define_compared(list(models.VARIANTS))
  flags.DEFINE_list("microbatches", ["1"], "Per step, one number or more.")


console.read_flags(__name__, define_flags)

import numpy as np
import pandas as pd
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from hypergrid_mtf.run import mesh as mesh_lib
from tools.cost import mesh_flags, steps
from tools.cost.tpu import client, program, sent

_TOKENS = "utils.serialize_num_microbatches.tokens_per_microbatch_per_replica"
_NO_DROPOUT = "dropout_rate = 0.0"  # several cores draw other numbers than one


def execute(job: steps.Job, mesh, cores) -> tuple[dict, dict[str, np.ndarray]]:
  """Executes one step.

  Args:
    job: the step.
    mesh: the mesh over which it is spread.
    cores: coordinates [x, y, z, core] of the TPU's cores, one per device of the
      mesh.

  Returns:
    facts about the program ("loop"; "sent" from `sent.count_by_axis`; "spread",
    the largest difference between replicas of a value, relative to its largest
    element), and {name in a checkpoint: new value}, with "loss"
  """
  with tempfile.TemporaryDirectory() as folder:
    hlo = os.path.join(folder, "program.hlo")
    values = os.path.join(folder, "values.npz")
    written = program.write(program.Request(job, mesh, cores), hlo)
    np.savez(values, **_arguments(written, steps.make_features(job.case)))
    client.execute(written, hlo, values)
    with np.load(values) as results:
      found, spread = _gather(written, results)
    known = {
      "loop": written["loop"],
      "sent": sent.count_by_axis(hlo, written),
      "spread": spread,
    }
  return known, found


def start(name: str, shape) -> np.ndarray:
  """The initial value of a variable, from its name in a checkpoint."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  value = 0.05 * rng.standard_normal(shape).astype(np.float32)
  if "_slot_" in name:  # Adafactor's: means of squares
    return np.square(value)
  return value + 1 if name.endswith("scale") else value


def compare(
  one: dict[str, np.ndarray], other: dict[str, np.ndarray]
) -> dict[str, float | int | str]:
  """Compares two executions of a step.

  Args:
    one: from `execute`.
    other: likewise.

  Returns:
    "loss" of the first; "loss_error"; "error", the largest of any variable,
    relative to its largest value; "worst", that variable's name; "median_error"
    over variables; "variables", their number; and "changed", how many of them
    the step changed
  """
  if one.keys() != other.keys():
    raise ValueError(f"not in both: {sorted(one.keys() ^ other.keys())}")
  found = {k: _difference(one[k], other[k]) for k in one}
  loss_error = found.pop("loss")
  worst = max(found, key=found.__getitem__)
  return {
    "loss": float(one["loss"]),
    "loss_error": loss_error,
    "error": found[worst],
    "worst": worst,
    "median_error": float(np.median(list(found.values()))),
    "variables": len(found),
    "changed": sum(
      bool((one[k] != start(k, one[k].shape)).any()) for k in found
    ),
  }


def _difference(one: np.ndarray, other: np.ndarray) -> float:
  """The largest difference relative to the largest value."""
  if not (np.isfinite(one).all() and np.isfinite(other).all()):
    return math.inf
  return float(np.abs(one - other).max() / (np.abs(one).max() or 1.0))


def _arguments(written: dict, features: dict) -> dict[str, np.ndarray]:
  """The arguments of all replicas, [replicas, ...], by number."""
  replicas = range(written["replicas"])
  found = {}
  for i, argument in enumerate(written["arguments"]):
    if argument["kind"] == "variable":
      shape = _whole_shape(written, argument)
      if argument["stacked"]:
        whole = np.stack([start(n, shape[1:]) for n in argument["masters"]])
      else:
        whole = start(argument["name"], shape)
      each = [whole[_place(written, argument, r)] for r in replicas]
    elif argument["kind"] == "feature":
      each = [features[argument["name"]] for _ in replicas]
    else:
      each = [np.zeros((), argument["dtype"]) for _ in replicas]
    found[str(i)] = np.stack(each)
  return found


def _gather(written: dict, results) -> tuple[dict[str, np.ndarray], float]:
  """The results by name, and the largest difference between replicas."""
  found, spread = {}, 0.0
  for i, result in enumerate(written["results"]):
    each = results[str(i)]
    if result["kind"] == "output":
      whole = each[0]
      places: list = [...] * len(each)
      found[result["name"]] = whole
    else:
      whole = np.full(_whole_shape(written, result), np.nan, np.float32)
      places = [_place(written, result, r) for r in range(len(each))]
      for place, piece in zip(places, each, strict=True):
        whole[place] = piece
      for k, name in enumerate(result["masters"]):
        found[name] = whole[k] if result["stacked"] else whole
    scale = np.abs(whole).max() or 1.0
    spread = max(
      spread,
      *(
        float(np.abs(whole[place] - piece).max() / scale)
        for place, piece in zip(places, each, strict=True)
      ),
    )
  return found, spread


def _whole_shape(written: dict, variable: dict) -> list[int]:
  sizes = [size for _, size in written["mesh"]]
  return [
    n * (sizes[variable["split"][d]] if d in variable["split"] else 1)
    for d, n in enumerate(variable["shape"])
  ]


def _place(written: dict, variable: dict, replica: int) -> tuple:
  """The position of a replica's slice in the full variable."""
  sizes = [size for _, size in written["mesh"]]
  at = np.unravel_index(written["logical"][replica], sizes)
  begins = [
    at[variable["split"][d]] * n if d in variable["split"] else 0
    for d, n in enumerate(variable["shape"])
  ]
  return tuple(
    slice(b, b + n) for b, n in zip(begins, variable["shape"], strict=True)
  )


def microbatches_of(f, mesh: mesh_lib.Mesh) -> dict[int, str]:
  """{number of microbatches: its binding}, from --microbatches."""
  rows = f.batch // mesh.num_shards("batch")
  found = {}
  for text in f.microbatches:
    number = int(text) if text.isdecimal() else 0
    if not number or rows % number:
      raise errors.UserError(
        f"--microbatches={text} does not divide the {rows} sequence(s) of a "
        "core: give divisors of it, such as 1."
      )
    tokens = rows // number * max(f.inputs, f.targets)
    found[number] = f"{_TOKENS} = {tokens if number > 1 else None}"
  return found


def table_of(records: list[dict]) -> pd.DataFrame:
  """A table of the records."""
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
        f"{kind} {axes} bytes": f"{size:,}"
        for kind, of_kind in record["sent"].items()
        for axes, size in of_kind.items()
      },
    }
    for record in records
  )


def main(argv) -> None:
  """Executes model after model, and prints the table."""
  del argv
  tf.disable_v2_behavior()
  client.check(FLAGS.output)
  mesh = mesh_flags.read_mesh(FLAGS)
  microbatches = microbatches_of(FLAGS, mesh)
  compared = models.settings(
    FLAGS.variants, FLAGS.grids, kernels=FLAGS.gated_kernel
  )
  cores = client.cores(FLAGS.topology)
  mesh_flags.choose_cores(FLAGS, mesh, cores)
  one_core = mesh_lib.parse(
    "", mesh_flags.layout_of(FLAGS), "the mesh", "the layout"
  )

  def run(setting, on, binding):
    job = mesh_flags.make_job(
      FLAGS, on, setting, gin_params=(_NO_DROPOUT, binding)
    )
    return execute(job, on, cores[: on.shape.size])

  for setting in compared:  # check all before running any, which takes minutes
    mesh_flags.make_job(FLAGS, mesh, setting)
  records = []
  for setting in compared:
    _, one = run(setting, one_core, f"{_TOKENS} = None")
    for number, binding in microbatches.items():
      known, pod = run(setting, mesh, binding)
      records.append(
        {
          "model": setting.name,
          "microbatches": known["loop"],
          **compare(one, pod),
          "spread": known["spread"],
          "sent": known["sent"],
        }
      )
      last = records[-1]
      console.say(
        f"{last['model']}, {number} microbatch(es): loss {last['loss']:.6f}, "
        f"error {last['loss_error']:.1e}, of a variable {last['error']:.1e}"
      )
      if FLAGS.output:
        files.write_json(FLAGS.output, records)
  console.say(table_of(records).fillna("").to_string(index=False))
  if FLAGS.output:
    console.say(f"wrote {FLAGS.output}")


if __name__ == "__main__":
  console.run(main)
