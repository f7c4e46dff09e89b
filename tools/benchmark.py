r"""Measures HyperGrid against vanilla T5: time and memory of a step.

  python -m tools.benchmark --size=base --cases=train,decode \
    --output_dir=runs/benchmark

Every model lives in a process of its own (`tools.cost.benchmark_worker`) and
takes real steps of t5: training (gradients and Adafactor), training on packed
rows, evaluation, greedy decoding. Vanilla T5 and HyperGrid step strictly in
turn, in an order that rotates, so that whatever else slows the machine slows
both; the ratio is the median over rounds of the two times of one round. Written
after each group of models: benchmark.json and benchmark.md; at the end,
pictures of the ratio over grids and over input lengths.
"""

import itertools
import json
import os

from absl import flags
from mesh_tensorflow.transformer import utils  # noqa: F401  (--gin_param)

from hypergrid_mtf import errors
from hypergrid_mtf import gate as gate_lib
from hypergrid_mtf.run import console, files
from tools import environment
from tools.cost import benchmark_cases as cases
from tools.cost import benchmark_group, benchmark_worker, models
from tools.cost import benchmark_report as report

FLAGS = flags.FLAGS

MIN_RUNS = 5
# d_model from which two models at a time are enough for the memory.
_LARGE = 512


def _case(name: str, inputs: int | None) -> cases.Case:
  batch, default_inputs, targets = cases.DEFAULTS[name]
  case = cases.Case(
    name,
    batch=FLAGS.batch or batch,
    inputs=inputs or default_inputs,
    targets=FLAGS.targets or targets,
    examples_per_row=FLAGS.examples_per_row if name == "train_packed" else 1,
  )
  needed = 2 * case.examples_per_row
  if name == "train_packed" and case.examples_per_row < 2:
    raise errors.UserError(
      f"--examples_per_row={case.examples_per_row} packs nothing: give 2 or "
      "more, or leave train_packed out of --cases."
    )
  if min(case.inputs, case.targets) < needed and name != "decode":
    raise errors.UserError(
      f"{case.examples_per_row} examples do not fit in a row of {case.inputs} "
      f"inputs and {case.targets} targets: each needs 2 tokens, so give "
      f"--inputs and --targets of {needed} or more."
    )
  return case


def plan() -> list[benchmark_group.Group]:
  """What the flags ask for, every model of it checked.

  Returns:
    groups of one case and one shape each, in the order of the flags

  Raises:
    UserError: for flags that ask for what cannot be measured.
  """
  models.choose("size", [FLAGS.size], models.sizes())
  models.choose("cases", FLAGS.cases, tuple(cases.DEFAULTS))
  for flag in ("grids", "contractions", "stacks"):
    if not FLAGS[flag].value:
      raise errors.UserError(f"--{flag}= is empty: give at least one.")
  if FLAGS.runs < MIN_RUNS and not FLAGS.quick:
    raise errors.UserError(
      f"--runs={FLAGS.runs} is too few to see a spread: give {MIN_RUNS} or "
      "more, or --quick to only try the program."
    )
  lengths: list[int | None] = [None]
  if FLAGS.inputs:
    lengths = [models.positive("inputs", n) for n in FLAGS.inputs]
  settings = models.settings(
    FLAGS.variants, FLAGS.grids, FLAGS.contractions, FLAGS.stacks
  )
  by_case = {}
  for name, inputs in itertools.product(FLAGS.cases, lengths):
    case = _case(name, inputs)
    for setting in settings[1:]:
      _check_contraction(case, setting)
    by_case[case] = [
      benchmark_worker.Job(
        FLAGS.size,
        case,
        setting,
        FLAGS.activation_dtype,
        tuple(FLAGS.gin_param or ()),
      )
      for setting in settings
    ]
  # The shape of a step changes nothing in a model.
  built = [benchmark_worker.check(job) for job in next(iter(by_case.values()))]
  large = built[0].encoder.model_dim.size >= _LARGE
  together = FLAGS.together or (1 if large else 4)
  return [
    group
    for case, jobs in by_case.items()
    for group in _grouped(case, jobs, together)
  ]


def _check_contraction(case: cases.Case, setting: models.Setting) -> None:
  """HyperGrid checks it too, but only when vanilla has long been built."""
  local = "local" in gate_lib.VARIANTS[setting.variant]
  if setting.contraction == "weights" and local and case.examples_per_row > 1:
    raise errors.UserError(
      "--contractions=weights cannot serve train_packed: it makes one gated "
      "kernel a row, and a packed row has several examples; choose auto, rows "
      "or cols."
    )


def _grouped(
  case: cases.Case, jobs: list[benchmark_worker.Job], together: int
) -> list[benchmark_group.Group]:
  """Groups of vanilla and so many others."""
  return [
    benchmark_group.Group(case, (jobs[0], *jobs[i : i + together]))
    for i in range(1, len(jobs), together)
  ]


def _config() -> dict:
  """The flags that decide what is measured."""
  names = (
    "size cases variants grids contractions stacks batch inputs targets "
    "examples_per_row runs warmup quick together activation_dtype gin_param "
    "profile"
  )
  return {name: FLAGS[name].value for name in names.split()}


def _write(output_dir: str, measurement: dict) -> None:
  groups = measurement["groups"]
  texts = {
    "benchmark.json": json.dumps(measurement, indent=1),
    "benchmark.md": report.to_markdown(report.table(groups)),
  }
  if FLAGS.profile:
    texts["profile.md"] = report.profile_markdown(groups)
  for name, text in texts.items():
    files.write(os.path.join(output_dir, name), text + "\n")


def _run(groups: list[benchmark_group.Group], output_dir: str) -> dict:
  """Measures all groups, and writes what there is after each."""
  log_dir = os.path.join(output_dir, "logs")
  os.makedirs(log_dir, exist_ok=True)
  measurement = dict(environment.describe(), config=_config(), groups=[])
  per_model = 1 + FLAGS.warmup + FLAGS.runs + FLAGS.profile
  total = per_model * sum(len(group.jobs) for group in groups)
  with console.progress_bar(total, "benchmark", "step") as bar:
    for group in groups:
      measured = benchmark_group.measure(
        group, log_dir, bar, FLAGS.warmup, FLAGS.runs, FLAGS.profile
      )
      measurement["groups"].append(measured)
      _write(output_dir, measurement)
  return measurement


def main(argv) -> int:
  """Measures what the flags ask for.

  Args:
    argv: unused.

  Returns:
    the exit status: 1 if a worker failed
  """
  del argv
  output_dir = FLAGS.output_dir
  files.check_output_dir(output_dir)
  console.log_to(output_dir)
  written = []
  if FLAGS.measured:
    measured = report.load(FLAGS.measured)
  else:
    groups = plan()
    try:
      measured = _run(groups, output_dir)["groups"]
    except benchmark_group.WorkerError as e:
      console.terminal().write(f"error: {e}\n")
      return 1
    written.append(os.path.join(output_dir, "benchmark.json"))
    if FLAGS.profile:
      written.append(os.path.join(output_dir, "profile.md"))
  console.say(report.to_markdown(report.table(measured)))
  written += report.draw(measured, output_dir, f"T5 {FLAGS.size}")
  if written:
    console.say(f"\nwrote {', '.join(written)}")
  return 0


def define_flags() -> None:
  """Not at import: tests import this module and have flags of their own."""
  flags.DEFINE_list("cases", ["train"], f"Of {', '.join(cases.DEFAULTS)}.")
  flags.DEFINE_string("size", "base", "A file of operative_configs/models.")
  flags.DEFINE_list("variants", ["L2"], "HyperGrid variants.")
  flags.DEFINE_list("grids", ["16x16"], "Grids, each ROWSxCOLUMNS.")
  flags.DEFINE_list("contractions", ["auto"], "HyperGrid.contraction.")
  flags.DEFINE_list("stacks", ["both"], f"Of {', '.join(models.STACKS)}.")
  flags.DEFINE_integer(
    "batch", None, "Rows a step; default 4, for decode 16.", lower_bound=1
  )
  flags.DEFINE_list("inputs", None, "Input tokens; default 512, for decode 64.")
  flags.DEFINE_integer(
    "targets",
    None,
    "Target tokens, for decode output tokens; default 64, for decode 16.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "examples_per_row", 8, "Examples a row of train_packed.", lower_bound=1
  )
  flags.DEFINE_integer(
    "runs", MIN_RUNS, f"Measured rounds, {MIN_RUNS} or more.", lower_bound=1
  )
  flags.DEFINE_integer("warmup", 2, "Steps before, not counted.", lower_bound=1)
  flags.DEFINE_bool("quick", False, "Allow fewer runs, only to try it.")
  flags.DEFINE_integer(
    "together",
    0,
    "HyperGrid models beside one vanilla; 0: 1 for large sizes, otherwise 4.",
    lower_bound=0,
  )
  flags.DEFINE_enum(
    "activation_dtype",
    "float32",
    ["float32", "bfloat16"],
    "float32 is what t5 runs on a CPU.",
  )
  flags.DEFINE_bool("profile", False, "Also trace a step of each model.")
  flags.DEFINE_list(
    "measured",
    [],
    "benchmark.json files: print and draw them together, and measure nothing.",
  )
  flags.DEFINE_string("output_dir", "runs/benchmark", "Where to write.")
  flags.declare_key_flag("gin_param")


if __name__ == "__main__":
  define_flags()
  console.run(main)
