"""Reads tab-separated and JSON-lines files row by row, strictly.

The benchmark files are UTF-8, with or without a byte-order mark, carriage
returns and a last newline. Their tab-separated files have no quoting: a quote
is a character of the text. A file that a spreadsheet has quoted is recognised
and refused.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import text_files

# A column whose every text is in quotes is taken for quoted from so many rows.
_QUOTED_ROWS = 3

# The idx features of TFDS are int32.
_MAX_INT = 2**31 - 1


def fail(path: str, line: int | None, problem: str) -> NoReturn:
  """Raises the one sentence about a line (or the whole) of a file."""
  where = path if line is None else f"{path}, line {line}"
  raise UserError(f"{where}: {problem}.")


def shown(value: Any) -> str:
  """A value for a message: on one line and short."""
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "..."


def read_lines(
  path: str, *, skip_blank: bool = False
) -> Iterator[tuple[int, str]]:
  """Yields (line number from 1, text without its line end).

  Args:
    path: a UTF-8 text file.
    skip_blank: pass over blank lines anywhere; they are always allowed at the
      end of the file.

  Raises:
    UserError: the file cannot be read, is not UTF-8 text, has a blank line
      before its end, or lines that end in a carriage return alone.
  """
  blank = None
  try:
    with open(path, "rb") as f:
      # Only "\n" ends a line: str.splitlines would also break a text at U+2028,
      # and universal newlines (how TFDS opens these files) at a lone "\r".
      for number, raw in enumerate(f, 1):
        if problem := text_files.problem(raw, number == 1):
          fail(path, number, problem)
        if number == 1 and text_files.is_cut_by_returns(raw):
          fail(
            path,
            None,
            "its lines end in a carriage return alone (CR), expected LF or CR "
            "and LF",
          )
        if number == 1:
          raw = raw.removeprefix(text_files.BYTE_ORDER_MARK)
        text = raw.decode("utf-8")
        text = text.removesuffix("\n").removesuffix("\r")
        if not text.strip():
          blank = blank or number
          continue
        if blank and not skip_blank:
          fail(path, blank, "the line is empty; expected a row")
        yield number, text
  except OSError as e:
    fail(path, None, f"cannot be read ({e.strerror or e})")


def is_header(path: str, columns: Sequence[str]) -> bool:
  """Whether the first line of a tab-separated file names all the columns."""
  for _, text in read_lines(path, skip_blank=True):
    return set(columns) <= set(text.split("\t"))
  return False


def first_cell(path: str) -> str:
  """The first cell of a tab-separated file; empty if there is none."""
  for _, text in read_lines(path, skip_blank=True):
    return text.split("\t")[0]
  return ""


def _is_quoted(cell: str) -> bool:
  """Whether a cell is in quotes as CSV has them, those inside doubled."""
  return (
    len(cell) > 1
    and cell[0] == cell[-1] == '"'
    and '"' not in cell[1:-1].replace('""', "")
  )


class _Quoting:
  """Finds out whether a program has quoted the cells of a whole table.

  Such a program puts each cell with a quote in it in quotes, and doubles those
  inside. Where one cell with a quote in it is not like this, no program did
  it, and the quotes are the text's own: so are GLUE's.
  """

  def __init__(self):
    self._is_genuine = False
    self._doubled: tuple[int, str] | None = None
    self._rows = 0
    self._quoted: dict[int, tuple[int, str]] = {}

  def add(self, line: int, cells: Sequence[str]) -> None:
    """Looks at a row."""
    if self._is_genuine:
      return
    quoted = {}
    for column, cell in enumerate(cells):
      if '"' not in cell:
        continue
      if not _is_quoted(cell):
        self._is_genuine = True
        return
      quoted[column] = (line, cell)
      if '""' in cell[1:-1] and not self._doubled:
        self._doubled = (line, cell)
    # Columns of which every cell so far is quoted, with the first of each.
    if self._rows:
      quoted = {c: at for c, at in self._quoted.items() if c in quoted}
    self._quoted = quoted
    self._rows += 1

  def check(self, path: str) -> None:
    """Fails if the table is quoted."""
    if self._is_genuine:
      return
    found = self._doubled
    if not found and self._rows >= _QUOTED_ROWS:
      found = min(self._quoted.values(), default=None)
    if found:
      _fail_quoted(path, *found)


def _fail_quoted(path: str, line: int, cell: str) -> NoReturn:
  fail(
    path,
    line,
    f"{shown(cell)} is quoted as spreadsheets do it, expected texts without "
    "quoting: save the file tab-separated and unquoted",
  )


def read_table(
  path: str,
  *,
  names: Sequence[str] | None = None,
  broken_rows: int = 0,
) -> Iterator[tuple[int, dict[str, str] | None]]:
  """Yields (line number, row by column name) of a tab-separated file.

  Args:
    path: the file.
    names: the columns of a file without a header row; None: the first line of
      the file names them.
    broken_rows: how many rows with too few columns are let pass; such a row is
      yielded as None.

  Raises:
    UserError: a row has another number of columns, there are no rows, or the
      texts are quoted.
  """
  broken, rows = 0, 0
  quoting = _Quoting()
  expected = f"the columns {', '.join(names)}" if names else "a header row"
  for line, text in read_lines(path, skip_blank=broken_rows > 0):
    cells = text.split("\t")
    if names is None:
      for cell in filter(_is_quoted, cells):
        _fail_quoted(path, line, cell)
      if len(set(filter(None, cells))) < len([c for c in cells if c]):
        fail(path, line, f"a column is named twice ({shown(text)})")
      names = cells
      expected = "the columns of the header row"
      continue
    rows += 1
    # Tabs after the last column carry nothing.
    while len(cells) > len(names) and not cells[-1].strip():
      cells.pop()
    if len(cells) < len(names) and broken < broken_rows:
      broken += 1
      yield line, None
    elif len(cells) != len(names):
      fail(
        path,
        line,
        f"{len(cells)} tab-separated columns, expected {len(names)} "
        f"({expected})",
      )
    else:
      quoting.add(line, cells)
      yield line, dict(zip(names, cells, strict=True))
  if not rows:
    fail(path, None, f"the file has no rows; expected {expected} and rows")
  quoting.check(path)


class Oddities:
  """Counts what t5 reads, but was hardly meant, and says each once.

  Args:
    path: the file that is read.
  """

  def __init__(self, path: str):
    self._path = path
    self._found: dict[str, list[int]] = {}

  def add(self, line: int, what: str) -> None:
    """Counts a row.

    Args:
      line: its line.
      what: what is odd, after "3 rows": "have an empty 'sentence'".
    """
    self._found.setdefault(what, []).append(line)

  def say(self, note: Callable[[str], None] | None) -> None:
    """Hands a sentence about each kind to `note`."""
    for what, lines in self._found.items():
      if note:
        note(
          f"{self._path}: {len(lines):,} of its rows {what} (first: line "
          f"{lines[0]})"
        )


def read_objects(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, object) of a file with one JSON object a line.

  Raises:
    UserError: a line is not a JSON object, or there are none.
  """
  rows = 0
  for line, text in read_lines(path):
    rows += 1
    try:
      value = json.loads(text)
    except json.JSONDecodeError as e:
      fail(path, line, f"not valid JSON ({e.msg} at column {e.colno})")
    except (ValueError, RecursionError):  # A huge number; absurd nesting.
      fail(path, line, "not valid JSON that can be read")
    if not isinstance(value, dict):
      fail(path, line, f"{shown(value)}, expected a JSON object")
    yield line, value
  if not rows:
    fail(path, None, "the file is empty; expected one JSON object a line")


class Field:
  """Takes typed values out of one line's JSON object, or fails with its place.

  Attributes:
    value: the object.
  """

  def __init__(self, path: str, line: int, value: dict[str, Any], at: str = ""):
    self._path = path
    self._line = line
    self._at = at
    self.value = value

  def place(self, key: str) -> str:
    """A key with the way to it, quoted for a message."""
    return repr(self._at + key)

  def fail(self, problem: str) -> NoReturn:
    """Fails with the file and line of this object."""
    fail(self._path, self._line, problem)

  def _take(self, key: str, what: str, is_right: Callable[[Any], bool]) -> Any:
    if key not in self.value:
      self.fail(f"the key {self.place(key)} is missing; expected {what}")
    found = self.value[key]
    if not is_right(found):
      self.fail(f"{self.place(key)} is {shown(found)}, expected {what}")
    return found

  def text(self, key: str) -> str:
    """A string that UTF-8 can hold."""
    found = self._take(key, "a string", lambda v: isinstance(v, str))
    try:
      found.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair.
      self.fail(f"{self.place(key)} holds half a character (a lone surrogate)")
    return found

  def integer(self, key: str) -> int:
    """A whole number that int32 can hold."""
    return self._take(
      key,
      "a whole number (int32)",
      lambda v: (
        isinstance(v, int) and not isinstance(v, bool) and abs(v) <= _MAX_INT
      ),
    )

  def child(self, key: str) -> "Field":
    """The object at a key."""
    found = self._take(key, "a JSON object", lambda v: isinstance(v, dict))
    return Field(self._path, self._line, found, f"{self._at}{key}.")

  def children(self, key: str) -> list["Field"]:
    """The objects of the list at a key."""
    found = self._take(
      key,
      "a list of JSON objects",
      lambda v: isinstance(v, list) and all(isinstance(x, dict) for x in v),
    )
    return [
      Field(self._path, self._line, x, f"{self._at}{key}[{i}].")
      for i, x in enumerate(found)
    ]


def files_of(folder: str) -> dict[str, str]:
  """The files of a folder: path by file name in lower case."""
  return {
    name.casefold(): os.path.join(folder, name)
    for name in sorted(os.listdir(folder))
    if os.path.isfile(os.path.join(folder, name))
  }
