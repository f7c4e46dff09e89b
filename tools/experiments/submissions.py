"""Makes the files in the zips for the GLUE and SuperGLUE servers.

File names, labels and the order of rows are those of the servers. Each file is
made from t5's predictions for one task, and the official numbers of its test
examples.
"""

import ast
import dataclasses
import itertools
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
_STSB = "STS-B.tsv"
# The parts of an official number, in the order of the servers' files.
_NUMBERS = (
  "idx",
  *(
    f"idx/{p}" for p in ("passage", "query", "paragraph", "question", "answer")
  ),
)
_NO_LABEL = -1  # t5's mark for an answer that is not a label
# And t5's mark for one that is not a number.
_NO_NUMBER = postprocessors.string_to_float("")
_GREATEST = 5.0  # similarity of STS-B, from 0


@dataclasses.dataclass(frozen=True)
class Entry:
  """One file of a submission.

  Attributes:
    file: its name in the zip.
    data: the TFDS data set whose test split it answers, "glue/cola".
    task: the task of its predictions.
    labels: names of the classes, by number; () for a real number or a text.
    filler: the answer for missing predictions.
    optional: whether the filler is used without --fill: t5's mixture has no
      such task.
  """

  file: str
  data: str
  task: str
  labels: tuple = ()
  filler: str | int = ""
  optional: bool = False

  @property
  def rows(self) -> int:
    """Rows of the official test set."""
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
    numbers: the official numbers: (idx,), (passage, query) for ReCoRD,
      (paragraph, question, answer) for MultiRC.
    inputs: the model's inputs, as t5 writes them to a file.
  """

  numbers: list[tuple[int, ...]]
  inputs: list[str]


def test_set(task: str) -> TestSet:
  """Reads the test examples of a task."""
  with tf.Graph().as_default():
    dataset = task_text.untokenized(seqio.TaskRegistry.get(task), "test")
    examples = list(tfds.as_numpy(dataset))
  return TestSet(
    [tuple(int(e[key]) for key in _NUMBERS if key in e) for e in examples],
    [tf.compat.as_text(e["inputs"]).replace("\n", " ") for e in examples],
  )


def _numbered(entry: Entry, task: str) -> TestSet:
  """`test_set`, with a check that its numbers are the official ones."""
  found = test_set(task)
  if len(found.numbers) != entry.rows:
    raise errors.UserError(
      f"{entry.file} needs {entry.rows} rows, but the test split of {task} has "
      f"{len(found.numbers)} examples: prepare the complete official test set."
    )
  if len(set(found.numbers)) != entry.rows:
    raise errors.UserError(
      f"two examples of {task} have the same number, so the data set is not "
      "the official one."
    )
  absent = set(range(entry.rows)) - {number[-1] for number in found.numbers}
  if absent and entry.file != _MULTIRC:  # its answers restart
    raise errors.UserError(
      f"no example of {task} has the number {min(absent)}, but {entry.file} "
      f"needs the numbers 0 to {entry.rows - 1}: the data set is not the "
      "official one."
    )
  return found


def _check_inputs(predictions: decoded.Predictions, wanted: list[str]) -> None:
  """Checks that the decoded examples are the numbered ones."""
  path = predictions.inputs_path
  if not tf.io.gfile.exists(path):
    return
  inputs = decoded.read_lines(path, len(wanted))
  pairs = enumerate(itertools.zip_longest(inputs, wanted, fillvalue=""), 1)
  # Older evaluations wrote inputs as Python bytes literals.
  differ = (i for i, (a, b) in pairs if a not in (b, str(b.encode())))
  line = next(differ, None)
  if line:
    raise errors.UserError(
      f"{path}, line {line}: the decoded example is not the one in the test "
      f"split of {predictions.task} in this data folder: decode again, or give "
      "the --t5_tfds_data_dir that was decoded."
    )


def _answer(entry: Entry, line: str):
  """An answer in the server's format; None if it is not a label.

  Args:
    entry: the file that it is for.
    line: as t5 wrote it. For MultiRC and ReCoRD it is {"value": …}, except for
      ReCoRD before 2022.

  Raises:
    ValueError, SyntaxError, TypeError, KeyError, RecursionError: for a line
      that the task's postprocessor cannot have made.
  """
  value = ast.literal_eval(line)["value"] if line.startswith("{") else line
  if entry.labels:
    label = int(str(value))
    if not _NO_LABEL <= label < len(entry.labels):
      raise ValueError
    return None if label == _NO_LABEL else entry.labels[label]
  if entry.file == _STSB:
    number = float(str(value))
    if number == _NO_NUMBER or not math.isfinite(number):
      return None
    return f"{min(max(0.0, number), _GREATEST):.3f}"
  return str(value)


def answers(entry: Entry, lines: list[str], path: str = "") -> tuple[list, int]:
  """Answers in the server's format.

  Returns:
    (answers, how many were not a label and became the filler)

  Raises:
    UserError: for a line that is not a prediction of the task.
  """
  found = []
  for i, line in enumerate(lines, 1):
    try:
      found.append(_answer(entry, line))
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError):
      expected = "a text, or a dictionary with a value"
      if entry.labels:
        expected = f"a label from 0 to {len(entry.labels) - 1}, or {_NO_LABEL}"
      elif entry.file == _STSB:
        expected = "a number"
      raise errors.UserError(
        f"{path}, line {i}: {line[:40]!r} is not what t5 predicts for "
        f"{entry.file} ({expected}): decode the test split again."
      ) from None
  filled = [entry.filler if answer is None else answer for answer in found]
  return filled, found.count(None)


def file_text(entry: Entry, numbered: Iterable[tuple[tuple, object]]) -> str:
  """The contents of a file of (official number, answer), in any order."""
  numbered = sorted(numbered, key=lambda pair: pair[0])
  if entry.file.endswith(".tsv"):
    lines = [f"{index}\t{answer}" for (index,), answer in numbered]
    return "\n".join(["index\tprediction", *lines, ""])
  rows: list[dict] = [dict(idx=n[-1], label=answer) for n, answer in numbered]
  if entry.file == _MULTIRC:
    paragraphs: dict[int, dict[int, list[dict]]] = {}
    for ((paragraph, question, _), _), row in zip(numbered, rows, strict=True):
      questions = paragraphs.setdefault(paragraph, {})
      questions.setdefault(question, []).append(row)
    rows = [
      dict(
        idx=paragraph,
        passage=dict(
          questions=[dict(idx=q, answers=a) for q, a in questions.items()]
        ),
      )
      for paragraph, questions in paragraphs.items()
    ]
  return "".join(json.dumps(row) + "\n" for row in rows)


def needs_data(entry: Entry) -> bool:
  """Whether the numbers for a file of fillers are only in the data."""
  return entry.file == _MULTIRC  # paragraph, question, answer


def make_file(
  entry: Entry, predictions: decoded.Predictions | None
) -> tuple[str, dict]:
  """A file of a submission.

  Args:
    entry: which one.
    predictions: of its task; None for the same answer throughout.

  Returns:
    (contents, its record for submission.json)

  Raises:
    UserError: if the answers are not for the official test set.
  """
  record = dict(file=entry.file, task=entry.task, rows=entry.rows, step=None)
  record.update(filler=entry.filler, no_label=0)
  if predictions is None:
    numbers: list[tuple[int, ...]] = [(i,) for i in range(entry.rows)]
    if needs_data(entry):
      numbers = _numbered(entry, entry.task).numbers
    return file_text(entry, ((n, entry.filler) for n in numbers)), record
  found = _numbered(entry, predictions.task)
  lines = decoded.read_lines(predictions.path, entry.rows)
  if len(lines) != entry.rows:
    raise errors.UserError(
      f"{entry.file} needs {entry.rows} rows, but {predictions.path} has "
      f"{len(lines)} predictions: decode the complete official test set."
    )
  _check_inputs(predictions, found.inputs)
  filled, wrong = answers(entry, lines, predictions.path)
  record.update(task=predictions.task, step=predictions.step)
  record.update(filler=None, no_label=wrong)
  return file_text(entry, zip(found.numbers, filled, strict=True)), record
