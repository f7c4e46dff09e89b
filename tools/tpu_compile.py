r"""Compiles what t5 would run on a TPU with the TPU's compiler, without a TPU.

  python -m tools.tpu_compile --size=tiny --variant=L2 --packed \
    --topology=v3:2x2 --mesh_shape=model:2,batch:4 --batch=8

The step is t5's own, lowered by Mesh TensorFlow for a TPU (`tools.cost.tpu`).
All figures are the compiler's estimates for one core. `make tpu-compiler` makes
the environment that this needs (docs/tpu_compiler.md).
"""

import dataclasses
import json
import os
import re
import tempfile
import time

import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf import gate as gate_lib
from hypergrid_mtf.run import console, files, mesh_checks, meshes
from tools.cost import benchmark_cases as cases
from tools.cost import benchmark_worker, collectives, models
from tools.cost.tpu import client, program

FLAGS = flags.FLAGS  # --gin_param is t5's own

STEPS = ("train", "eval", "decode", "score")
_EXAMPLES_PER_ROW = 3  # of a packed row; their number changes no shape


def request_of(flag_values) -> program.Request:
  """What the flags ask for, checked.

  Args:
    flag_values: absl's FLAGS, parsed.

  Returns:
    a program.Request

  Raises:
    UserError: naming the flag that is wrong.
  """
  f = flag_values
  models.choose("size", [f.size], models.sizes())
  known = (models.VANILLA.variant, *gate_lib.VARIANTS)
  models.choose("variant", [f.variant], known)
  if f.packed and f.step != "train":
    raise errors.UserError(
      f"--packed is for training: leave it out with --step={f.step}."
    )
  for name in ("batch", "inputs", "targets"):
    if getattr(f, name) < 1:
      raise errors.UserError(
        f"--{name}={getattr(f, name)} is not a size: give a positive integer."
      )
  shape_given = f"--mesh_shape={f.mesh_shape}"
  mesh = meshes.parse(
    f.mesh_shape, f.layout, shape_given, f"--layout={f.layout}"
  )
  mesh_checks.check_axes(mesh)
  mesh_checks.check_batch(mesh, f.batch, f"--batch={f.batch}")
  cores = client.cores(f.topology)
  if mesh.shape.size not in (1, len(cores)):
    raise errors.UserError(
      f"{shape_given} has {mesh.shape.size} devices and --topology="
      f"{f.topology} {len(cores)} cores: give a mesh of {len(cores)}, or an "
      "empty one for one core alone."
    )
  job = benchmark_worker.Job(
    size=f.size,
    case=cases.Case(
      "train_packed" if f.packed else f.step,
      f.batch,
      f.inputs,
      f.targets,
      _EXAMPLES_PER_ROW if f.packed else 1,
    ),
    setting=_setting(f),
    activation_dtype=f.activation_dtype,
    gin_params=(
      *(f.gin_param or ()),
      f"run.mesh_shape = {f.mesh_shape!r}",
      f"run.layout_rules = {f.layout!r}",
    ),
  )
  model = benchmark_worker.check(job)
  lengths = {"inputs": f.inputs, "targets": f.targets}
  mesh_checks.check_model(mesh, model, f.batch, lengths)
  return program.Request(job, mesh, cores[: mesh.shape.size])


def _setting(f) -> models.Setting:
  if f.variant == models.VANILLA.variant:
    return models.VANILLA
  grid = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", f.grid or "")
  if f.grid and not grid:
    raise errors.UserError(
      f"--grid={f.grid} is not a grid: give ROWSxCOLUMNS, such as 16x16."
    )
  size = (int(grid[1]), int(grid[2])) if grid else (0, 0)
  return models.Setting(f.variant, *size, f.contraction, f.stack)


def compile_step(
  request: program.Request, topology: str, keep: str | None = None
) -> dict:
  """Writes a program, and compiles it.

  Args:
    request: of the program.
    topology: as libtpu names it.
    keep: a folder for the HLO, before and after; None keeps neither.

  Returns:
    {"request", "program", "estimate"}, of `program.write` and
    `client.compile_program`
  """
  with tempfile.TemporaryDirectory() as temporary:
    folder = keep or temporary
    os.makedirs(folder, exist_ok=True)
    hlo = os.path.join(folder, "program.hlo")
    text = os.path.join(folder, "compiled.txt")
    begin = time.perf_counter()
    console.say("making the program")
    written = program.write(request, hlo)
    written["seconds"] = time.perf_counter() - begin
    written["hlo_bytes"] = os.path.getsize(hlo)
    console.say(
      f"compiling {written['hlo_bytes']:,} bytes for {written['replicas']} "
      f"core(s) of {topology}"
    )
    answer = client.compile_program(topology, written, hlo, text)
  return {
    "request": {
      "topology": topology,
      "mesh": str(request.mesh.shape),
      **dataclasses.asdict(request.job),
    },
    "program": written,
    "estimate": answer,
  }


def _lines(report: dict) -> list[str]:
  """The estimate as a person reads it."""
  found = report["estimate"]
  if not found["compiles"]:
    return [f"it does not compile: {found['refused']}"]
  memory = found["memory"]
  lines = [
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
  kinds = ", ".join(f"{k} {v / 1e6:,.1f}" for k, v in memory.items())
  lines.append(f"memory in MB  {kinds}")
  for kind, sent in found["collectives"].items():
    lines.append(f"{kind:13} {sent['count']}, {sent['bytes'] / 1e6:,.3f} MB")
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


def _beside(found: dict, vanilla: dict) -> list[str]:
  """One estimate over another."""
  if not (found["compiles"] and vanilla["compiles"]):
    return []
  pairs = {"cycles": (found["cycles"], vanilla["cycles"])}
  if vanilla["loop_cycles"]:
    pairs["a pass of the loop"] = found["loop_cycles"], vanilla["loop_cycles"]
  for name in ("peak", "temporaries"):
    pairs[name] = found["memory"][name], vanilla["memory"][name]
  said = ", ".join(f"{k} {a / b:.3f}" for k, (a, b) in pairs.items())
  return [f"beside vanilla: {said}"]


def main(argv) -> None:
  """Compiles, and prints the estimate.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  client.check()
  if FLAGS.output:
    files.check_output(FLAGS.output)
  request = request_of(FLAGS)
  report = compile_step(request, FLAGS.topology, FLAGS.keep)
  lines = _lines(report)
  if FLAGS.beside_vanilla:
    job = dataclasses.replace(request.job, setting=models.VANILLA)
    other = dataclasses.replace(request, job=job)
    vanilla = compile_step(other, FLAGS.topology)
    report["vanilla"] = {k: vanilla[k] for k in ("program", "estimate")}
    lines += ["", "vanilla:", *_lines(vanilla), ""]
    lines += _beside(report["estimate"], vanilla["estimate"])
  for line in lines:
    console.say(line)
  if FLAGS.output:
    files.write(FLAGS.output, json.dumps(report, indent=1) + "\n")
    console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: the tests import this module and have flags too."""
  flags.DEFINE_string("size", "tiny", "A file of models/.")
  flags.DEFINE_string("variant", "vanilla", "vanilla, or of hypergrid/.")
  flags.DEFINE_string("grid", None, "ROWSxCOLUMNS; None: of the gin files.")
  flags.DEFINE_string("contraction", "auto", "HyperGrid.contraction.")
  flags.DEFINE_enum("stack", "both", models.STACKS, "Which stacks are gated.")
  flags.DEFINE_enum("step", "train", STEPS, "The step.")
  flags.DEFINE_bool("packed", False, "Several examples a row.")
  flags.DEFINE_integer("batch", 8, "Rows a step, on the whole mesh.")
  flags.DEFINE_integer("inputs", 64, "Input tokens a row.")
  flags.DEFINE_integer("targets", 32, "Target tokens a row, or decoded ones.")
  flags.DEFINE_string("topology", "v3:2x2", "As libtpu names it.")
  flags.DEFINE_string("mesh_shape", "", "AXIS:SIZE, …; one core if empty.")
  flags.DEFINE_string("layout", collectives.LAYOUT, "DIMENSION:AXIS, ….")
  flags.DEFINE_enum(
    "activation_dtype", "bfloat16", ("bfloat16", "float32"), "As t5's."
  )
  flags.DEFINE_bool("beside_vanilla", False, "Compile vanilla T5 too.")
  flags.DEFINE_string("keep", None, "A folder for the program in HLO.")
  flags.DEFINE_string("output", None, "Also write the estimate as JSON.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
