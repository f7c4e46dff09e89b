"""Lines of text that a served model is asked, and what is wrong with some.

One answer comes for each line, in their order: a line that cannot be asked is
answered with an empty one, and said.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import text_files
from tools.serving import task_fields


@dataclasses.dataclass
class Line:
  """One line of the input.

  Attributes:
    number: from 1, with a header that has no answer.
    text: what the model is asked.
    problem: why it is not; None if it is.
  """

  number: int
  text: str = ""
  problem: str | None = None


def read(path: str) -> bytes:
  """The content of a file.

  Args:
    path: local or in the cloud.

  Raises:
    UserError: if there is none, it is empty, or it is not text at all.
  """
  if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
    raise errors.UserError(
      f"--input_file={path} is not a file: give a text file, one input a line."
    )
  try:
    with tf.io.gfile.GFile(path, "rb") as f:
      content = f.read()
  except tf.errors.OpError as e:
    raise errors.UserError(
      f"--input_file={path} cannot be read ({e.message.splitlines()[0]})."
    ) from None
  return check(content, f"--input_file={path}")


def check(content: bytes, given: str) -> bytes:
  """What was read, if it has lines of text.

  Args:
    content: of a file.
    given: where it came from.

  Raises:
    UserError: if it is empty, or UTF-16.
  """
  if not content:
    raise errors.UserError(
      f"{given} is empty: give a text file, one input a line."
    )
  if content.startswith(text_files.UTF16_MARKS):
    raise errors.UserError(
      f"{given}, line 1: {text_files.problem(content, True)}."
    )
  return content


def split(content: bytes) -> list[bytes]:
  """The lines of a file; LF, CR LF and CR alone end one.

  What ends the last line begins no other.

  Args:
    content: of the file.
  """
  content = content.removeprefix(text_files.BYTE_ORDER_MARK)
  content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
  found = content.split(b"\n")
  return found[:-1] if not found[-1] else found


def texts(raw: Iterable[bytes]) -> list[Line]:
  """Lines of whole inputs.

  Args:
    raw: from `split`.
  """
  found = []
  for number, line in enumerate(raw, 1):
    if problem := text_files.problem(line, False):
      found.append(Line(number, problem=problem))
    else:
      found.append(Line(number, line.decode().strip()))
  return found


def of_task(raw: Sequence[bytes], task: task_fields.TaskFields) -> list[Line]:
  """Lines of a task's fields: JSON objects, or values between tabs.

  With tabs, a first line that names the fields is a header, which is not
  answered; without one, the values come in the order of `task.fields`.

  Args:
    raw: from `split`.
    task: that has fields.

  Returns:
    a line for each but the header
  """
  found = texts(raw)
  parse = _json if found and found[0].text.startswith("{") else None
  if parse is None:
    header = found[0].text.split("\t") if found else []
    if set(task.fields) <= set(header):
      found = found[1:]
    else:
      header = list(task.fields)
    parse = _columns(header)
  rows, asked = [], []
  for line, source in zip(found, raw[len(raw) - len(found) :], strict=True):
    if line.problem:
      continue
    try:
      rows.append(_chosen(parse(source.decode()), task))
      asked.append(line)
    except _Unreadable as e:
      line.text, line.problem = "", str(e)
  for line, text in zip(asked, task.inputs(rows), strict=True):
    line.text = text
  return found


class _Unreadable(Exception):
  """What is wrong with a line."""


def _json(line: str) -> dict:
  try:
    found = json.loads(line)
  except ValueError:
    raise _Unreadable("not a JSON object") from None
  if not isinstance(found, dict):
    raise _Unreadable("not a JSON object")
  return found


def _columns(header: list[str]):
  def parse(line: str) -> dict:
    values = line.split("\t")
    if len(values) != len(header):
      raise _Unreadable(
        f"{len(values)} values between tabs, expected {len(header)} "
        f"({', '.join(header)})"
      )
    return dict(zip(header, values, strict=True))

  return parse


def _chosen(row: dict, task: task_fields.TaskFields) -> dict[str, str]:
  """The fields of a task, as texts."""
  for field in task.fields:
    if not isinstance(row.get(field), str):
      what = "is not a text" if field in row else "is missing"
      raise _Unreadable(
        f"the field {field} {what} (this task has {', '.join(task.fields)})"
      )
  return {field: row[field] for field in task.fields}


def describe(lines: Sequence[Line]) -> str | None:
  """A sentence on the lines that were not asked, or None.

  Args:
    lines: all of them.
  """
  bad = [line for line in lines if line.problem]
  if not bad:
    return None
  first = bad[0]
  are = "line was" if len(bad) == 1 else "lines were"
  return (
    f"{len(bad)} {are} answered with an empty line; the first is line "
    f"{first.number}: {first.problem}"
  )


def batches(lines: Sequence[Line], size: int) -> Iterator[list[int]]:
  """Indices of lines to ask together: of about one length.

  Args:
    lines: all of them.
    size: of a batch, at most.

  Yields:
    indices, the longest lines first, so that what does not fit fails at once
  """
  order = [i for i, line in enumerate(lines) if not line.problem]
  order.sort(key=lambda i: -len(lines[i].text))
  for start in range(0, len(order), size):
    yield order[start : start + size]
