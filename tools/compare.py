r"""Compares runs, task by task, from the files that their evaluation wrote.

  python -m tools.compare --runs=vanilla=DIR,L2=DIR --output=table.md

Reads the `eval` summaries of each model_dir at its last evaluated step, never
the model. Averages are T5's, by the groups of t5.evaluation.eval_utils: the
metrics of a task first (MNLI's two sets are one task), then the tasks of a
benchmark; a benchmark that is not whole says how much of it there is.
"""

import math
import re

import pandas as pd
from absl import flags

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.launch import console, files
from tools.experiments import evaluation, protocol

FLAGS = flags.FLAGS

PARAMETERS = ("parameters", "total")
EMBEDDING_FREE = ("parameters", "beside the embedding")
STEP = ("step", "")
AVERAGE = "average"


def count_parameters(model_dir: str) -> tuple[int, int]:
  """Parameters of the last checkpoint, the optimizer's slots aside.

  Args:
    model_dir: of a run that was trained.

  Returns:
    (all of them, those beside the embedding)
  """
  path = checkpoints.latest_checkpoint(model_dir)
  if path is None:
    raise errors.UserError(f"{model_dir} holds no checkpoint.")
  total = embedding = 0
  for name, shape in checkpoints.reader_shapes(path, "its latest").items():
    if re.search(r"_slot_\w+$", name) or name == checkpoints.GLOBAL_STEP:
      continue
    size = math.prod(shape)
    total += size
    embedding += size if name == "shared/embedding" else 0
  return total, total - embedding


def table(runs: dict[str, str], split: str = "validation") -> pd.DataFrame:
  """One column a run; rows: metrics of each task, average, parameters, step.

  Args:
    runs: {name: model_dir}
    split: the split evaluated on.

  Returns:
    a DataFrame of objects; a metric that a run lacks is None, and so is its
    average; one that is nan is nan, and so is its average.

  Raises:
    UserError: if the runs were evaluated at different steps or in different
      ways.
  """
  columns, steps, protocols = {}, {}, {}
  for name, model_dir in runs.items():
    found = evaluation.read(evaluation.folder_of(model_dir, split))
    steps[name] = found.steps()[-1]
    columns[name] = found.at(steps[name])
    protocols[name] = found.protocol(split, steps[name])
    for sentence in found.notes():
      console.say(sentence)
  if len(set(steps.values())) > 1:
    at = ", ".join(f"{name} at {step}" for name, step in steps.items())
    raise errors.UserError(
      f"the runs were evaluated at different steps, so they do not compare: "
      f"{at}."
    )
  _check_protocols(protocols)
  keys = sorted({key for scores in columns.values() for key in scores})
  index = pd.MultiIndex.from_tuples(keys, names=["task", "metric"])
  # Objects: None was not measured, and nan was measured and is not a number.
  frame = pd.DataFrame(
    {n: [scores.get(key) for key in keys] for n, scores in columns.items()},
    index,
    dtype=object,
  )

  def add(row, values):
    frame.loc[row, :] = pd.Series(values, dtype=object)

  whole = {n: s for n, s in columns.items() if len(s) == len(keys)}
  for label in protocol.averages(dict.fromkeys(keys, 0.0)):
    averages = {n: protocol.averages(s)[label] for n, s in whole.items()}
    add((AVERAGE, label), {n: averages.get(n) for n in runs})
  sizes = {name: count_parameters(d) for name, d in runs.items()}
  add(PARAMETERS, {n: s[0] for n, s in sizes.items()})
  add(EMBEDDING_FREE, {n: s[1] for n, s in sizes.items()})
  add(STEP, steps)
  return frame


def _check_protocols(protocols: dict[str, dict[str, str]]) -> None:
  first, *others = protocols
  for name in others:
    one, other = protocols[first], protocols[name]
    if key := evaluation.difference(one, other):
      shown = [p.get(key, "not bound") for p in (one, other)]
      raise errors.UserError(
        f"{first} and {name} were evaluated in different ways, so they do not "
        f"compare: {key} is {shown[0]} and {shown[1]}."
      )


def not_numbers(frame: pd.DataFrame) -> list[str]:
  """A sentence for each score that was measured and is nan.

  Args:
    frame: from `table`.

  Returns:
    sentences that name the run
  """
  return [
    f"{run}: {metric} of {task} is nan, and so is the average: a model that "
    "gives one answer to every example, for instance, has no correlation."
    for run in frame.columns
    for (task, metric), value in frame[run].items()
    if task != AVERAGE and value is not None and math.isnan(value)
  ]


def to_text(frame: pd.DataFrame) -> pd.DataFrame:
  """The same table with every number as a person writes it."""
  whole = {PARAMETERS, EMBEDDING_FREE, STEP}
  text = frame.astype(object)
  for row in frame.index:
    for column in frame.columns:
      value = frame.at[row, column]
      if value is None:
        text.at[row, column] = "-"
      else:
        text.at[row, column] = f"{value:,.{0 if row in whole else 2}f}"
  return text.reset_index()


def to_markdown(frame: pd.DataFrame) -> str:
  """The table in Markdown, numbers to the right."""
  text = to_text(frame)
  return text.to_markdown(
    index=False,
    colalign=["left", "left"] + ["right"] * (len(text.columns) - 2),
    disable_numparse=True,
  )


def main(argv) -> None:
  """Prints the table.

  Args:
    argv: unused.
  """
  del argv
  runs = dict(r.split("=", 1) for r in FLAGS.runs or [] if "=" in r)
  if not runs or len(runs) != len(FLAGS.runs):
    raise errors.UserError(
      f"--runs={','.join(FLAGS.runs or [])} names no runs: give "
      "NAME=MODEL_DIR, separated by commas, each name once."
    )
  if FLAGS.output:
    files.check_output(FLAGS.output)
  frame = table(runs, FLAGS.split)
  console.say(to_text(frame).to_string(index=False))
  for sentence in not_numbers(frame):
    console.say(sentence)
  if FLAGS.output:
    files.write(FLAGS.output, to_markdown(frame) + "\n")
    console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_list(
    "runs", None, "Runs to compare, each NAME=MODEL_DIR, separated by commas."
  )
  flags.DEFINE_string("split", "validation", "The split evaluated on.")
  flags.DEFINE_string(
    "output", None, "Also write the table to this Markdown file."
  )


if __name__ == "__main__":
  define_flags()
  console.run(main)
