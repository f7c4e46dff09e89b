r"""Makes the paper's tables from the results of a sweep or from runs.

  python -m tools.tables --results=runs/embedded/results --output_dir=tables
  python -m tools.tables --runs=vanilla=runs/vanilla,L2=runs/l2

--results is a folder of JSON files from `tools.sweep`. --runs names model
folders that were trained and evaluated by hand: a repeated name is another
seed, and `single/TASK` is one task's model in the column `single`. Their
results are written to `<output_dir>/results`.

Writes, as Markdown, LaTeX and CSV:

  scores       each task and average: mean, standard deviation, seeds
  published    the averages next to the published ones, with their source
  differences  each model minus the baseline, and the share of the gap to the
               single-task models that it closes, with 95 % intervals over seeds
  cost         parameters, time of training

The first three are made for three choices of the checkpoint: T5's (`best` of
each task on the validation set; optimistic, and the intervals ignore it), the
`one` with the best average over all tasks, and the `last`.
"""

import collections
import os

from absl import flags

from hypergrid_mtf.run import console
from tools import flag_groups

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flag_groups.define_results()
  flags.DEFINE_string("output_dir", "tables", "Where to write the tables.")
  flags.DEFINE_string("update", None, "A document to update with the tables.")


console.read_flags(__name__, define_flags, ["results", "update"])

import pandas as pd

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools.experiments import notes, protocol, render, result, statistics


def collect(runs: list[str], split: str) -> list[dict]:
  """Collects the results of runs.

  Args:
    runs: NAME=MODEL_DIR for each.
    split: the split that they were evaluated on.
  """
  found = []
  seeds: collections.Counter = collections.Counter()
  for run in runs:
    name, equals, model_dir = run.partition("=")
    cell = name.split("/")[0].strip()
    if not equals or not cell:
      raise errors.UserError(
        f"--runs={run} is not a run: give NAME=MODEL_DIR, …, such as "
        "vanilla=runs/vanilla,L2=runs/l2."
      )
    one = result.collect(model_dir, cell, seeds[name], split)
    found.append({**one, "name": name, "path": model_dir})
    seeds[name] += 1
  result.check(found)
  return found


def make(
  given: flags.FlagValues,
) -> tuple[list[dict], dict[str, pd.DataFrame], list[str]]:
  """Makes results, tables and notes as the flags ask; prints the notes.

  The first notes are the outcome in words.
  """
  if bool(given.results) == bool(given.runs):
    raise errors.UserError(
      "give the results of a sweep as --results=DIR, or runs as "
      "--runs=NAME=MODEL_DIR, …."
    )
  skipped: list[str] = []
  if given.runs:
    found = collect(given.runs, given.split)
  else:
    found, skipped = result.load(given.results)
  found = result.in_order(found, given.baseline, given.single)
  scores = {c: statistics.scores(found, c) for c in protocol.CHECKPOINTS}
  made = render.tables(found, scores, given.baseline, given.single)
  sentences = notes.verdicts(scores["last"], given.baseline, given.single)
  sentences += notes.notes(found, scores, given.baseline, given.single)
  for sentence in [*skipped, *sentences]:
    console.say(sentence)
  return found, made, sentences


def main(argv) -> None:
  """Prints and writes the tables."""
  del argv
  files.check_output_dir(FLAGS.output_dir)
  if FLAGS.update:
    render.places(render.read(FLAGS.update), FLAGS.results or "")
  found, made, _ = make(FLAGS)
  for name, frame in made.items():
    console.say(f"\n{name}\n\n{render.to_markdown(frame)}")
    render.write(frame, os.path.join(FLAGS.output_dir, name))
  if FLAGS.runs:
    for one in found:
      name = f"{one['name'].replace('/', '-')}-seed{one['seed']}.json"
      path = os.path.join(FLAGS.output_dir, "results", name)
      files.write(path, result.to_text(one))
  console.say(f"\nwrote {len(made)} tables to {FLAGS.output_dir}")
  if FLAGS.update:
    text = render.update(render.read(FLAGS.update), FLAGS.results, made)
    files.write(FLAGS.update, text)
    console.say(f"updated {FLAGS.update}")


if __name__ == "__main__":
  console.run(main)
