r"""Makes the zip files for the GLUE and SuperGLUE servers.

Decode the test sets first, then make the files:

  python -m hypergrid_mtf.main … --gin_file=experiments/local_eval.gin \
    --gin_param="run.dataset_split = 'test'"
  python -m tools.submit --model_dir=runs/l2 --output_dir=submission

Both folders may be in the cloud (gs://…). File names, labels and the order of
rows are those of the servers; every file is checked against the size of its
test set before a zip is written. The default --step is the last one at which
all tasks of a benchmark were decoded. As in T5, which is not trained on WNLI,
its answer is the majority class. A missing task is an error, unless --fill is
given: then it gets the same answer throughout, so that the server accepts the
zip. `submission.json` next to the zips describes each file.
"""

import io
import os
import zipfile
from collections.abc import Sequence

from absl import flags

from hypergrid_mtf.run import console, t5_flags

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("model_dir", "t5_tfds_data_dir")
  flags.DEFINE_list(
    "benchmarks",
    None,
    "Which zips to make, of GLUE, SuperGLUE; by default all that were decoded.",
  )
  flags.DEFINE_string("output_dir", "submission", "Where to write the zips.")
  flags.DEFINE_integer(
    "step",
    None,
    "The step of the checkpoint; by default the last one of all tasks.",
    lower_bound=0,
  )
  flags.DEFINE_bool("fill", False, "Give missing tasks one answer.")


console.read_flags(__name__, define_flags, ["model_dir", "t5_tfds_data_dir"])

import seqio

import t5_tasks  # noqa: F401  (registers the variants with task tokens)
from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from hypergrid_mtf.run.checks import data as data_checks
from tools.experiments import decoded, submissions

BENCHMARKS = submissions.BENCHMARKS


def benchmarks(names: Sequence[str]) -> list[str]:
  """The benchmarks named by --benchmarks, upper or lower case, each once."""
  known = {name.casefold(): name for name in BENCHMARKS}
  found = []
  for given in names or [""]:
    key = given.strip().casefold().replace("_", "")
    if key not in known:
      raise errors.UserError(
        f"--benchmarks={given} is unknown: choose from {', '.join(BENCHMARKS)}."
      )
    found.append(known[key])
  return list(dict.fromkeys(found))


def choose(
  benchmark: str, found: decoded.Decoded, step: int | None
) -> dict[submissions.Entry, decoded.Predictions | None] | None:
  """The predictions for a zip, all of the same step.

  Args:
    benchmark: a key of BENCHMARKS.
    found: what was decoded.
    step: of the checkpoint; None for the last one of all decoded tasks.

  Returns:
    {file: its predictions, or None}; None if there are no predictions at all

  Raises:
    UserError: if no step is given, and no step has all tasks.
  """
  entries = BENCHMARKS[benchmark]
  steps = {e.task: found.steps(e.task) for e in entries if not e.optional}
  steps = {task: own for task, own in steps.items() if own}
  if step is None and steps:
    common = set.intersection(*map(set, steps.values()))
    if not common:
      raise errors.UserError(
        f"{found.folder} has no step with predictions for all decoded tasks of "
        f"{benchmark}: {_by_task(steps)}; decode all at the same step, or give "
        "--step and --fill."
      )
    step = max(common)
    if later := {t: own[-1] for t, own in steps.items() if own[-1] > step}:
      console.say(
        f"{benchmark}: using step {step}, the last one of all tasks; step "
        f"{max(later.values())} has only {', '.join(later)}"
      )
  if step is None:
    return None
  chosen = {e: found.tasks.get(e.task, {}).get(step) for e in entries}
  return chosen if any(chosen.values()) else None


def _by_task(steps: dict[str, list[int]]) -> str:
  return "; ".join(
    f"{t}: {decoded.show_steps(own)}" for t, own in steps.items()
  )


def _nothing(names, found: decoded.Decoded, step: int | None):
  """The error for a folder without any of the requested predictions."""
  there = {s for n in names for e in BENCHMARKS[n] for s in found.steps(e.task)}
  tasks = f"tasks of {' or '.join(names)}"
  if not there:
    return errors.UserError(
      f"{found.folder} has no predictions of {tasks}: decode the test split of "
      "a mixture with these tasks."
    )
  return errors.UserError(
    f"--step={step}: {found.folder} has predictions of {tasks} at "
    f"{decoded.show_steps(there)}: give one of these."
  )


def _check(benchmark, chosen, found: decoded.Decoded, fill: bool) -> None:
  """Checks for missing predictions before a test set is read."""
  absent = [e.task for e, p in chosen.items() if p is None and not e.optional]
  if absent and not fill:
    step = next(p.step for p in chosen.values() if p)
    others = {t: found.steps(t) for t in absent if found.steps(t)}
    raise errors.UserError(
      f"{found.folder} has no predictions of {', '.join(absent)} at step "
      f"{step}{f' ({_by_task(others)})' if others else ''}: decode the test "
      f"split of all tasks of {benchmark}, or give --fill to put one answer "
      "there."
    )
  for entry, predictions in chosen.items():
    if predictions or submissions.needs_data(entry):
      data_checks.check_data(
        seqio.TaskRegistry.get(entry.task), FLAGS.t5_tfds_data_dir
      )


def submission(
  chosen: dict[submissions.Entry, decoded.Predictions | None],
) -> tuple[bytes, list[dict]]:
  """The zip of one benchmark, and a record for each of its files.

  Raises:
    UserError: if answers and test sets do not match.
  """
  buffer = io.BytesIO()
  records = []
  with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
    for entry, predictions in chosen.items():
      text, record = submissions.make_file(entry, predictions)
      zipped.writestr(entry.file, text)
      records.append(record)
  return buffer.getvalue(), records


def main(argv) -> None:
  """Writes the zips."""
  del argv
  asked = FLAGS.benchmarks
  names = benchmarks(list(BENCHMARKS) if asked is None else asked)
  found = decoded.find(FLAGS.model_dir, "test")
  of_each = {}
  for name in names:
    if chosen := choose(name, found, FLAGS.step):
      of_each[name] = chosen
  absent = [name for name in names if name not in of_each]
  if absent == names or (absent and asked is not None):
    raise _nothing(absent, found, FLAGS.step)
  for name in absent:
    console.say(f"{name}: none of its tasks was decoded, so no zip is written")
  files.check_output_dir(FLAGS.output_dir)
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  for name, chosen in of_each.items():
    _check(name, chosen, found, FLAGS.fill)
  report = {}
  for name, chosen in of_each.items():
    content, report[name] = submission(chosen)
    path = os.path.join(FLAGS.output_dir, f"{name}.zip")
    files.write(path, content)
    console.say(f"wrote {path}")
    for r in report[name]:
      source = f"step {r['step']}"
      if r["filler"] is not None:
        source = f"FILLER {r['filler']!r}"
      elif r["no_label"]:
        source += f", {r['no_label']} answers were not a label"
      console.say(f"  {r['file']:<14} {r['rows']:>7,} rows  {source}")
  files.write_json(os.path.join(FLAGS.output_dir, "submission.json"), report)


if __name__ == "__main__":
  console.run(main)
