"""The inputs of a task from its fields, as its own preprocessors make them.

t5's tasks turn the fields of a data set ("sentence1", "sentence2") into a text
("rte sentence1: … sentence2: …") before they tokenize. A new example takes the
same way: what a served model is asked is what it was trained on.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from t5.data import preprocessors

from hypergrid_mtf import errors
from t5_tasks import embedded, mixtures, task_tokens

_TEXT = "text"  # the field of a task that has no other


@dataclasses.dataclass(frozen=True)
class TaskFields:
  """How a task makes its inputs.

  Attributes:
    task: its registered name.
    fields: that an example has, in alphabetical order; empty where they cannot
      be told, and whole inputs are to be given.
    prefix: the inputs begin with it.
    labels: what it answers; empty for free text.
  """

  task: str
  fields: tuple[str, ...] = ()
  prefix: str = ""
  labels: tuple[str, ...] = ()

  def inputs(self, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The inputs of some examples.

    Args:
      rows: {field: text} of each.

    Returns:
      a text for each
    """
    if self.fields == (_TEXT,):
      return [self.prefix + row[_TEXT] for row in rows]
    if not rows:
      return []
    columns: dict = {f: [row[f] for row in rows] for f in self.fields}
    is_number = not self.labels
    columns["label"] = [0.0 if is_number else -1] * len(rows)
    count = list(range(len(rows)))
    columns["idx"] = dict.fromkeys(("paragraph", "question", "answer"), count)
    if "multirc" not in self.task:
      columns["idx"] = count
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    for step in seqio.TaskRegistry.get(self.task).preprocessors:
      if _function(step) is seqio.preprocessors.tokenize:
        break
      dataset = step(dataset)
    token = _token(self.task)
    return [
      token + example["inputs"].decode()
      for example in dataset.as_numpy_iterator()
    ]


def _function(step):
  return getattr(step, "func", step)


def _token(task: str) -> str:
  """The reserved token in front of inputs, as a served model reads it."""
  if not task.endswith(mixtures.TASK_TOKEN_SUFFIX):
    return ""
  return f"<extra_id_{task_tokens.token_index(task)}>"


def of_task(task: seqio.Task) -> TaskFields:
  """What is known of the inputs of a task.

  Args:
    task: registered.

  Returns:
    a TaskFields; without fields for a task that is not one of t5's
    classifications of texts, nor an embedded one
  """
  name, token = task.name, _token(task.name)
  base = mixtures.base_name(name)
  for function in embedded.FUNCTIONS:
    if base == embedded.task_name(function):
      return TaskFields(name, (_TEXT,), f"{token}{function}: ")
  step = task.preprocessors[0]
  fields = _text_features(task)
  if _function(step) is preprocessors.stsb:
    return TaskFields(name, fields, f"{token}stsb sentence1: ")
  if _function(step) is not preprocessors.glue or not fields:
    return TaskFields(name, prefix=token)
  given = step.keywords if isinstance(step, functools.partial) else {}
  first = (given.get("feature_names") or fields)[0]
  return TaskFields(
    task=name,
    fields=tuple(sorted(given.get("feature_names") or fields)),
    prefix=f"{token}{given['benchmark_name']} {first}: ",
    labels=tuple(given["label_names"]),
  )


def _text_features(task: seqio.Task) -> tuple[str, ...]:
  """The fields of one of TFDS's benchmarks, in alphabetical order."""
  if not isinstance(task.source, seqio.TfdsDataSource):
    return ()
  benchmark, _, config = (task.source.tfds_dataset.name or "").partition("/")
  config = config.partition(":")[0]
  if benchmark == "glue":
    found = tfds.text.glue.Glue.builder_configs[config].text_features
  elif benchmark == "super_glue":
    found = tfds.text.super_glue.SuperGlue.builder_configs[config].features
  else:
    return ()
  return tuple(sorted(found))


def choose(name: str, known: Collection[str]) -> TaskFields:
  """The task that a short name means.

  Args:
    name: a registered name, or a part of it between underscores ("rte").
    known: registered names that a model was trained on.

  Returns:
    a TaskFields with fields

  Raises:
    UserError: for none or several, or one whose fields cannot be told.
  """
  found = [n for n in known if n == name]
  found = found or [n for n in known if name and f"_{name}_" in f"_{n}_"]
  if len(found) != 1:
    what = "is several tasks" if found else "is not a task"
    raise errors.UserError(
      f"--task={name} {what} of this model: choose from "
      f"{', '.join(sorted(found or known))}."
    )
  if found[0] not in seqio.TaskRegistry.names():
    raise errors.UserError(
      f"--task={name}: the task {found[0]} of this model is not registered "
      "here: give --module_import=MODULE with the module that defines it."
    )
  task = of_task(seqio.TaskRegistry.get(found[0]))
  if not task.fields:
    raise errors.UserError(
      f"--task={name}: the fields of {found[0]} are not known, so give whole "
      "inputs, with their prefix, and leave out --task."
    )
  return task
