"""Checks what t5's preprocessors and metrics assume about examples."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from hypergrid_mtf.errors import UserError
from tools.data import file_checks

# isort: split
# After our own package, which redirects TensorFlow's banner to the log.
import tensorflow as tf
import tensorflow_datasets as tfds
from t5.data import preprocessors

# JSON can encode half of a surrogate pair, UTF-8 cannot.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass
class ExampleChecks:
  """Checks the examples of one split.

  Attributes:
    config: the TFDS config.
    split: of the data set.
    path: the examples' file, for messages.
    lines: line of each row of a table, by TFDS's number; None if a row is a
      line, or a line has several rows.
    features: of the data set.
    where: the place that is being read, for messages.
  """

  config: str
  split: str
  path: str
  lines: Sequence[int] | None
  features: tfds.features.FeaturesDict
  where: str = "first row"

  def count(self, rows: Iterable[tuple[int | str, dict[str, Any]]]) -> int:
    """Checks all examples and returns their number.

    Raises:
      UserError: names the file and the line, or the idx.
    """
    keys = set()
    questions: dict[tuple[int, int], str] = {}
    hidden = None
    for key, example in self._read(rows):
      _check_type(self.features, example, "the row", self._fail)
      if key in keys:
        self._fail(f"the idx {key} occurs twice, expected once")
      keys.add(key)
      # ReCoRD has no labels; its hidden answers are empty.
      is_hidden = example.get("label") == -1 or not example.get("answers", [1])
      if is_hidden and not self.split.startswith("test"):
        self._fail("the label or the answers are missing")
      if hidden not in (None, is_hidden):
        self._fail(
          f"the row has {'no' if is_hidden else 'a'} label, unlike those "
          "before; expected labels in all rows of a test file or in none"
        )
      hidden = is_hidden
      if self.config == "multirc":
        at = (example["idx"]["paragraph"], example["idx"]["question"])
        if questions.setdefault(at, example["question"]) != example["question"]:
          self._fail(
            f"the question idx {at[1]} of the paragraph idx {at[0]} occurs "
            "twice, expected once"
          )
      if self.config == "record" and "" in example["entities"]:
        self._fail("an entity is outside the passage")
      # In training, t5 reads only rows with a true label.
      if self.config == "wsc.fixed" and (
        self.split != "train" or example["label"] == "True"
      ):
        _check_pronoun(example, self._fail)
    if not keys:
      raise UserError(f"{self.path}: the file has no rows for {self.split}.")
    return len(keys)

  def _read(
    self, rows: Iterable[tuple[int | str, dict[str, Any]]]
  ) -> Iterator[tuple[int | str, dict[str, Any]]]:
    iterator, row = iter(rows), 0
    is_flat = self.config not in ("multirc", "record")
    while True:
      if is_flat:
        self.where = f"line {self._line(row)}"
      try:
        key, example = next(iterator)
      except StopIteration:
        return
      except Exception as e:  # TFDS's reader may raise anything
        self._fail(_reason(e))
      row = int(key) if self.lines else row  # TFDS's row number
      self.where = f"line {self._line(row)}" if is_flat else f"idx {key}"
      yield key, example
      row += 1
      self.where = f"after idx {key}"

  def _line(self, row: int) -> int:
    if not self.lines:
      return row + 1
    return self.lines[min(row, len(self.lines) - 1)]

  def _fail(self, problem: str) -> NoReturn:
    raise UserError(f"{self.path}, {self.where}: {problem}.")


def _reason(error: Exception) -> str:
  if isinstance(error, KeyError):
    return f"the key {error} is missing"
  if isinstance(error, AssertionError | IndexError):
    return (
      "TFDS cannot read it, because its label is missing or unknown, or its "
      "spans are not in its text"
    )
  if isinstance(error, json.JSONDecodeError):
    return f"not valid JSON ({error.msg} at column {error.colno})"
  reason = (str(error) or type(error).__name__).splitlines()[0]
  return f"TFDS cannot read it ({reason})"


def _check_type(feature, value, name: str, fail) -> None:
  """Checks what TFDS's int32 and text features do not."""
  if isinstance(feature, tfds.features.FeaturesDict):
    for key, inner in feature.items():
      _check_type(inner, value[key], repr(key), fail)
  elif isinstance(feature, tfds.features.Sequence):
    for item in value:
      _check_type(feature.feature, item, name, fail)
  elif isinstance(feature, tfds.features.Text):
    if not isinstance(value, str):
      fail(f"{name} is {file_checks.shown(value)}, expected a string")
    if _SURROGATE.search(value):
      fail(f"{name} has half a character (a lone surrogate)")
  elif isinstance(feature, tfds.features.ClassLabel):
    names = [*feature.names, *range(-1, feature.num_classes)]
    if value not in names:
      fail(
        f"the label is {file_checks.shown(value)}, expected one of "
        f"{', '.join(feature.names)}"
      )
  elif feature.np_dtype == np.float32 and not (0 <= value <= 5 or value == -1):
    fail(f"the score is {value}, expected a number from 0 to 5")
  elif feature.np_dtype == np.int32 and not (
    isinstance(value, int)
    and not isinstance(value, bool)
    and abs(value) < 2**31
  ):
    fail(
      f"{name} is {file_checks.shown(value)}, expected a whole number (int32)"
    )


def _check_pronoun(example: dict[str, Any], fail) -> None:
  """Fails if t5's `wsc_simple` could not mark the word at an index."""
  words = example["text"].split(" ")
  at, pronoun = example["span2_index"], example["span2_text"]
  if not (pronoun.strip() and example["span1_text"].strip()):
    fail("a span is empty, expected a part of the text")
  # t5 replaces a word with a backslash by an X.
  if "\\" not in pronoun and (
    (0 < at < len(words) and words[at] == pronoun) or _t5_marks(example)
  ):
    return
  places = [str(i) for i, word in enumerate(words) if i and word == pronoun]
  fail(
    f"t5 cannot mark the pronoun {file_checks.shown(pronoun)} (span2) at "
    f"'span2_index' {at}: expected the place of exactly this word, which has "
    "no backslash and is not the first, among the words between blanks, "
    f"counted from 0 ({'it is ' + ' and '.join(places) if places else 'none'})"
  )


def _t5_marks(example: dict[str, Any]) -> bool:
  """Whether t5 accepts an example; two texts are hard-coded in t5."""
  row = {k: v for k, v in example.items() if k != "label"}
  dataset = preprocessors.wsc_simple(tf.data.Dataset.from_tensors(row))
  return bool(list(dataset.ignore_errors().as_numpy_iterator()))
