"""What is in the zip files that the GLUE and SuperGLUE servers take.

File names, labels and the order of rows are the servers'. Each file is made
from the predictions of one task, as t5 wrote them, and the official numbers of
its test examples.
"""

import ast
import collections
import dataclasses
import io
import json
import math
from collections.abc import Iterable

import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds
from t5.data import postprocessors

from hypergrid_mtf import errors
from tools.data import local_files, task_text
from tools.experiments import decoded

_NLI = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")
_BITS = ("0", "1")
_TRUTH = ("false", "true")
_MULTIRC = "MultiRC.jsonl"
_NO_LABEL = -1  # t5's mark for an answer that is none of the labels
# And for one that is not a number.
_NO_NUMBER = postprocessors.string_to_float("")
_GREATEST = 5.0  # similarity of STS-B, from 0


@dataclasses.dataclass(frozen=True)
class Entry:
  """One file of a submission.

  Attributes:
    file: its name in the zip.
    data: the TFDS data set whose test split it answers, "glue/cola".
    task: whose predictions it holds.
    labels: what the classes are called, by number; () for a real number or a
      text.
    filler: the answer where there is none.
    optional: whether the filler needs no --fill: t5 has no such task in its
      mixture.
  """

  file: str
  data: str
  task: str
  labels: tuple = ()
  filler: str | int = ""
  optional: bool = False

  @property
  def rows(self) -> int:
    """Of the official test set."""
    return local_files.OFFICIAL_ROWS[self.data]["test"]


def _glue(file, name, labels, filler, optional=False):
  task = f"glue_{name}_v002"
  return Entry(f"{file}.tsv", f"glue/{name}", task, labels, filler, optional)


def _super(file, name, labels, filler):
  return Entry(
    f"{file}.jsonl",
    f"super_glue/{name}",
    f"super_glue_{name}_v102",
    labels,
    filler,
  )


BENCHMARKS = {
  "GLUE": (
    _glue("CoLA", "cola", _BITS, "1"),
    _glue("SST-2", "sst2", _BITS, "1"),
    _glue("MRPC", "mrpc", _BITS, "1"),
    _glue("STS-B", "stsb", (), "2.500"),
    _glue("QQP", "qqp", _BITS, "0"),
    _glue("MNLI-m", "mnli_matched", _NLI, "entailment"),
    _glue("MNLI-mm", "mnli_mismatched", _NLI, "entailment"),
    _glue("QNLI", "qnli", _TWO_WAY, "entailment"),
    _glue("RTE", "rte", _TWO_WAY, "entailment"),
    _glue("WNLI", "wnli", _BITS, "0", optional=True),
    _glue("AX", "ax", _NLI, "entailment"),
  ),
  "SuperGLUE": (
    _super("BoolQ", "boolq", _TRUTH, "true"),
    _super("CB", "cb", ("entailment", "contradiction", "neutral"), "neutral"),
    _super("COPA", "copa", (0, 1), 0),
    _super("MultiRC", "multirc", (0, 1), 0),
    _super("ReCoRD", "record", (), ""),
    _super("RTE", "rte", _TWO_WAY, "entailment"),
    _super("WiC", "wic", _TRUTH, "true"),
    Entry(
      "WSC.jsonl",
      "super_glue/wsc.fixed",
      "super_glue_wsc_v102_simple_eval",
      ("False", "True"),
      "False",
    ),
    _super("AX-b", "axb", _TWO_WAY, "entailment"),
    _super("AX-g", "axg", _TWO_WAY, "entailment"),
  ),
}


@dataclasses.dataclass(frozen=True)
class TestSet:
  """The test examples of a task, in the order of decoding.

  Attributes:
    numbers: the official ones, (idx,), (passage, query) of ReCoRD or
      (paragraph, question, answer) of MultiRC.
    inputs: what the model reads, as t5 writes it into a file of inputs.
  """

  numbers: list[tuple[int, ...]]
  inputs: list[str]


def test_set(task: str) -> TestSet:
  """Reads the test examples of a task.

  Args:
    task: a registered task with a test split whose data are on disk.
  """
  numbers, inputs = [], []
  with tf.Graph().as_default():
    dataset = task_text.untokenized(seqio.TaskRegistry.get(task), "test")
    for example in tfds.as_numpy(dataset):
      keys = sorted(k for k in example if k == "idx" or k.startswith("idx/"))
      if keys == ["idx/passage", "idx/query"]:
        order = keys
      elif len(keys) == 3:
        order = ["idx/paragraph", "idx/question", "idx/answer"]
      else:
        order = ["idx"]
      numbers.append(tuple(int(example[k]) for k in order))
      inputs.append(str(example["inputs"]).replace("\n", " "))
  return TestSet(numbers, inputs)


def _check_numbers(entry: Entry, task: str, found: TestSet) -> None:
  """Checks that the data are the official ones, as far as numbers show it."""
  numbers = found.numbers
  if len(numbers) != entry.rows:
    raise errors.UserError(
      f"{entry.file} needs {entry.rows} rows, and the test split of {task} has "
      f"{len(numbers)} examples: prepare the whole official test set."
    )
  if len(set(numbers)) != len(numbers):
    raise errors.UserError(
      f"two examples of {task} have one number, so the data set is not the "
      "official one."
    )
  absent = set(range(entry.rows)) - {number[-1] for number in numbers}
  if absent and entry.file != _MULTIRC:  # its answers start again
    raise errors.UserError(
      f"no example of {task} has the number {min(absent)}, and {entry.file} "
      f"has the numbers 0 to {entry.rows - 1}: the data set is not the "
      "official one."
    )


def _check_inputs(predictions: decoded.Predictions, found: TestSet) -> None:
  """Checks that what was decoded are the examples that are numbered."""
  inputs = predictions.inputs(len(found.inputs))
  if inputs is None or inputs == found.inputs:
    return
  line = next(
    (
      i
      for i, (a, b) in enumerate(zip(inputs, found.inputs, strict=False), 1)
      if a != b
    ),
    min(len(inputs), len(found.inputs)) + 1,
  )
  raise errors.UserError(
    f"{predictions.inputs_path}, line {line}: what was decoded is not the test "
    f"split of {predictions.task} in this data folder, in this order: decode "
    "it again, or give the --t5_tfds_data_dir that was decoded."
  )


def _value(line: str):
  """What a prediction is: MultiRC's and ReCoRD's is a {"value": …} of t5's.

  Args:
    line: as t5 wrote it.

  Returns:
    the value; the line itself where it is not a dictionary (ReCoRD before 2022)

  Raises:
    ValueError: for a dictionary that was cut or is of another kind.
  """
  if not line.startswith("{"):
    return line
  try:
    return ast.literal_eval(line)["value"]
  except (SyntaxError, TypeError, KeyError, ValueError, RecursionError):
    raise ValueError from None


def _answer(entry: Entry, line: str):
  """An answer as the server writes it; None for one that is not a label.

  Raises:
    ValueError: for a line that the task's postprocessor cannot have made.
  """
  value = _value(line)
  if entry.labels:
    label = int(str(value))
    if label == _NO_LABEL:
      return None
    if not 0 <= label < len(entry.labels):
      raise ValueError
    return entry.labels[label]
  if entry.file == "STS-B.tsv":
    number = float(str(value))
    if number == _NO_NUMBER or not math.isfinite(number):
      return None
    return f"{min(max(0.0, number), _GREATEST):.3f}"
  return str(value)


def answers(entry: Entry, lines: list[str], path: str = "") -> tuple[list, int]:
  """Answers as the server writes them.

  Args:
    entry: which file they are for.
    lines: t5's predictions.
    path: of their file, for messages.

  Returns:
    (answers, how many were no label and became the filler)

  Raises:
    UserError: for a line that is not a prediction of the task.
  """
  found, wrong = [], 0
  for i, line in enumerate(lines, 1):
    try:
      answer = _answer(entry, line)
    except ValueError:
      raise errors.UserError(
        f"{path}, line {i}: {line[:40]!r} is not what t5 predicts for "
        f"{entry.file} ({_expected(entry)}): decode the test split again."
      ) from None
    wrong += answer is None
    found.append(entry.filler if answer is None else answer)
  return found, wrong


def _expected(entry: Entry) -> str:
  if entry.labels:
    return f"a label from 0 to {len(entry.labels) - 1}, or {_NO_LABEL}"
  if entry.file == "STS-B.tsv":
    return "a number"
  return "a text, or a dictionary with a value"


def file_text(entry: Entry, numbered: Iterable[tuple[tuple, object]]) -> str:
  """The contents of one file.

  Args:
    entry: which one.
    numbered: (official number, answer), in any order.

  Returns:
    text
  """
  numbered = sorted(numbered, key=lambda pair: pair[0])
  out = io.StringIO()
  if entry.file.endswith(".tsv"):
    out.write("index\tprediction\n")
    for (index,), answer in numbered:
      out.write(f"{index}\t{answer}\n")
  elif entry.file == _MULTIRC:
    paragraphs: dict[int, dict[int, list[dict]]] = collections.defaultdict(
      lambda: collections.defaultdict(list)
    )
    for (paragraph, question, answer), label in numbered:
      paragraphs[paragraph][question].append(dict(idx=answer, label=label))
    for paragraph, questions in paragraphs.items():
      passage = [dict(idx=q, answers=a) for q, a in questions.items()]
      row = dict(idx=paragraph, passage=dict(questions=passage))
      out.write(json.dumps(row) + "\n")
  else:
    for number, answer in numbered:
      out.write(json.dumps(dict(idx=number[-1], label=answer)) + "\n")
  return out.getvalue()


@dataclasses.dataclass(frozen=True)
class File:
  """One file of a submission.

  Attributes:
    entry: which one.
    text: its contents.
    predictions: that it was made from; None for a file of fillers.
    no_label: how many answers were not a label and became the filler.
  """

  entry: Entry
  text: str
  predictions: decoded.Predictions | None = None
  no_label: int = 0

  def record(self) -> dict:
    """What submission.json says of it."""
    made_from = self.predictions
    return dict(
      file=self.entry.file,
      task=made_from.task if made_from else self.entry.task,
      rows=self.entry.rows,
      step=made_from.step if made_from else None,
      filler=None if made_from else self.entry.filler,
      no_label=self.no_label,
    )


def make_file(entry: Entry, predictions: decoded.Predictions) -> File:
  """A file of what was decoded.

  Args:
    entry: which one.
    predictions: of its task.

  Raises:
    UserError: if the answers are not those of the official test set.
  """
  found = test_set(predictions.task)
  _check_numbers(entry, predictions.task, found)
  lines = predictions.lines(entry.rows)
  if len(lines) != entry.rows:
    raise errors.UserError(
      f"{entry.file} needs {entry.rows} rows, and {predictions.path} has "
      f"{len(lines)} predictions: decode the whole official test set."
    )
  _check_inputs(predictions, found)
  texts, wrong = answers(entry, lines, predictions.path)
  numbered = list(zip(found.numbers, texts, strict=True))
  return File(entry, file_text(entry, numbered), predictions, wrong)


def needs_data(entry: Entry) -> bool:
  """Whether a file of fillers is numbered by what only the data say."""
  return entry.file == _MULTIRC  # paragraph, question, answer


def make_filler(entry: Entry) -> File:
  """A file of one answer throughout, for what was not decoded.

  Args:
    entry: which one; its data are on disk if it `needs_data`.

  Raises:
    UserError: if those are not the official test set.
  """
  numbers: list[tuple[int, ...]] = [(i,) for i in range(entry.rows)]
  if needs_data(entry):
    found = test_set(entry.task)
    _check_numbers(entry, entry.task, found)
    numbers = found.numbers
  numbered = [(number, entry.filler) for number in numbers]
  return File(entry, file_text(entry, numbered))
