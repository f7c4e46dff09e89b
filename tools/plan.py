r"""Plans a training run on a TPU before anything is rented.

  python -m tools.plan --gin_file=models/base.gin --gin_file=hypergrid/L2.gin \
    --gin_file=experiments/glue.gin --topology=v3:2x2 --output_dir=plan

The flags of a run, and a topology: whether it compiles and fits, memory, time,
what is sent, hours and price, for each way to spread it, beside vanilla T5. All
figures are estimates of the TPU's compiler (docs/plan.md).
"""

import json
import os
import resource
import time

import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, files, gin_files, meshes
from tools.cost import models
from tools.cost.plan import chips, estimate, programs, report, run
from tools.cost.tpu import client

FLAGS = flags.FLAGS  # --gin_file, --gin_param and --module_import are t5's own

_WHOLE = ("none", "chosen", "all")


def _numbers(flag: str, given) -> list[int | None]:
  """Positive integers of a flag; "none" is None."""
  found: list[int | None] = []
  for text in given:
    if text.strip().lower() == "none" and flag == "microbatch_tokens":
      found.append(None)
    else:
      found.append(models.positive(flag, text))
  return list(dict.fromkeys(found))


def _check_flags(f) -> estimate.Inputs:
  if not f.gin_file:
    raise errors.UserError(
      "there is no --gin_file: give those of a training run, such as "
      "models/base.gin, hypergrid/L2.gin and experiments/glue.gin."
    )
  if not 0 < f.utilisation <= 1:
    raise errors.UserError(
      f"--utilisation={f.utilisation} is not a share: give a number above 0 "
      "and at most 1."
    )
  if f.price is not None and f.price < 0:
    raise errors.UserError(f"--price={f.price} is below zero: give a price.")
  return estimate.Inputs(f.utilisation, f.price)


def _candidates(f, asked: run.Run, found: run.Facts, slice_: chips.Slice):
  """The candidates, and why others are left out; gin is bound."""
  cores = len(slice_.cores)
  own = gin_files.value("tpu_mesh_shape.tpu_topology")
  if own is not None and found.mesh is None:
    given = "tpu_mesh_shape.tpu_topology = "
    size = meshes.tpu_shape(own, 1, None, (given, "", "")).size
    if size != cores:
      raise errors.UserError(
        f"{given}{own!r} has {size} cores, and --topology={f.topology} has "
        f"{cores}: leave the binding out, or give a topology of {size}."
      )
  degrees = _numbers("degrees", f.degrees)
  if degrees or found.mesh is None:
    spread = [run.spread(d, cores) for d in degrees or [found.degree] if d]
  else:
    spread = [found.mesh]
  layouts = [x.strip() for x in f.layouts.split(";") if x.strip()]
  layouts = layouts or [found.layout]
  tokens = _numbers("microbatch_tokens", f.microbatch_tokens)
  chosen: list[run.Candidate] = []
  reasons: list[errors.UserError] = []
  for layout in layouts:
    for mesh in spread:
      for microbatch in tokens or [found.microbatch]:
        try:
          chosen.append(run.candidate(found, mesh, layout, microbatch, cores))
        except errors.UserError as e:
          reasons.append(e)
          break
  if not chosen:
    raise reasons[0]
  return layouts, chosen, [errors.sentence(e) for e in reasons]


def _depths(f, found: run.Facts) -> list[int]:
  """Two depths to extrapolate from; none where all is compiled whole."""
  depths = [d for d in _numbers("depths", f.depths) if d]
  if len(depths) != 2:
    raise errors.UserError(
      f"--depths={','.join(f.depths)} is not two depths: give two numbers of "
      "blocks, such as 2,4."
    )
  if f.whole == "all" or found.depth is None or found.depth <= max(depths):
    return []
  return sorted(depths)


class _Progress:
  """Says which program is made, of how many."""

  def __init__(self, total: int):
    self._total = total
    self._done = 0
    self._begin = time.perf_counter()

  def next(self, what: str):
    """A function that says lines about the next program."""
    self._done += 1
    minutes = (time.perf_counter() - self._begin) / 60
    head = f"[{self._done}/{self._total}, {minutes:.1f} min] {what}"
    console.say(f"{head}: making the program")
    return lambda line: console.say(f"{head}: {line}")


def make(f) -> dict:
  """The plan that the flags ask for.

  Args:
    f: absl's FLAGS, parsed.

  Returns:
    what `plan.json` holds

  Raises:
    UserError: for what the user can put right.
  """
  begin = time.perf_counter()
  inputs = _check_flags(f)
  chips.check(f.topology)
  params, modules = tuple(f.gin_param or ()), tuple(f.module_import or ())
  asked = run.Run(tuple(f.gin_file), params, modules)
  found = run.facts(asked)
  depths = _depths(f, found)
  slice_ = chips.Slice(f.topology, client.cores(f.topology))
  layouts, chosen, left_out = _candidates(f, asked, found, slice_)
  runs = {asked.gated or "vanilla": asked}
  if asked.gated and f.beside_vanilla:
    runs = {"vanilla": asked.vanilla(), **runs}
  steps = found.steps and max(0, found.steps - run.started_at(params))
  inputs = estimate.Inputs(inputs.utilisation, inputs.price, steps)
  made = programs.Programs(
    slice_, f.cache or os.path.join(f.output_dir, "cache")
  )
  wholes = len(runs) if depths and f.whole == "chosen" else 0
  total = len(chosen) * len(runs) * (len(depths) or 1) + wholes
  progress = _Progress(total)

  def measure(name, candidate, depth):
    blocks = depth or found.depth
    what = f"{name}, {candidate.words}, {blocks} + {blocks} blocks"
    job = run.job(runs[name], found, candidate, depth)
    return made.measure(job, candidate, progress.next(what))

  def estimated(numbers, candidate):
    return estimate.of(numbers, candidate, found.lengths, slice_, inputs)

  candidates = []
  for candidate in chosen:
    of_models = {}
    for name in runs:
      if depths and found.depth:
        measured = {d: measure(name, candidate, d) for d in depths}
        numbers = programs.extrapolate(measured, found.depth)
      else:
        numbers = measure(name, candidate, None)
      of_models[name] = estimated(numbers, candidate)
    candidates.append(
      {
        "mesh": candidate.mesh,
        "layout": candidate.layout,
        "layout_number": 1 + layouts.index(candidate.layout),
        "microbatch": candidate.microbatch,
        "batch": candidate.batch,
        "models": of_models,
      }
    )
  best = {name: estimate.cheapest(candidates, name) for name in runs}
  if wholes:
    for name, number in best.items():
      if number is not None:
        whole = measure(name, chosen[number], None)
        of_models = candidates[number]["models"]
        whole = estimated(whole, chosen[number])
        of_models[name] = whole | {"from_two_depths": of_models[name]}
  own, children = (
    1024 * resource.getrusage(who).ru_maxrss
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  every = [m for c in candidates for m in c["models"].values()]
  return {
    "run": {
      "gin_files": asked.gin_files,
      "gin_params": asked.gin_params,
      "lengths": found.lengths,
      "packed": found.packed,
    },
    "topology": f.topology,
    "chips": slice_.chips,
    "cores": len(slice_.cores),
    "hbm": slice_.hbm,
    "steps": steps,
    "depth": found.depth,
    "depths": depths,
    "layouts": layouts,
    "left_out": left_out,
    "candidates": candidates,
    "cheapest": best,
    "loops_counted_once": any(m.get("loops", {}).get("other") for m in every),
    "assumptions": estimate.assumptions(slice_, inputs),
    "planner": {
      "seconds": time.perf_counter() - begin,
      "resident": max(own, children),
      "compiled": made.compiled,
      "cached": made.cached,
    },
  }


def main(argv) -> None:
  """Makes a plan, prints and writes it.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  client.check()
  files.check_output_dir(FLAGS.output_dir)
  plan = make(FLAGS)
  text = report.lines(plan)
  for line in text:
    console.say(line)
  folder = FLAGS.output_dir
  files.write(f"{folder}/plan.json", json.dumps(plan, indent=1) + "\n")
  files.write(f"{folder}/plan.txt", "\n".join(text) + "\n")
  report.picture(plan, f"{folder}/plan.png")
  console.say(f"wrote {folder}/plan.json, plan.txt, plan.png")


def define_flags() -> None:
  """Not at import: the tests import this module and have flags too."""
  flags.DEFINE_string("topology", "v3:2x2", "As libtpu names it.")
  flags.DEFINE_list(
    "degrees", [], "Cores a replica, one or more; the run's if empty."
  )
  flags.DEFINE_string(
    "layouts",
    "",
    "DIMENSION:AXIS, …; several by semicolons; the run's if empty.",
  )
  flags.DEFINE_list(
    "microbatch_tokens", [], "Of a microbatch a replica, or none; the run's."
  )
  flags.DEFINE_bool("beside_vanilla", True, "Plan vanilla T5 too.")
  flags.DEFINE_list(
    "depths", ["2", "4"], "Blocks that deeper models come from."
  )
  flags.DEFINE_enum("whole", "none", _WHOLE, "Deeper models compiled whole.")
  flags.DEFINE_float("utilisation", 1.0, "Share of the estimated speed.")
  flags.DEFINE_float("price", None, "Of a chip and hour, in any money.")
  flags.DEFINE_string("output_dir", "runs/plan", "plan.json, .txt, .png.")
  flags.DEFINE_string("cache", None, "Compiled before; OUTPUT_DIR/cache.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
