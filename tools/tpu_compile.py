r"""Compiles t5's TPU program with the TPU's compiler, without a TPU.

  python -m tools.tpu_compile --size=tiny --variant=L2 --packed \
    --topology=v3:2x2 --mesh_shape=model:2,batch:4 --batch=8

The step is t5's own, lowered by Mesh TensorFlow for a TPU (`tools.cost.tpu`).
All figures are the compiler's estimates for one core. It needs the environment
of `make tpu-compiler` (docs/dev/tpu_compiler.md).
"""

import dataclasses
import os
import tempfile

from absl import flags

from hypergrid_mtf.run import console
from tools import flag_groups
from tools.cost import models

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flag_groups.define_mesh(mesh_shape="", activation_dtype="bfloat16")
  flags.DEFINE_enum(
    "variant", "vanilla", models.KNOWN, "A file of hypergrid/ or peers/."
  )
  flags.DEFINE_string("grid", None, "ROWSxCOLUMNS; by default the gin files'.")
  flags.DEFINE_string("contraction", "auto", "HyperGrid.contraction.")
  flags.DEFINE_enum("stack", "both", models.STACKS, "Which stacks are gated.")
  steps = ("train", "eval", "decode", "score")
  flags.DEFINE_enum("step", "train", steps, "The kind of step.")
  flags.DEFINE_bool("beside_vanilla", False, "Also compile vanilla T5.")
  flags.DEFINE_bool("compile", True, "Or only count what the program sends.")
  flags.DEFINE_string("keep", None, "A folder for the program in HLO.")


console.read_flags(__name__, define_flags)

import pandas as pd
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools.cost import mesh_flags
from tools.cost.tpu import client, program, sent


def request_of(f) -> tuple[program.Request, models.Setting]:
  """The program that the flags ask for, checked.

  Args:
    f: absl's FLAGS, parsed.

  Raises:
    UserError: for a wrong flag.
  """
  setting = models.VANILLA
  if f.variant != models.VANILLA.variant:
    grid = models.parse_grid("grid", f.grid) if f.grid else (0, 0)
    setting = models.Setting(f.variant, *grid, f.contraction, f.stack)
  if f.packed and f.step != "train":
    raise errors.UserError(
      f"--packed is only for training: leave it out with --step={f.step}."
    )
  mesh = mesh_flags.read_mesh(f)
  cores = mesh_flags.choose_cores(f, mesh, client.cores(f.topology))
  job = mesh_flags.make_job(f, mesh, setting, f.step)
  return program.Request(job, mesh, cores), setting


def compile_step(request: program.Request, f, keep: str | None = None) -> dict:
  """Writes a program, and compiles it unless --nocompile.

  Args:
    request: of the program.
    f: absl's FLAGS, parsed.
    keep: a folder for the HLO before and after compiling; None keeps none.

  Returns:
    {"request", "program", "sent", "estimate"}, of `program.write`,
    `sent.count_by_axis` and `client.compile_program`
  """
  with tempfile.TemporaryDirectory() as temporary:
    folder = keep or temporary
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "program.hlo")
    console.say("making the program")
    report = {
      "request": {"topology": f.topology, **dataclasses.asdict(request.job)},
      "program": program.write(request, path),
    }
    report["sent"] = sent.count_by_axis(path, report["program"])
    if f.compile:
      console.say(
        f"compiling {os.path.getsize(path):,} bytes for "
        f"{report['program']['replicas']} core(s) of {f.topology}"
      )
      report["estimate"] = client.compile_program(
        f.topology, report["program"], path
      )
  return report


def figures_of(report: dict) -> dict[str, float]:
  """A report of `compile_step` as a table column: {quantity: value}."""
  figures = {
    f"MB sent, {kind} along {axes}": size / 1e6
    for kind, of_kind in report["sent"].items()
    for axes, size in of_kind.items()
  }
  found = report.get("estimate")
  if not found or not found["compiles"]:
    return figures
  figures |= {
    "instructions": found["instructions"],
    "million cycles": found["cycles"] / 1e6,
  }
  for kind, cycles in list(found["cycles_by_kind"].items())[:4]:
    figures[f"- of {kind}"] = cycles / 1e6
  for scope, cycles in found["cycles_by_scope"].items():
    figures[f"- in {scope}"] = cycles / 1e6
  if found["loops"]["mtf"]:
    figures["- a pass of mtf's loop"] = found["loop_cycles"] / 1e6
    figures["passes of that loop"] = report["program"]["loop"]
  figures |= {
    "other loops, counted once": found["loops"]["other"],
    "billion FLOPs, of a loop once": found["flops"] / 1e9,
    "GB accessed, of a loop once": found["bytes_accessed"] / 1e9,
    **{f"MB of {k}": v / 1e6 for k, v in found["memory"].items()},
  }
  for kind, compiled in found["collectives"].items():
    figures[f"MB sent, {kind}, compiled"] = compiled["bytes"] / 1e6
    figures[f"{kind}, compiled"] = compiled["count"]
  return figures


def main(argv) -> None:
  """Compiles, and prints the estimate."""
  del argv
  tf.disable_v2_behavior()
  client.check(FLAGS.output)
  request, setting = request_of(FLAGS)
  reports = {setting.name: compile_step(request, FLAGS, FLAGS.keep)}
  written = reports[setting.name]
  if FLAGS.beside_vanilla and setting != models.VANILLA:
    job = mesh_flags.make_job(FLAGS, request.mesh, models.VANILLA, FLAGS.step)
    vanilla = compile_step(dataclasses.replace(request, job=job), FLAGS)
    reports["vanilla"] = written["vanilla"] = vanilla
  table = pd.DataFrame({n: figures_of(r) for n, r in reports.items()})
  if "vanilla" in written:
    table["ratio"] = table[setting.name] / table["vanilla"]
  console.say("per core; cycles and memory are the compiler's estimates")
  text = table.to_string(
    float_format=lambda x: f"{x:,.3f}".removesuffix(".000"), na_rep="-"
  )
  console.say(text)
  for name, report in reports.items():
    if refused := report.get("estimate", {}).get("refused"):
      console.say(f"{name} does not compile: {refused}")
  if FLAGS.output:
    files.write_json(FLAGS.output, written)
    console.say(f"wrote {FLAGS.output}")


if __name__ == "__main__":
  console.run(main)
