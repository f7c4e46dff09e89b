"""The text files of inputs and targets that a run reads, one example per line.

Mesh TensorFlow's patched `get_inputs_from_file` reads them. These checks find
what it would fail on, before a graph is built.
"""

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors, text_files


def check_files(files) -> dict[str, list[str]]:
  """Checks that input files exist and are lines of text.

  Args:
    files: (where it was given, path) pairs; two of them are inputs and targets
      to score, which are paired. A list instead of a path holds the lines
      themselves.

  Returns:
    {where a file was given: its lines}

  Raises:
    UserError: with the file, and the line if known.
  """
  lines = {where: _lines(where, path) for where, path in files}
  if len(files) == 2:
    _check_pairs(*((where, path, len(lines[where])) for where, path in files))
  return lines


def _lines(where: str, path) -> list[str]:
  if isinstance(path, list | tuple):
    if not path or not all(isinstance(line, str) for line in path):
      raise errors.UserError(
        f"{where} = {path!r} is not a list of texts: give ['…', '…'], or the "
        "path of a text file."
      )
    return list(path)
  given = f"{where} = {path!r}"
  if (
    not isinstance(path, str)
    or not tf.io.gfile.exists(path)
    or tf.io.gfile.isdir(path)
  ):
    raise errors.UserError(
      f"{given} is not a file: give a text file, one example per line."
    )
  _check_text(path, given)
  lines = utils.get_inputs_from_file(path)
  if not any(lines):
    raise errors.UserError(
      f"{given} is {'blank' if lines else 'empty'}: give a text file, one "
      "example per line."
    )
  return lines


def _check_text(path: str, given: str) -> None:
  try:
    with tf.io.gfile.GFile(path, "rb") as f:
      content = f.read()
  except tf.errors.OpError as e:
    raise errors.UserError(
      f"{given} cannot be read ({e.message.splitlines()[0]})."
    ) from None
  for number, line in enumerate(content.split(b"\n"), 1):
    if problem := text_files.problem(line, number == 1):
      raise errors.UserError(f"{given}, line {number}: {problem}.")


def _check_pairs(inputs, targets) -> None:
  """Checks that targets can be paired with inputs, as in `score_from_strings`.

  There may be one target per input, n targets per input, or one for all.
  """
  (inputs_where, inputs_path, n), (targets_where, targets_path, m) = (
    inputs,
    targets,
  )
  if m == 1 or m % n == 0:
    return
  raise errors.UserError(
    f"{targets_where} = {targets_path!r} has {m} lines and {inputs_where} = "
    f"{inputs_path!r} has {n}: give one target per input, the same number for "
    "each input, or one for all."
  )


def describe_cut(
  lines, vocabulary, length: int, eos: bool = True
) -> str | None:
  """A sentence about the lines that Mesh TensorFlow will cut, or None.

  Args:
    lines: lines of a file or a list.
    vocabulary: the vocabulary that encodes them.
    length: the limit in tokens.
    eos: whether the end of sequence takes one of them.
  """
  cut = [
    i
    for i, line in enumerate(lines)
    if len(vocabulary.encode(line.strip())) + eos > length
  ]
  if not cut:
    return None
  text = lines[cut[0]]
  start = text if len(text) <= 30 else f"{text[:30]}…"
  return (
    f"{len(cut)} of {len(lines)} lines are longer than {length} tokens and "
    f"will be cut; the first is line {cut[0] + 1}, {start!r}"
  )
