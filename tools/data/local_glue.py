"""Reads the GLUE download into the examples of the TFDS data set `glue`.

Field names, label ids and `idx` (the row's number in its file, from 0) are
those of `tensorflow_datasets/text/glue.py`; the tests hold both readers against
each other.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tools.data import local_text

VERSION = "1.0.0"

Example = dict[str, Any]
# Line number, TFDS key, example.
Row = tuple[int, int | str, Example]

# The original QQP download has rows whose question holds a line break; they are
# cut in two, TFDS passes over both halves, and so does this reader. A file with
# more broken rows than this is not that download.
_QQP_BROKEN_ROWS = 200

# The columns by which the test files number their rows.
_NUMBERS = ("index", "id")

_COLA_COLUMNS = ("source", "is_acceptable", "original_mark", "sentence")
_COLA_TEST_COLUMNS = ("index", "sentence")


@dataclasses.dataclass(frozen=True)
class Config:
  """How a TFDS config of GLUE lies in its files.

  Attributes:
    folder: names of its folder, compared without case and punctuation.
    text: column names in the file by text feature, the first that is there.
    label: the label's column; None: there are no labels.
    classes: label names in the order of their ids; empty: a score from 0 to 5.
    files: file names by split.
  """

  folder: tuple[str, ...]
  text: Mapping[str, tuple[str, ...]]
  label: str | None
  classes: tuple[str, ...]
  files: Mapping[str, str] = dataclasses.field(
    default_factory=lambda: {
      "train": "train.tsv",
      "validation": "dev.tsv",
      "test": "test.tsv",
    }
  )


def _same(*names: str) -> dict[str, tuple[str, ...]]:
  return {name: (name,) for name in names}


_PREMISE_HYPOTHESIS = {"premise": ("sentence1",), "hypothesis": ("sentence2",)}
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")


def _mnli(files: Mapping[str, str]) -> Config:
  return Config(("mnli",), _PREMISE_HYPOTHESIS, "gold_label", _NLI, files)


def _mnli_one_genre(which: str) -> Config:
  return _mnli({"validation": f"dev_{which}.tsv", "test": f"test_{which}.tsv"})


CONFIGS: dict[str, Config] = {
  "cola": Config(
    ("cola",),
    _same("sentence"),
    "is_acceptable",
    ("unacceptable", "acceptable"),
  ),
  "sst2": Config(
    ("sst2",), _same("sentence"), "label", ("negative", "positive")
  ),
  "mrpc": Config(
    ("mrpc",),
    {"sentence1": ("#1 String",), "sentence2": ("#2 String",)},
    "Quality",
    ("not_equivalent", "equivalent"),
  ),
  "qqp": Config(
    ("qqp",),
    _same("question1", "question2"),
    "is_duplicate",
    ("not_duplicate", "duplicate"),
  ),
  "stsb": Config(("stsb",), _same("sentence1", "sentence2"), "score", ()),
  "mnli": _mnli(
    {
      "train": "train.tsv",
      "validation_matched": "dev_matched.tsv",
      "validation_mismatched": "dev_mismatched.tsv",
      "test_matched": "test_matched.tsv",
      "test_mismatched": "test_mismatched.tsv",
    }
  ),
  "mnli_mismatched": _mnli_one_genre("mismatched"),
  "mnli_matched": _mnli_one_genre("matched"),
  "qnli": Config(
    ("qnli", "qnliv2"), _same("question", "sentence"), "label", _ENTAILMENT
  ),
  "rte": Config(
    ("rte",), _same("sentence1", "sentence2"), "label", _ENTAILMENT
  ),
  "wnli": Config(
    ("wnli",), _same("sentence1", "sentence2"), "label", _ENTAILMENT[::-1]
  ),
  # The diagnostic is unlabelled in TFDS, also where the file has the labels.
  "ax": Config(
    ("ax", "diagnostic", "diagnostics", "glueax"),
    {
      "premise": ("sentence1", "Premise"),
      "hypothesis": ("sentence2", "Hypothesis"),
    },
    None,
    _NLI,
    {"test": "diagnostic.tsv"},
  ),
}

_AX_FILES = ("diagnostic.tsv", "ax.tsv", "diagnostic-full.tsv")
_MRPC_TRAIN = "msr_paraphrase_train.txt"
_MRPC_TEST = "msr_paraphrase_test.txt"
_MRPC_DEV_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")


def find_files(config: str, folder: str) -> dict[str, str | None]:
  """The file of each split of a config, None where it is missing.

  MRPC is taken in its original form, as by TFDS, where that is whole (train and
  dev_ids), else in the form that the GLUE download script makes of it.
  """
  there = local_text.files_of(folder)
  files = {
    split: there.get(name.casefold())
    for split, name in CONFIGS[config].files.items()
  }
  if config == "ax":
    files["test"] = next((there[n] for n in _AX_FILES if n in there), None)
  if config == "mrpc" and _MRPC_TRAIN in there and _dev_ids_file(there):
    files["train"] = files["validation"] = there[_MRPC_TRAIN]
    files["test"] = there.get(_MRPC_TEST, files["test"])
  elif config == "mrpc":
    files["test"] = files["test"] or there.get(_MRPC_TEST)
  return files


def why_missing(config: str, folder: str) -> str | None:
  """What a split without a file may be missing for, or None.

  Args:
    config: a key of CONFIGS.
    folder: where its files are.
  """
  there = local_text.files_of(folder)
  if config == "mrpc" and _MRPC_TRAIN in there and not _dev_ids_file(there):
    return (
      f"{_MRPC_DEV_IDS[0]} is missing beside {_MRPC_TRAIN}; it says which of "
      "its rows are for validation"
    )
  return None


def _dev_ids_file(there: Mapping[str, str]) -> str | None:
  return next((there[n] for n in _MRPC_DEV_IDS if n in there), None)


def read_split(
  config: str,
  split: str,
  path: str,
  folder: str,
  note: Callable[[str], None] | None = None,
) -> Iterator[Row]:
  """Yields line number, key and example of one split, in the file's order.

  Args:
    config: a key of CONFIGS.
    split: of that config.
    path: the split's file, from `find_files`.
    folder: where the files are.
    note: takes a sentence about rows that are left out.

  Raises:
    UserError: names the file and line of a row that is not right.
  """
  spec = CONFIGS[config]
  is_test = split.startswith("test")
  is_wanted = _mrpc_filter(path, split, folder) if config == "mrpc" else None
  # TFDS hides the labels that the original MRPC test file has.
  label = None if config == "mrpc" and is_test else spec.label

  columns, count = None, 0
  names = _names_without_header(config, path, is_test)
  broken = []
  odd = local_text.Oddities(path)
  rows = local_text.read_table(
    path,
    names=names,
    broken_rows=_QQP_BROKEN_ROWS if config == "qqp" else 0,
  )
  for idx, (line, row) in enumerate(rows):
    if row is None:
      broken.append(line)
      continue
    if columns is None:
      columns = {
        feature: _column(path, row, aliases)
        for feature, aliases in spec.text.items()
      }
      if label and not is_test:
        _column(path, row, (label,))
    if is_wanted and not is_wanted(row):
      continue
    example: Example = {f: row[column] for f, column in columns.items()}
    example["label"] = _label(
      row.get(label) if label else None, spec, path, line, is_test
    )
    example["idx"] = idx
    count += 1
    _note_odd(odd, line, row, example, is_test)
    yield line, idx, example
  odd.say(note)
  if not count:
    ids = _dev_ids_file(local_text.files_of(folder)) if is_wanted else None
    which = f" by the ids of {ids}" if ids else ""
    local_text.fail(path, None, f"the file has no rows for {split}{which}")
  if broken and note:
    note(
      f"{path}: {len(broken)} rows that a line break cuts in two are left out, "
      f"as TFDS does (first: line {broken[0]})"
    )


def _note_odd(
  odd: local_text.Oddities,
  line: int,
  row: Mapping[str, str],
  example: Example,
  is_test: bool,
) -> None:
  """Counts what t5 reads all the same."""
  for feature, text in example.items():
    if isinstance(text, str) and not text.strip():
      odd.add(line, f"have an empty {feature!r}")
  if is_test:
    number = next((row[c] for c in _NUMBERS if c in row), None)
    if number not in (None, str(example["idx"])):
      odd.add(
        line,
        "are not numbered by their place from 0, as a submission numbers them",
      )


def _names_without_header(
  config: str, path: str, is_test: bool
) -> tuple[str, ...] | None:
  """Column names where the file gives none: only CoLA's official files."""
  if config != "cola":
    return None
  names = _COLA_TEST_COLUMNS if is_test else _COLA_COLUMNS
  columns = ("sentence",) if is_test else ("sentence", "is_acceptable")
  if local_text.is_header(path, columns):
    return None
  if is_test and not local_text.first_cell(path).isdigit():
    return None  # A header row of other names, which is said so.
  return names


def _column(path: str, row: Mapping[str, str], names: tuple[str, ...]) -> str:
  for name in names:
    if name in row:
      return name
  local_text.fail(
    path,
    1,
    f"no column {' or '.join(map(repr, names))} in the header row "
    f"({local_text.shown(', '.join(row))})",
  )


def _label(
  cell: str | None, spec: Config, path: str, line: int, is_test: bool
) -> int | np.float32:
  """The label's id or score; -1 where a test file gives none, as in TFDS."""
  if cell is None or (is_test and cell in ("", "-1")):
    return -1 if spec.classes else np.float32(-1)
  if not spec.classes:
    try:
      score = float(cell)
    except ValueError:
      score = float("nan")
    if not 0 <= score <= 5:
      local_text.fail(
        path,
        line,
        f"the score is {local_text.shown(cell)}, expected a number from 0 to 5",
      )
    return np.float32(score)
  if cell in spec.classes:
    return spec.classes.index(cell)
  ids = [str(i) for i in range(len(spec.classes))]
  if cell in ids:
    return int(cell)
  local_text.fail(
    path,
    line,
    f"the label is {local_text.shown(cell)}, expected one of "
    f"{', '.join((*spec.classes, *ids))}",
  )


def _mrpc_filter(
  path: str, split: str, folder: str
) -> Callable[[Mapping[str, str]], bool] | None:
  """Which rows of the original MRPC training file belong to the split."""
  there = local_text.files_of(folder)
  ids_path = _dev_ids_file(there)
  if ids_path is None or path != there.get(_MRPC_TRAIN):
    return None
  names = ("#1 ID", "#2 ID")
  dev_ids = {
    tuple(row.values())
    for _, row in local_text.read_table(ids_path, names=names)
    if row is not None
  }

  def is_wanted(row: Mapping[str, str]) -> bool:
    ids = tuple(row[_column(path, row, (name,))] for name in names)
    return (ids in dev_ids) == (split == "validation")

  return is_wanted
