"""The files of an evaluation that hold a line an example.

t5 has two writers. Mesh TensorFlow's ends each line by a newline and writes a
newline in a text as a blank; that of t5's model API puts newlines between the
lines, none at the end. Only a newline ends a line in either: `str.splitlines`
would also break a text at U+2028, U+0085, a form feed or a carriage return.
"""

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors


def read_lines(path: str, count: int | None = None) -> list[str]:
  """The lines of a file of inputs, targets or predictions, as t5 wrote them.

  Args:
    path: local or in the cloud.
    count: how many there should be, where the model API may have written them:
      it alone tells an empty last line from the end of the last line.

  Returns:
    the lines, without their newlines; of another number than `count` where the
    file holds another number

  Raises:
    UserError: if it cannot be read, or is not UTF-8.
  """
  try:
    with tf.io.gfile.GFile(path, "rb") as f:
      text = f.read().decode("utf-8")
  except UnicodeDecodeError as e:
    line = e.object.count(b"\n", 0, e.start) + 1
    raise errors.UserError(
      f"{path} is damaged: line {line} is not UTF-8 text; evaluate again."
    ) from None
  except tf.errors.OpError as e:
    why = e.message.removeprefix(f"{path}; ")
    raise errors.UserError(f"{path} cannot be read ({why}).") from None
  lines = text.split("\n")
  if not lines[-1] and len(lines) != count:
    lines.pop()
  return lines
