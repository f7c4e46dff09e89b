"""Checks benchmark files for errors that TFDS's readers silently ignore.

They drop rows with too few columns, cut those with too many, and treat any
label of COPA and MultiRC as true.
"""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from hypergrid_mtf import text_files
from hypergrid_mtf.errors import UserError

# The original QQP download has questions with line breaks, which cut their rows
# in two; TFDS drops both halves. A file with more such rows than this is not
# the original.
_BROKEN_ROWS = 200
_QUOTED = re.compile(r'"([^"]|"")*"')


def fail(path: str, line: int | None, problem: str) -> NoReturn:
  """Raises UserError about a line of a file, or about all of it."""
  where = path if line is None else f"{path}, line {line}"
  raise UserError(f"{where}: {problem}.")


def shown(value: Any) -> str:
  """A value for a message, short and on one line."""
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "..."


def read_lines(path: str) -> Iterator[tuple[int, str]]:
  """Yields (line number, text), with TFDS's line ends.

  Raises:
    UserError: the file cannot be read, or is not UTF-8 text.
  """
  try:
    with open(path, "rb") as f:
      for number, raw in enumerate(f, 1):
        if problem := text_files.problem(raw, number == 1):
          fail(path, number, problem)
    with open(path, encoding="utf-8") as f:
      for number, text in enumerate(f, 1):
        yield number, text.removesuffix("\n")
  except OSError as e:
    fail(path, None, f"cannot be read ({e.strerror or e})")


def check_table(
  path: str,
  config: Any,
  columns: list[str] | None,
  is_test: bool,
  may_break: bool,
) -> tuple[list[int], list[str]]:
  """Checks a tab-separated file of GLUE.

  Args:
    path: the file.
    config: a TFDS GlueConfig with its columns.
    columns: column names of a file without a header row; None if the first line
      has them.
    is_test: whether the rows may have no label.
    may_break: whether some rows may have too few columns.

  Returns:
    The line of each of TFDS's rows; a sentence about the rows that it drops, if
    any.

  Raises:
    UserError: names the file and the line.
  """
  has_header = columns is None
  rows: list[int] = []
  broken: list[int] = []
  quoted, genuine = None, False
  for line, text in read_lines(path):
    cells = text.split("\t")
    if columns is None:
      columns = cells
      _check_header(path, config, columns, is_test)
      continue
    if has_header and not text:  # TFDS ignores it.
      continue
    rows.append(line)
    if len(cells) < len(columns) and may_break and len(broken) < _BROKEN_ROWS:
      broken.append(line)
      continue
    if len(cells) < len(columns) or "".join(cells[len(columns) :]).strip():
      fail(
        path,
        line,
        f"{len(cells)} tab-separated columns, expected {len(columns)}",
      )
    labelled = config.label_column in columns
    if labelled and not cells[columns.index(config.label_column)]:
      fail(path, line, "the label is ''; TFDS would drop the row")
    # Programs that quote a table quote every cell that contains a quote.
    for cell in cells:
      if '"' in cell and not _QUOTED.fullmatch(cell):
        genuine = True
      elif '""' in cell[1:-1] and not quoted:
        quoted = (line, cell)
  if quoted and not genuine:
    fail(
      path,
      quoted[0],
      f"{shown(quoted[1])} is quoted as by a spreadsheet, expected text "
      "without quoting: save the file tab-separated and unquoted",
    )
  notes = [
    f"{path}: {len(broken)} rows that a line break cuts in two are dropped, as "
    f"in TFDS (first: line {n})"
    for n in broken[:1]
  ]
  return rows, notes


def _check_header(path, config, columns: list[str], is_test: bool) -> None:
  needed = list(config.text_features.values())
  if config.label_column and not is_test:
    needed.append(config.label_column)
  for name in needed:
    if columns.count(name) != 1:
      fail(
        path,
        1,
        f"the header row has the column {name!r} {columns.count(name)} times, "
        f"expected once ({shown(', '.join(columns))})",
      )


def check_objects(path: str, config: str) -> None:
  """Checks that a SuperGLUE file is text, with labels that TFDS can read.

  Raises:
    UserError: names the file and the line.
  """

  def check_label(line: int, value: dict) -> None:
    label = value.get("label", 0)
    if not (isinstance(label, int) and label in (0, 1)):
      fail(path, line, f"the label is {shown(label)}, expected 0 or 1")

  for line, text in read_lines(path):
    if config in ("copa", "multirc"):  # TFDS treats any other label as true
      try:
        json.loads(text, object_hook=functools.partial(check_label, line))
      except UserError:
        raise
      except (ValueError, RecursionError):
        pass  # TFDS's reader reports it
