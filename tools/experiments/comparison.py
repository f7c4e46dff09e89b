"""The scores of runs side by side, task by task."""

import math

import pandas as pd

from hypergrid_mtf import errors
from hypergrid_mtf.run import console
from tools.experiments import evaluation, protocol, result

PARAMETERS = ("parameters", "total")
EMBEDDING_FREE = ("parameters", "beside the embedding")
STEP = ("step", "")


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
    add((protocol.AVERAGE, label), {n: averages.get(n) for n in runs})
  sizes = {name: result.count_parameters(d) for name, d in runs.items()}
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
    if task != protocol.AVERAGE and value is not None and math.isnan(value)
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
