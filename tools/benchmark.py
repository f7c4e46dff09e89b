r"""Compares the time and memory of a step of HyperGrid and vanilla T5.

  python -m tools.benchmark --size=base --cases=train,decode,serve \
    --output_dir=runs/benchmark

Every model runs in its own process (`tools.cost.worker`) and takes real steps
of t5: training (gradients and Adafactor), training on packed examples,
evaluation, greedy decoding; `serve` answers texts with models from
`tools.export`, and with Hugging Face's TFT5 on vanilla's weights. The models
step strictly in turn, in a rotating order, so that other load slows all of them
alike; a ratio is the median over rounds of the ratios within a round. Writes
benchmark.json and benchmark.md after each group.
"""

import dataclasses
import itertools
import os
import tempfile

from absl import flags

from hypergrid_mtf.run import console, t5_flags
from tools.cost import models

FLAGS = flags.FLAGS

# The batches, inputs and targets (output tokens for `decode` and `serve`) of
# the published costs.
DEFAULTS = {
  "train": (["4"], "512", 64),
  "train_packed": (["4"], "512", 64),
  "eval": (["4"], "512", 64),
  "decode": (["16"], "64", 16),
  "serve": (["1", "8", "32"], "64", 16),
}


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("gin_param")
  flags.DEFINE_list("cases", ["train"], f"Any of {', '.join(DEFAULTS)}.")
  models.define_size("base", activation_dtype="float32")
  flags.DEFINE_list("variants", ["L2"], "HyperGrid variants.")
  flags.DEFINE_list("grids", ["16x16"], "Grids, each ROWSxCOLUMNS.")
  flags.DEFINE_list("contractions", ["auto"], "HyperGrid.contraction.")
  flags.DEFINE_list("stacks", ["both"], f"Any of {', '.join(models.STACKS)}.")
  flags.DEFINE_list(
    "batch", None, "Sequences per step: 4, for decode 16, for serve 1,8,32."
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
    "examples_per_row", 8, "Examples per packed sequence.", lower_bound=2
  )
  flags.DEFINE_integer("runs", 5, "Measured rounds.", lower_bound=1)
  flags.DEFINE_integer("warmup", 2, "Warm-up steps.", lower_bound=1)
  flags.DEFINE_bool("hugging_face", True, "serve: also run transformers' T5.")
  flags.DEFINE_bool("trace", False, "Also trace one t5 step of each model.")
  flags.DEFINE_string("output_dir", "runs/benchmark", "Where to write.")


console.read_flags(__name__, define_flags)

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools import environment
from tools.cost import steps, turns
from tools.serving import benchmark_models

# From this d_model on, only two models at a time, to save memory.
_LARGE = 512
_HUGGING_FACE = "Hugging Face"
# Flags that appear neither in the cases nor in the models' names.
_CONFIG = ("size", "stacks", "activation_dtype", "gin_param")


def cases_of(f) -> list[steps.Case]:
  """Every case that the flags ask for, checked."""
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
          f"{case.examples_per_row} example(s) do not fit in a sequence of "
          f"{case.inputs} inputs and {case.targets} targets: each needs 2 "
          f"tokens, so give --inputs and --targets of {needed} or more."
        )
      found.append(case)
  return found


def plan(f, folder: str) -> list[turns.Group]:
  """The groups that the flags ask for, with every model checked.

  Args:
    f: absl's FLAGS, parsed.
    folder: for exported models.

  Raises:
    UserError: for flags that cannot be measured.
  """
  for flag in ("grids", "contractions"):
    if not f[flag].value:
      raise errors.UserError(f"--{flag}= is empty: give at least one.")
  cases = cases_of(f)
  settings = models.settings(f.variants, f.grids, f.contractions, f.stacks)

  def job_of(setting, case):
    params = tuple(f.gin_param or ())
    return steps.make_job(f.size, case, setting, f.activation_dtype, params)

  # The shape of a step does not change a model.
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
  """The requests to the workers of a case; makes their models if needed."""
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
