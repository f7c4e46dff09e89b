r"""Measures HyperGrid against vanilla T5: time and memory of a step.

  python -m tools.benchmark --size=base --cases=train,decode,serve \
    --output_dir=runs/benchmark

Every model lives in a process of its own (`tools.cost.worker`) and takes real
steps of t5: training (gradients and Adafactor), training on packed rows,
evaluation, greedy decoding; `serve` answers texts with what `tools.export`
writes, also with Hugging Face's TFT5 on vanilla's weights. Vanilla and the
others step strictly in turn, in an order that rotates, so that whatever else
slows the machine slows all; a ratio is the median over rounds of the two times
of one round. Written after each group: benchmark.json and benchmark.md.
"""

import dataclasses
import itertools
import os
import tempfile

from absl import flags

from hypergrid_mtf.run import console, t5_flags
from tools.cost import models

FLAGS = flags.FLAGS

# Batches, inputs and targets (output tokens for `decode` and `serve`) that the
# project states its costs for.
DEFAULTS = {
  "train": (["4"], "512", 64),
  "train_packed": (["4"], "512", 64),
  "eval": (["4"], "512", 64),
  "decode": (["16"], "64", 16),
  "serve": (["1", "8", "32"], "64", 16),
}


def define_flags() -> None:
  """Not at import: tests import this module and have flags of their own."""
  t5_flags.define("gin_param")
  flags.DEFINE_list("cases", ["train"], f"Of {', '.join(DEFAULTS)}.")
  models.define_size("base", activation_dtype="float32")
  flags.DEFINE_list("variants", ["L2"], "HyperGrid variants.")
  flags.DEFINE_list("grids", ["16x16"], "Grids, each ROWSxCOLUMNS.")
  flags.DEFINE_list("contractions", ["auto"], "HyperGrid.contraction.")
  flags.DEFINE_list("stacks", ["both"], f"Of {', '.join(models.STACKS)}.")
  flags.DEFINE_list(
    "batch", None, "Rows a step; default 4, for decode 16, for serve 1,8,32."
  )
  flags.DEFINE_list(
    "inputs", None, "Input tokens; default 512, for decode and serve 64."
  )
  flags.DEFINE_integer(
    "targets",
    None,
    "Target tokens, for decode and serve output tokens; default 64 and 16.",
    lower_bound=1,
  )
  flags.DEFINE_integer(
    "examples_per_row", 8, "Examples a row of train_packed.", lower_bound=2
  )
  flags.DEFINE_integer("runs", 5, "Measured rounds.", lower_bound=1)
  flags.DEFINE_integer("warmup", 2, "Steps before, not counted.", lower_bound=1)
  flags.DEFINE_bool("hugging_face", True, "serve: also transformers' T5.")
  flags.DEFINE_bool("trace", False, "Also trace a step of t5 of each model.")
  flags.DEFINE_string("output_dir", "runs/benchmark", "Where to write.")


console.read_flags(__name__, define_flags)

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools import environment
from tools.cost import steps, turns
from tools.serving import benchmark_models

# d_model from which two models at a time are enough for the memory.
_LARGE = 512
_HUGGING_FACE = "Hugging Face"
# Flags that are not in the cases and names of the models.
_CONFIG = ("size", "stacks", "activation_dtype", "gin_param")


def cases_of(f) -> list[steps.Case]:
  """Every case of the flags, checked."""
  models.choose("cases", f.cases, tuple(DEFAULTS))
  found = []
  for name in f.cases:
    batches, inputs, targets = DEFAULTS[name]
    for length, batch in itertools.product(
      f.inputs or [inputs], f.batch or batches
    ):
      case = steps.Case(
        name,
        models.positive("batch", batch),
        models.positive("inputs", length),
        f.targets or targets,
        f.examples_per_row if name == "train_packed" else 1,
      )
      needed = 2 * case.examples_per_row
      shortest = min(case.lengths.values())
      if name.startswith("train") and shortest < needed:
        raise errors.UserError(
          f"{case.examples_per_row} example(s) do not fit in a row of "
          f"{case.inputs} inputs and {case.targets} targets: each needs 2 "
          f"tokens, so give --inputs and --targets of {needed} or more."
        )
      found.append(case)
  return found


def plan(f, folder: str) -> list[turns.Group]:
  """What the flags ask for, every model of it checked.

  Args:
    f: absl's FLAGS, parsed.
    folder: for models that are served.

  Raises:
    UserError: for flags that ask for what cannot be measured.
  """
  for flag in ("grids", "contractions"):
    if not f[flag].value:
      raise errors.UserError(f"--{flag}= is empty: give at least one.")
  cases = cases_of(f)
  settings = models.settings(f.variants, f.grids, f.contractions, f.stacks)

  def job_of(setting, case):
    params = tuple(f.gin_param or ())
    return steps.make_job(f.size, case, setting, f.activation_dtype, params)

  # The shape of a step changes nothing in a model.
  built = [job_of(setting, cases[0]).build() for setting in settings]
  together = 1 if built[0].encoder.model_dim.size >= _LARGE else 4
  groups = []
  for case in cases:
    if case.name == "serve":
      requests = serving_requests(f, settings, case, folder)
    else:
      requests = {
        setting.name: {
          "kind": "step",
          "job": dataclasses.asdict(job_of(setting, case)),
        }
        for setting in settings
      }
    vanilla, *others = requests.items()
    groups += [
      turns.Group(case, dict([vanilla, *others[i : i + together]]))
      for i in range(0, len(others), together)
    ]
  return groups


def serving_requests(
  f, settings, case: steps.Case, folder: str
) -> dict[str, dict]:
  """What the workers of a case are asked for; models are made where needed."""
  asked = {"texts": benchmark_models.make_texts(case), "tokens": case.targets}
  requests = {}
  for setting in settings:
    model_dir = os.path.join(folder, f"{case.inputs}-{setting.name}")
    if not os.path.exists(model_dir):
      console.say(f"exporting {setting.name}")
      benchmark_models.write(model_dir, f.size, setting, case)
      benchmark_models.export(model_dir)
      if setting == models.VANILLA and f.hugging_face:
        benchmark_models.to_hugging_face(model_dir)
    folders = {"saved_model": f"{model_dir}_saved/1"}
    if setting == models.VANILLA and f.hugging_face:
      folders["hugging_face"] = f"{model_dir}_hugging_face"
    for kind, path in folders.items():
      name = _HUGGING_FACE if kind == "hugging_face" else setting.name
      requests[name] = {"kind": kind, "folder": path, **asked}
  return requests


def main(argv) -> int:
  """Measures what the flags ask for; returns 1 if a worker failed."""
  del argv
  output_dir = FLAGS.output_dir
  files.check_output_dir(output_dir)
  console.log_to(output_dir)
  config = {name: FLAGS[name].value for name in _CONFIG}
  measured = dict(environment.describe(), config=config, groups=[])
  with tempfile.TemporaryDirectory() as folder:
    groups = plan(FLAGS, folder)
    total = sum(len(group.requests) for group in groups)
    total *= 1 + FLAGS.warmup + FLAGS.runs
    try:
      with console.progress_bar(total, "benchmark", "step") as bar:
        for group in groups:
          measured["groups"].append(
            turns.measure(
              group, output_dir, bar, FLAGS.warmup, FLAGS.runs, FLAGS.trace
            )
          )
          table = turns.table_of(measured["groups"])
          path = os.path.join(output_dir, "benchmark.json")
          files.write_json(path, measured)
          files.write(os.path.join(output_dir, "benchmark.md"), table + "\n")
    except turns.WorkerError as e:
      console.terminal().write(f"error: {e}\n")
      return 1
  console.say(f"{table}\n\nwrote {output_dir}/benchmark.json, benchmark.md")
  return 0


if __name__ == "__main__":
  console.run(main)
