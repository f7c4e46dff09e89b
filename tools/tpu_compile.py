r"""Compiles what t5 would run on a TPU with the TPU's compiler, without a TPU.

  python -m tools.tpu_compile --size=tiny --variant=L2 --packed \
    --topology=v3:2x2 --mesh_shape=model:2,batch:4 --batch=8

The step is t5's own, lowered by Mesh TensorFlow for a TPU (`tools.cost.tpu`).
All figures are the compiler's estimates for one core. `make tpu-compiler` makes
the environment that this needs (docs/dev/tpu_compiler.md).
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
  """Not at import: other programs have flags too."""
  flag_groups.define_mesh(mesh_shape="", activation_dtype="bfloat16")
  flags.DEFINE_enum("variant", "vanilla", models.KNOWN, "Of hypergrid/.")
  flags.DEFINE_string("grid", None, "ROWSxCOLUMNS; None: of the gin files.")
  flags.DEFINE_string("contraction", "auto", "HyperGrid.contraction.")
  flags.DEFINE_enum("stack", "both", models.STACKS, "Which stacks are gated.")
  steps = ("train", "eval", "decode", "score")
  flags.DEFINE_enum("step", "train", steps, "The step.")
  flags.DEFINE_bool("beside_vanilla", False, "Compile vanilla T5 too.")
  flags.DEFINE_bool("compile", True, "Or only count what the program sends.")
  flags.DEFINE_string("keep", None, "A folder for the program in HLO.")


console.read_flags(__name__, define_flags)

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools.cost import mesh_flags
from tools.cost.tpu import client, program, sent


def request_of(f) -> tuple[program.Request, models.Setting]:
  """What the flags ask for, checked.

  Args:
    f: absl's FLAGS, parsed.

  Raises:
    UserError: naming the flag that is wrong.
  """
  setting = models.VANILLA
  if f.variant != models.VANILLA.variant:
    grid = models.parse_grid("grid", f.grid) if f.grid else (0, 0)
    setting = models.Setting(f.variant, *grid, f.contraction, f.stack)
  if f.packed and f.step != "train":
    raise errors.UserError(
      f"--packed is for training: leave it out with --step={f.step}."
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
    keep: a folder for the HLO, before and after; None keeps neither.

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


def lines_of(report: dict) -> list[str]:
  """A report of `compile_step` as a person reads it."""
  lines = [
    f"{kind} along {axes}: {size / 1e6:,.3f} MB a core and step"
    for kind, of_kind in report["sent"].items()
    for axes, size in of_kind.items()
  ]
  found = report.get("estimate")
  if not found:
    return lines
  if not found["compiles"]:
    return [*lines, f"it does not compile: {found['refused']}"]
  lines += [
    f"compiled in {found['seconds']:.0f} s; the compiler's estimates, a core:",
    f"cycles        {found['cycles'] / 1e6:,.3f} million, in "
    f"{found['instructions']:,} instructions",
  ]
  for kind, cycles in list(found["cycles_by_kind"].items())[:4]:
    lines.append(f"  {kind:20} {cycles / 1e6:,.3f}")
  for scope, cycles in found["cycles_by_scope"].items():
    lines.append(f"  in {scope:17} {cycles / 1e6:,.3f}")
  lines.append(
    f"flops         {found['flops'] / 1e9:,.3f} billion, bytes accessed "
    f"{found['bytes_accessed'] / 1e9:,.3f} GB (a loop's body once)"
  )
  kinds = found["memory"].items()
  kinds = ", ".join(f"{k} {v / 1e6:,.1f}" for k, v in kinds)
  lines.append(f"memory in MB  {kinds}")
  for kind, compiled in found["collectives"].items():
    size = compiled["bytes"] / 1e6
    lines.append(f"{kind:13} {compiled['count']}, {size:,.3f} MB")
  if found["loops"]["mtf"]:
    lines.append(
      f"the loop of Mesh TensorFlow runs {report['program']['loop']}"
      " times; cycles and collectives count each; once: "
      f"{found['loop_cycles'] / 1e6:,.3f} million cycles"
    )
  if found["loops"]["other"]:
    lines.append(
      f"{found['loops']['other']} loop(s) of the compiler count once"
    )
  return lines


def ratios_of(found: dict, vanilla: dict) -> list[str]:
  """One estimate over another."""
  if not (found["compiles"] and vanilla["compiles"]):
    return []
  pairs = {"cycles": (found["cycles"], vanilla["cycles"])}
  if vanilla["loop_cycles"]:
    pairs["a pass of the loop"] = found["loop_cycles"], vanilla["loop_cycles"]
  for name in ("peak", "temporaries"):
    pairs[name] = found["memory"][name], vanilla["memory"][name]
  said = ", ".join(f"{k} {a / b:.3f}" for k, (a, b) in pairs.items())
  return [f"over vanilla: {said}"]


def main(argv) -> None:
  """Compiles, and prints the estimate."""
  del argv
  tf.disable_v2_behavior()
  client.check(FLAGS.output)
  request, setting = request_of(FLAGS)
  report = compile_step(request, FLAGS, FLAGS.keep)
  lines = lines_of(report)
  if FLAGS.beside_vanilla and setting != models.VANILLA:
    job = mesh_flags.make_job(FLAGS, request.mesh, models.VANILLA, FLAGS.step)
    vanilla = compile_step(dataclasses.replace(request, job=job), FLAGS)
    report["vanilla"] = vanilla
    lines += ["", "vanilla:", *lines_of(vanilla), ""]
    if FLAGS.compile:
      lines += ratios_of(report["estimate"], vanilla["estimate"])
  for line in lines:
    console.say(line)
  if FLAGS.output:
    files.write_json(FLAGS.output, report)
    console.say(f"wrote {FLAGS.output}")


if __name__ == "__main__":
  console.run(main)
