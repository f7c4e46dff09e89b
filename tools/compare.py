r"""Compares runs, task by task, from the files that their evaluation wrote.

  python -m tools.compare --runs=vanilla=DIR,L2=DIR --output=table.md

Reads the `eval` summaries of each model_dir at its last evaluated step, never
the model. Averages are T5's, by the groups of t5.evaluation.eval_utils: the
metrics of a task first (MNLI's two sets are one task), then the tasks of a
benchmark; a benchmark that is not whole says how much of it there is.
"""

import os
import re

import pandas as pd
import tensorflow.compat.v1 as tf
from absl import flags
from t5.evaluation import eval_utils

from hypergrid_mtf import errors
from hypergrid_mtf.launch import console, files
from tools.experiments import protocol

FLAGS = flags.FLAGS

PARAMETERS = ("parameters", "total")
EMBEDDING_FREE = ("parameters", "beside the embedding")
STEP = ("step", "")
AVERAGE = "average"


def eval_folder(model_dir: str, split: str) -> str:
  """Where t5 wrote the evaluation of a split.

  Args:
    model_dir: of a run.
    split: the split it was evaluated on.

  Returns:
    the folder

  Raises:
    UserError: if there is no evaluation.
  """
  folder = os.path.join(model_dir, f"{split}_eval")
  if not tf.io.gfile.exists(folder):
    raise errors.UserError(
      f"{model_dir} holds no evaluation of the {split} split ({folder} does "
      "not exist): run hypergrid_mtf.main on it with "
      "--gin_file=experiments/local_eval.gin first."
    )
  return folder


def eval_scores(model_dir: str, split: str = "validation"):
  """Metrics of the last evaluated step.

  Args:
    model_dir: of a run that was evaluated.
    split: the split it was evaluated on.

  Returns:
    (step, {(task, metric): value})

  Raises:
    UserError: if there is no evaluation.
  """
  folder = eval_folder(model_dir, split)
  events = eval_utils.get_eval_metric_values(
    eval_utils.parse_events_files(folder)
  )
  if not events:
    raise errors.UserError(f"{folder} holds no metrics of an evaluation.")
  step = max(step for values in events.values() for step, _ in values)
  scores = {}
  for tag, values in events.items():
    task, metric = tag.rsplit("/", 1)
    for at, value in values:
      if at == step:
        scores[task, metric] = value
  return step, scores


def count_parameters(model_dir: str) -> tuple[int, int]:
  """Parameters of the last checkpoint, the optimizer's slots aside.

  Args:
    model_dir: of a run that was trained.

  Returns:
    (all of them, those beside the embedding)
  """
  path = tf.train.latest_checkpoint(model_dir)
  if path is None:
    raise errors.UserError(f"{model_dir} holds no checkpoint.")
  total = embedding = 0
  for name, shape in tf.train.list_variables(path):
    if re.search(r"_slot_\w+$", name) or name == "global_step":
      continue
    size = 1
    for dim in shape:
      size *= dim
    total += size
    embedding += size if name == "shared/embedding" else 0
  return total, total - embedding


def table(runs: dict[str, str], split: str = "validation") -> pd.DataFrame:
  """One column a run; rows: metrics of each task, average, parameters, step.

  Args:
    runs: {name: model_dir}
    split: the split evaluated on.

  Returns:
    a DataFrame; a metric that a run lacks is NaN, and so is its average.

  Raises:
    UserError: if the runs were evaluated at different steps.
  """
  columns, steps = {}, {}
  for name, model_dir in runs.items():
    steps[name], scores = eval_scores(model_dir, split)
    columns[name] = scores
  if len(set(steps.values())) > 1:
    at = ", ".join(f"{name} at {step}" for name, step in steps.items())
    raise errors.UserError(
      f"the runs were evaluated at different steps, so they do not compare: "
      f"{at}."
    )
  frame = pd.DataFrame(columns).sort_index()
  whole = {n: s for n, s in columns.items() if len(s) == len(frame)}
  for label in protocol.averages(dict.fromkeys(frame.index, 0.0)):
    frame.loc[(AVERAGE, label), :] = pd.Series(
      {
        n: protocol.averages(whole[n])[label] if n in whole else float("nan")
        for n in runs
      }
    )
  sizes = {name: count_parameters(d) for name, d in runs.items()}
  frame.loc[PARAMETERS, :] = pd.Series({n: s[0] for n, s in sizes.items()})
  frame.loc[EMBEDDING_FREE, :] = pd.Series({n: s[1] for n, s in sizes.items()})
  frame.loc[STEP, :] = pd.Series(steps)
  frame.index.names = ["task", "metric"]
  return frame


def to_text(frame: pd.DataFrame) -> pd.DataFrame:
  """The same table with every number as a person writes it."""
  whole = {PARAMETERS, EMBEDDING_FREE, STEP}
  text = frame.astype(object)
  for row in frame.index:
    for column in frame.columns:
      value = frame.at[row, column]
      if pd.isna(value):
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
