"""A task over the user's own pairs in CSV or JSON lines, without Python.

A `.csv` file has a header with the columns `inputs` and `targets`; a line of a
`.jsonl` file is an object with these keys. Others are ignored. Files are UTF-8.
These gin bindings make the task:

    t5_tasks.table.define_table.name = "shout"
    t5_tasks.table.define_table.train = "train.csv"
    t5_tasks.table.define_table.validation = "dev.csv"
"""

import csv
import functools
import json
import os
from collections.abc import Sequence
from typing import Any, NoReturn

import gin
import numpy as np
import seqio
import tensorflow.compat.v2 as tf
from t5.data.tasks import DEFAULT_OUTPUT_FEATURES
from t5.evaluation import metrics as t5_metrics

from hypergrid_mtf import errors, text_files
from t5_tasks import plain_text

_WHERE = "t5_tasks.table.define_table"
_FEATURES = ("inputs", "targets")


def _read_file(path: str, who: str) -> list[tuple[str, str]]:
  """(inputs, targets) of each row; UserError names the file and the line."""

  def refuse(line: int, why: str) -> NoReturn:
    raise errors.UserError(
      f"{path}, line {line} ({who}): {why}; give CSV with a header, or one "
      "JSON object per line, with texts 'inputs' and 'targets'."
    )

  opened = tf.io.gfile.GFile if "://" in path else open
  lines = (
    raw.decode("utf-8-sig" if number == 1 else "utf-8")
    for number, raw in text_files.read_lines(path, who, opened)
  )
  table = csv.DictReader(lines, strict=True) if path.endswith(".csv") else None
  pairs: list[tuple[str, str]] = []
  try:
    for row in table or map(json.loads, lines):
      found = row if isinstance(row, dict) else {}
      pair: list[Any] = [found.get(key) for key in _FEATURES]
      if None in found or not all(isinstance(text, str) for text in pair):
        refuse(table.line_num if table else len(pairs) + 1, "a text is missing")
      pairs.append((pair[0], pair[1]))
  except tf.errors.OpError as e:
    reason = errors.sentence(e) or type(e).__name__
    raise errors.UserError(
      f"{path} ({who}) cannot be read: {reason}."
    ) from None
  except (csv.Error, json.JSONDecodeError, RecursionError) as e:
    refuse(table.line_num if table else len(pairs) + 1, errors.sentence(e))
  return pairs


class TableDataSource(seqio.FunctionDataSource):
  """Pairs of files, {"inputs": [], "targets": []} strings.

  A file is read only when its examples are needed, so a trained model can be
  opened without its training data.
  """

  def __init__(self, paths: dict[str, list[str]]):
    self._paths = paths
    super().__init__(self._read_dataset, splits=tuple(paths))

  @functools.cache  # noqa: B019  (a source lives as long as its task)
  def _pairs(self, split: str) -> list[tuple[str, str]]:
    where = f"{_WHERE}.{split}"
    pairs = [p for path in self._paths[split] for p in _read_file(path, where)]
    if not pairs:
      raise errors.UserError(
        f"{', '.join(self._paths[split])} ({where}) has no rows: give examples."
      )
    return pairs

  def _read_dataset(
    self, split: str, shuffle_files: bool, seed: int | None = None
  ) -> tf.data.Dataset:
    pairs = self._pairs(split)
    columns = dict(zip(_FEATURES, np.array(pairs, object).T, strict=True))
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    return dataset.shuffle(len(pairs), seed) if shuffle_files else dataset

  def num_input_examples(self, split: str) -> int:
    return len(self._pairs(split))

  def check_files(self, split: str) -> None:
    """Reads the files of a split; UserError names the file and the line."""
    self._pairs(split)


@gin.configurable(module="t5_tasks.table")
def define_table(
  name: str | None = None,
  train: str | Sequence[str] | None = None,
  validation: str | Sequence[str] | None = None,
  metrics: Sequence[str] = ("accuracy",),
) -> str | None:
  """Registers a task of the user's own pairs of inputs and targets.

  Args:
    name: of the task; replaces a task with that name. None: do nothing.
    train: a path ending in .csv or .jsonl, or a list of them.
    validation: the same, to evaluate on; None for none.
    metrics: names of functions of t5.evaluation.metrics.

  Returns:
    The name.

  Raises:
    UserError: no name, no files, an unknown metric.
  """
  if not plain_text.wants_task(_WHERE, name, train, validation):
    return None
  functions = [getattr(t5_metrics, metric, None) for metric in metrics]
  if None in functions:
    raise errors.UserError(
      f"{_WHERE}.metrics = {metrics!r}: {metrics[functions.index(None)]!r} is "
      "not a function of t5.evaluation.metrics, such as 'accuracy'."
    )
  paths = {"train": _list_paths(train, f"{_WHERE}.train")}
  if validation:
    paths["validation"] = _list_paths(validation, f"{_WHERE}.validation")
  seqio.TaskRegistry.remove(name)
  seqio.TaskRegistry.add(
    name,
    source=TableDataSource(paths),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.CacheDatasetPlaceholder(),
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=dict(DEFAULT_OUTPUT_FEATURES),
    metric_fns=functions,
  )
  return name


def _list_paths(given, where: str) -> list[str]:
  """One or several paths as a list of absolute ones."""
  paths = [given] if isinstance(given, str) else list(given or ())
  if not paths or not all(str(p).endswith((".csv", ".jsonl")) for p in paths):
    raise errors.UserError(
      f"{where} = {given!r}: give a file that ends in .csv or .jsonl, or a "
      "list of them."
    )
  return [
    path if "://" in path else os.path.abspath(os.path.expanduser(path))
    for path in paths
  ]
