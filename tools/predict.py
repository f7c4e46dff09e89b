r"""Answers a file of inputs with a trained model.

  python -m tools.predict --saved_model=exports/l2 --input_file=inputs.txt \
    --output_file=outputs.txt
  python -m tools.predict --model_dir=runs/l2 --input_file=in.csv \
    --output_file=out.csv

One input per line gives one answer per line. A .csv file has a header with a
column `inputs`; its columns are kept, and `outputs`, `scores` and `outputs_cut`
are added. Without a file, or for `-`, the program reads standard input and
writes standard output. Invalid lines get an empty answer and a warning. The
model is loaded once, and lines of similar length are answered together.
"""

import contextlib
import csv
import io
import re
import sys
from collections.abc import Callable, Sequence

from absl import flags

from hypergrid_mtf.run import console, t5_flags
from tools import flag_groups

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("input_file", "output_file", "batch_size")
  flag_groups.define_model()
  flag_groups.define_decoding()
  flags.DEFINE_string("saved_model", None, "What tools.export wrote.")
  flags.DEFINE_bool("scores", False, "Add a tab and the score to each line.")


console.read_flags(
  __name__,
  define_flags,
  ["input_file", "saved_model", "model_dir", "vocabulary"],
  uses_t5=False,
)

import tensorflow as tf

import hypergrid_mtf
from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools.serving import loaded

_BATCH = 32
_INPUTS, _OUTPUTS = "inputs", "outputs"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_rows(path: str) -> list[dict]:
  """The rows of a .csv file, or lines of text as rows with one column.

  Args:
    path: local, in the cloud, or "-" for standard input.

  Raises:
    UserError: if it cannot be read or has another form.
  """
  given = "standard input" if path == "-" else f"--input_file={path}"
  wanted = "give UTF-8 text, one input per line, or a .csv file"
  try:
    # TensorFlow cannot read a pipe.
    opened = tf.io.gfile.GFile if "://" in path else open
    with sys.stdin.buffer if path == "-" else opened(path, "rb") as f:
      content = f.read()
  except (OSError, tf.errors.OpError) as e:
    raise errors.UserError(
      f"{given} cannot be read ({errors.sentence(e)}): {wanted}."
    ) from None
  if not content or content.startswith(_UTF16):
    what = "UTF-16" if content else "empty"
    raise errors.UserError(f"{given} is {what}: {wanted}.")
  text = content.decode("utf-8-sig", "surrogateescape")
  if not path.endswith(".csv"):
    lines = io.StringIO(text, newline=None)  # LF, CR LF and CR all end a line
    return [{_INPUTS: line.rstrip("\n")} for line in lines]
  reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
  try:
    rows = list(reader)
  except csv.Error as e:
    line = reader.reader.line_num
    raise errors.UserError(
      f"{given}, line {line}, is not CSV: {errors.sentence(e)}"
    ) from None
  if _INPUTS not in (reader.fieldnames or ()):
    raise errors.UserError(
      f"{given} has no column {_INPUTS!r} in its first line, only "
      f"{', '.join(reader.fieldnames or ())}."
    )
  return rows


def find_problem(row: dict) -> str | None:
  """What is wrong with a row, or None."""
  text = row[_INPUTS]
  if text is None or None in row:
    return "its number of columns differs from the first line"
  if re.search("[\0\udc80-\udcff]", text):
    return "it has a NUL byte or is not UTF-8 text"
  return None


def answer(
  function: Callable, texts: Sequence[str | None], size: int
) -> dict[str, list]:
  """Answers texts, with texts of similar length in one batch.

  Args:
    function: the signature "serving_default".
    texts: None for a text not to answer.
    size: the largest batch size.

  Returns:
    {"outputs", "scores", "inputs_cut", "outputs_cut": one value per text}; for
    None they are "", nan, False and False
  """
  empty = dict(
    outputs=b"", scores=float("nan"), inputs_cut=False, outputs_cut=False
  )
  found: dict[str, list] = {
    name: [value] * len(texts) for name, value in empty.items()
  }
  known = {i: text for i, text in enumerate(texts) if text is not None}
  # The longest first, so that running out of memory happens early.
  order = sorted(known, key=lambda i: -len(known[i]))
  with console.progress_bar(len(order), "predict", "line") as bar:
    for start in range(0, len(order), size):
      batch = order[start : start + size]
      rows = function(inputs=tf.constant([known[i] for i in batch]))
      for name, values in found.items():
        for i, value in zip(batch, rows[name].numpy().tolist(), strict=True):
          values[i] = value
      bar.update(len(batch))
  found[_OUTPUTS] = [o.decode("utf-8", "replace") for o in found[_OUTPUTS]]
  return found


def _open_function(stack: contextlib.ExitStack) -> tuple:
  """The function that answers texts, its limits, and an object to keep.

  The limits are {"inputs": tokens, …}; the object must live as long as the
  function.
  """
  has_model_dir = FLAGS["model_dir"].present
  if bool(FLAGS.saved_model) == bool(has_model_dir):
    which = "both are given" if has_model_dir else "neither is given"
    raise errors.UserError(
      f"--saved_model and --model_dir: {which}; give one of them."
    )
  if not FLAGS.saved_model:
    # A SavedModel needs neither t5 nor Mesh TensorFlow.
    hypergrid_mtf.load()
    from hypergrid_mtf import trained
    from hypergrid_mtf.run import config
    from tools.serving import options, text_model

    config.import_modules(FLAGS.module_import)
    source = stack.enter_context(
      trained.open_model(FLAGS.model_dir, FLAGS.step, FLAGS.vocabulary)
    )
    how = options.read_flags(FLAGS)
    made = text_model.TextModel(source, how, [loaded.ANSWER])
    limits = {_INPUTS: how.inputs, _OUTPUTS: how.outputs}
    return made.functions[loaded.ANSWER], limits, made
  for name in (*flag_groups.DECODING, *flag_groups.MODEL[1:]):
    if FLAGS[name].present:
      raise errors.UserError(
        f"--{name}={FLAGS[name].value} was fixed when {FLAGS.saved_model} was "
        "exported: give it to tools.export, or give --model_dir."
      )
  return loaded.load(FLAGS.saved_model)


def _format(rows: list[dict], found: dict[str, list], as_csv: bool) -> str:
  """The text of the output file."""
  text = io.StringIO()
  if as_csv:
    added = (_OUTPUTS, "scores", "outputs_cut")
    columns = dict.fromkeys([*(rows[0] if rows else [_INPUTS]), *added])
    columns.pop(None, None)  # surplus cells of the first row
    writer = csv.DictWriter(
      text, columns, extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    for i, row in enumerate(rows):
      writer.writerow({**row, **{name: found[name][i] for name in added}})
  else:
    for output, score in zip(found[_OUTPUTS], found["scores"], strict=True):
      line = " ".join(output.splitlines())
      text.write(f"{line}\t{score:.6g}\n" if FLAGS.scores else f"{line}\n")
  return text.getvalue()


def _describe(problems, found, limits) -> list[str]:
  """Sentences about inputs that were not answered or were cut."""
  said = []
  bad = [i for i, problem in enumerate(problems) if problem]
  if bad:
    said.append(
      f"{len(bad)} of {len(problems)} inputs are invalid and got an empty "
      f"answer; the first is input {bad[0] + 1}: {problems[bad[0]]}"
    )
  for what, name in ((_INPUTS, "inputs"), (_OUTPUTS, "answers")):
    cut = [i for i, is_cut in enumerate(found[f"{what}_cut"]) if is_cut]
    if cut:
      said.append(
        f"{len(cut)} of {len(problems) - len(bad)} {name} were cut at "
        f"{limits.get(what, 'some')} tokens; the first is that of input "
        f"{cut[0] + 1}"
      )
  return said


def main(argv) -> None:
  """Answers the rows of a file."""
  del argv
  size = FLAGS.batch_size if FLAGS["batch_size"].present else _BATCH
  if size < 1:
    raise errors.UserError(f"--batch_size={size} is too small: give 1 or more.")
  source, output = FLAGS.input_file or "-", FLAGS.output_file or "-"
  if output != "-":
    files.check_output(output, "--output_file")
  rows = read_rows(source)
  problems = [find_problem(row) for row in rows]
  texts = [
    None if problem else row[_INPUTS].strip()
    for row, problem in zip(rows, problems, strict=True)
  ]
  with contextlib.ExitStack() as stack:
    # Keeps what the function needs from being collected.
    function, limits, _kept = _open_function(stack)
    found = answer(function, texts, size)
  as_csv = (source if output == "-" else output).endswith(".csv")
  # Invalid UTF-8 is written as it was read.
  content = _format(rows, found, as_csv).encode("utf-8", "surrogateescape")
  if output == "-":
    sys.stdout.buffer.write(content)
    sys.stdout.flush()
  else:
    files.write(output, content)
  for sentence in _describe(problems, found, limits):
    # Standard output is for answers only.
    print(sentence, file=console.terminal(), flush=True)


if __name__ == "__main__":
  console.run(main)
