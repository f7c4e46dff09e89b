r"""Plans a training on a TPU: whether it fits, how long it takes, its price.

  python -m tools.plan --gin_file=models/base.gin --gin_file=hypergrid/L2.gin \
    --gin_file=experiments/glue.gin --topology=v3:2x2 \
    --price_per_chip_hour=2

Takes the flags of a run and a topology; also plans vanilla T5. No TPU is used:
all figures are estimates of the TPU's compiler (docs/plan.md).
"""

import math
import os
import tempfile

from absl import flags

from hypergrid_mtf.run import console, t5_flags

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("gin_file", "gin_param", "module_import")
  flags.DEFINE_string("topology", "v3:2x2", "As libtpu names it.")
  flags.DEFINE_list(
    "depths",
    ["2", "4"],
    "The depths, in blocks, of two programs to extrapolate from; if empty, "
    "the full model is compiled.",
  )
  flags.DEFINE_float(
    "utilisation", 0.4, "Share of the compiler's speed that a slow run reaches."
  )
  flags.DEFINE_float(
    "price_per_chip_hour", None, "In any currency.", lower_bound=0.0
  )
  flags.DEFINE_string("output_dir", "runs/plan", "plan.json, plan.txt, cache.")


console.read_flags(__name__, define_flags)

import pandas as pd
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools.cost import chips, gin_run, models
from tools.cost.tpu import client, program, sent

# Fields of an answer that are not quantities of one step on one core.
_NOT_SCALED = ("compiles", "refused", "seconds")


def extrapolate(found: dict[int, dict], depth: int) -> dict:
  """Extrapolates every number linearly from two depths to a third.

  Args:
    found: {depth: from `measure`} for two depths.
    depth: the depth wanted.
  """
  (low, a), (high, b) = sorted(found.items())

  def line(x, y):
    if isinstance(x, dict) or isinstance(y, dict):
      x, y = x or {}, y or {}
      keys = {**x, **y}.keys() - _NOT_SCALED
      return {k: line(x.get(k, 0), y.get(k, 0)) for k in keys}
    return round(x + (y - x) * (depth - low) / (high - low))

  for one in (a, b):
    if not one["compiles"]:
      return one
  return {"compiles": True, **line(a, b)}


def measure(run: gin_run.Run, depth, slice_: chips.Slice, cache: str) -> dict:
  """The compiler's figures for a step.

  Args:
    run: the run.
    depth: blocks of each stack; None for the run's own.
    slice_: the chips.
    cache: a folder of answers.

  Returns:
    as `client.compile_program`; if it compiles, also "parameters", "by_axis" of
    `sent.count_by_axis`, and in "memory" "weights" and "optimizer"
  """
  repeats = run.depth / depth if run.depth and depth else 1
  job = run.job_at(depth)
  request = program.Request(job, run.mesh, slice_.cores, repeats)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "program.hlo")
    written = program.write(request, path)
    found = client.compile_program(slice_.topology, written, path, cache)
    if not found["compiles"]:
      return found
    by_axis = sent.count_by_axis(path, written)
  kinds = {"weights": 0, "optimizer": 0}
  for argument in written["arguments"]:
    if argument["kind"] == "variable":
      slot = any("_slot_" in name for name in argument["masters"])
      size = tf.as_dtype(argument["dtype"]).size * math.prod(argument["shape"])
      kinds["optimizer" if slot else "weights"] += size
  return found | {
    "memory": found["memory"] | kinds,
    "parameters": written["parameters"],
    "by_axis": by_axis,
  }


def plan_model(run: gin_run.Run, name: str, slice_: chips.Slice, f) -> dict:
  """The plan of one model.

  Args:
    run: the run.
    name: of the model, for progress.
    slice_: the chips.
    f: absl's FLAGS, parsed.

  Returns:
    `measure` and `chips.estimate`; "extrapolated" (two depths, or None); and if
    it fits, "hours" and "price", each at the compiler's speed and at
    --utilisation times that speed
  """
  cache = f"{f.output_dir}/cache"
  depths = [models.positive("depths", text) for text in f.depths]
  if depths and run.depth and run.depth > max(depths):
    found = {}
    for depth in depths:
      console.say(f"{name}, {depth} + {depth} blocks: compiling")
      found[depth] = measure(run, depth, slice_, cache)
    answer = extrapolate(found, run.depth) | {"extrapolated": depths}
  else:
    console.say(f"{name}: compiling")
    answer = measure(run, None, slice_, cache) | {"extrapolated": None}
  mesh = {d.name: d.size for d in run.mesh.axes}
  answer |= chips.estimate(answer, mesh, slice_)
  if answer["compiles"] and run.train_steps:
    hours = run.train_steps * answer["step_seconds"]["step"] / 3600
    answer["hours"] = [hours, hours / f.utilisation]
    if (price := f.price_per_chip_hour) is not None:
      answer["price"] = [h * slice_.chips * price for h in answer["hours"]]
  return answer


def answer_lines(plan: dict) -> list[str]:
  """The answer in three lines: whether the run fits, its hours, its price.

  Vanilla T5's figures are in brackets.
  """

  def of_each(text) -> str:
    run, *vanilla = map(text, reversed(plan["models"].values()))
    return run + (f" (vanilla {vanilla[0]})" if vanilla else "")

  def fits(found: dict) -> str:
    if not found["compiles"]:
      return f"it does not compile: {found['refused'][:300]}"
    return f"{'yes' if found['fits'] else 'no'}, {found['needs'] / 1e9:.3g}"

  def span(name: str, form: str):
    def text(found: dict) -> str:
      ends = [format(n, form) for n in found.get(name, ())]
      return " to ".join(ends) or "unknown"

    return text

  price, steps = plan["price_per_chip_hour"], plan["steps"]
  at = f"at the compiler's speed, or at {plan['utilisation']:.0%} of it"
  paid = "give --price_per_chip_hour"
  if price is not None:
    paid = f"at {price:g} per chip and hour, {price * plan['chips']:g} for all"
  return [
    f"fits   {of_each(fits)}, of {plan['hbm'] / 1e9:.3g} GB per core",
    f"hours  {of_each(span('hours', ',.1f'))}, for "
    f"{'unknown' if steps is None else f'{steps:,}'} steps {at}",
    f"price  {of_each(span('price', ',.0f'))}, {paid}",
  ]


def detail_lines(plan: dict) -> list[str]:
  """Details of the answer: a table, what is sent, the assumptions."""
  rows, lines = {}, []
  for name, found in plan["models"].items():
    if not found["compiles"]:
      continue
    memory, step = found["memory"], found["step_seconds"]
    rows[name] = {
      "GB per core": found["needs"] / 1e9,
      "weights": memory["weights"] / 1e9,
      "optimizer": memory["optimizer"] / 1e9,
      "temporaries": memory["temporaries"] / 1e9,
      "million cycles": found["cycles"] / 1e6,
      "step, ms": 1e3 * step["step"],
      "of it sending": 1e3 * step["collectives"],
    }
    along = [
      f"{kind} {axes} {size / 1e6:,.3f}"
      for kind, of_kind in found["by_axis"].items()
      for axes, size in of_kind.items()
    ]
    lines.append(f"{name} sends in MB per core and step: {', '.join(along)}")
    if found["extrapolated"]:
      low, high = found["extrapolated"]
      lines.append(
        f"{name}: extrapolated linearly from programs of {low} + {low} and "
        f"{high} + {high} blocks"
      )
  frame = pd.DataFrame.from_dict(rows, orient="index")
  if {"vanilla"} < set(rows):
    beside = frame.drop(index="vanilla") / frame.loc["vanilla"]
    frame = pd.concat([frame, beside.rename(index="{} / vanilla".format)])
  table = frame.to_string(float_format="{:,.4g}".format).splitlines()
  assumed = [f"assumed: {a}" for a in plan["assumptions"]]
  return [*table, "", *lines, *assumed]


def make_plan(f) -> dict:
  """The plan that the flags ask for, as in `plan.json`."""
  if not f.gin_file:
    raise errors.UserError(
      "there is no --gin_file: give those of a training run, such as "
      "models/base.gin, hypergrid/L2.gin and experiments/glue.gin."
    )
  if not 0 < f.utilisation <= 1:
    raise errors.UserError(
      f"--utilisation={f.utilisation} must be a share in (0, 1]."
    )
  if len(f.depths) not in (0, 2):
    raise errors.UserError(
      f"--depths={','.join(f.depths)} must be two numbers of blocks, such as "
      "2,4, or empty."
    )
  slice_ = chips.make_slice(f.topology, client.cores)
  given = tuple(
    map(tuple, (f.gin_file, f.gin_param or (), f.module_import or ()))
  )
  source = gin_run.Source(*given)
  sources = {"vanilla": source.vanilla(), source.variant: source}
  runs = {n: gin_run.read(s, len(slice_.cores)) for n, s in sources.items()}
  run = runs[source.variant]
  return {
    "gin_files": source.gin_files,
    "gin_params": source.gin_params,
    "topology": f.topology,
    "chips": slice_.chips,
    "cores": len(slice_.cores),
    "hbm": slice_.hbm,
    "mesh": ",".join(f"{d.name}:{d.size}" for d in run.mesh.axes),
    "batch": run.job.case.batch,
    "lengths": run.job.case.lengths,
    "steps": run.train_steps,
    "utilisation": f.utilisation,
    "price_per_chip_hour": f.price_per_chip_hour,
    "assumptions": chips.assumptions(slice_),
    "models": {name: plan_model(runs[name], name, slice_, f) for name in runs},
  }


def main(argv) -> None:
  """Makes a plan, prints it and writes it."""
  del argv
  tf.disable_v2_behavior()
  client.check()
  folder = FLAGS.output_dir
  files.check_output_dir(folder)
  plan = make_plan(FLAGS)
  lines = [
    f"{plan['topology']}: {plan['chips']} chips, {plan['cores']} cores, "
    f"{plan['mesh']}; {plan['batch']} sequences of {plan['lengths']} tokens",
    *answer_lines(plan),
    "",
    *detail_lines(plan),
  ]
  for line in lines:
    console.say(line)
  files.write_json(f"{folder}/plan.json", plan)
  files.write(f"{folder}/plan.txt", "\n".join(lines) + "\n")
  console.say(f"wrote {folder}/plan.json, plan.txt")


if __name__ == "__main__":
  console.run(main)
