"""Reads tab-separated and JSON-lines files row by row, strictly.

The benchmark files are UTF-8, with or without a byte-order mark, carriage
returns and a last newline. Their tab-separated files have no quoting: a quote
is a character of the text.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from hypergrid_mtf.errors import UserError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

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
    UserError: the file cannot be read, is not UTF-8, or has a blank line before
      its end.
  """
  blank = None
  try:
    with open(path, "rb") as f:
      # Only "\n" ends a line: str.splitlines would also break a text at U+2028,
      # and universal newlines (how TFDS opens these files) at a lone "\r".
      for number, raw in enumerate(f, 1):
        if number == 1:
          raw = raw.removeprefix(_BYTE_ORDER_MARK)
        try:
          text = raw.decode("utf-8")
        except UnicodeDecodeError as e:
          fail(path, number, f"byte {e.start + 1} is not UTF-8 text")
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
    UserError: a row has another number of columns, or there are no rows.
  """
  broken, rows = 0, 0
  expected = f"the columns {', '.join(names)}" if names else "a header row"
  for line, text in read_lines(path, skip_blank=broken_rows > 0):
    cells = text.split("\t")
    if names is None:
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
      yield line, dict(zip(names, cells, strict=True))
  if not rows:
    fail(path, None, f"the file has no rows; expected {expected} and rows")


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

  def fail(self, problem: str) -> NoReturn:
    """Fails with the file and line of this object."""
    fail(self._path, self._line, problem)

  def _take(self, key: str, what: str, is_right: Callable[[Any], bool]) -> Any:
    if key not in self.value:
      self.fail(f"the key {self._at + key!r} is missing; expected {what}")
    found = self.value[key]
    if not is_right(found):
      self.fail(f"{self._at + key!r} is {shown(found)}, expected {what}")
    return found

  def text(self, key: str) -> str:
    """A string that UTF-8 can hold."""
    found = self._take(key, "a string", lambda v: isinstance(v, str))
    try:
      found.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair.
      self.fail(f"{self._at + key!r} holds half a character (a lone surrogate)")
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
