"""What is wrong with the bytes of a file that should be UTF-8 text."""

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def problem(raw: bytes, is_first: bool) -> str | None:
  """What is wrong with the bytes of a line, or None.

  Args:
    raw: with the mark that a file may begin with.
    is_first: whether it is the first line of its file.
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
  """Whether a line, taken up to its LF, is many that end in CR alone."""
  return not raw.endswith(b"\n") and b"\r" in raw.rstrip(b"\r")
