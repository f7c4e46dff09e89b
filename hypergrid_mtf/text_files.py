"""Reads files that should be UTF-8 text, line by line."""

import lzma
from collections.abc import Callable, Iterator
from typing import Any

from hypergrid_mtf import errors

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def problem(raw: bytes, is_first: bool) -> str | None:
  """What is wrong with the bytes of a line, or None.

  Args:
    raw: the line, with any byte-order mark.
    is_first: whether it is the first line of the file.
  """
  if is_first and raw.startswith(UTF16_MARKS):
    return "UTF-16 text, expected UTF-8: save it as UTF-8"
  if b"\0" in raw:  # UTF-16 without its mark, or a binary file
    return f"byte {raw.index(0) + 1} is NUL, expected UTF-8 text"
  try:
    raw.decode("utf-8")
  except UnicodeDecodeError as e:
    return f"byte {e.start + 1} is not UTF-8 text"
  return None


def is_cut_by_returns(raw: bytes) -> bool:
  """Whether text up to an LF is several lines that end in CR only."""
  return not raw.endswith(b"\n") and b"\r" in raw.rstrip(b"\r")


def read_lines(
  path: str, who: str, open_file: Callable[..., Any] = open
) -> Iterator[tuple[int, bytes]]:
  """Yields (line number, bytes with the line end).

  Args:
    path: of a file on this machine.
    who: the reader, for messages.
    open_file: takes path and mode; not `open` for compressed files.

  Raises:
    UserError: the file cannot be read, is cut short, or is not UTF-8 text.
  """
  try:
    with open_file(path, "rb") as f:
      for number, raw in enumerate(f, 1):
        if wrong := problem(raw, number == 1):
          raise errors.UserError(f"{path}, line {number} ({who}): {wrong}.")
        yield number, raw
  except EOFError:
    raise errors.UserError(
      f"{path} ({who}) is cut short (its compressed data have no end): copy it "
      "again."
    ) from None
  except (OSError, lzma.LZMAError) as e:
    reason = getattr(e, "strerror", None) or e
    raise errors.UserError(
      f"{path} ({who}) cannot be read: {reason}."
    ) from None
