r"""Answers of a trained model, one line for each line of a file.

  python -m tools.predict --saved_model=exports/l2 --input_file=inputs.txt \
    --output_file=outputs.txt
  python -m tools.predict --model_dir=runs/l2 --task=rte --input_file=dev.tsv

Without --input_file, lines come from standard input; on a terminal, each is
answered at once. The model is built and read one time, and lines of about one
length are answered together. --task makes the inputs from the fields of that
task, a JSON object or values between tabs a line, and prints its label. A line
that is not text is answered with an empty one, and said.
"""

import contextlib
import sys
from collections.abc import Sequence

from absl import flags
from t5.models import mesh_transformer_main  # noqa: F401  (its flags)

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, files, gin_files, progress
from tools.serving import asked, lines, option_flags, task_fields, trained

# t5's own: --model_dir, --input_file, --output_file, --batch_size, …
FLAGS = flags.FLAGS

_BATCH = 32


def _note(sentence: str | None) -> None:
  """Says something, where it is not taken for an answer."""
  if not sentence:
    return
  if FLAGS.output_file:
    console.say(sentence)
  else:
    console.terminal().write(f"{sentence}\n")
    console.terminal().flush()


def _model(stack: contextlib.ExitStack) -> asked.Model:
  """The model that the flags name."""
  given = FLAGS["model_dir"].present
  if bool(FLAGS.saved_model) == bool(given):
    which = "both are given" if given else "neither is given"
    raise errors.UserError(
      f"--saved_model and --model_dir: {which}; give one of them."
    )
  if FLAGS.saved_model:
    return asked.of_saved_model(FLAGS.saved_model)
  source = stack.enter_context(
    trained.opened(FLAGS.model_dir, FLAGS.step, FLAGS.vocabulary)
  )
  return asked.of_model_dir(source, option_flags.read(FLAGS))


def _task(model: asked.Model) -> task_fields.TaskFields | None:
  if FLAGS.task is None:
    return None
  if not model.tasks:
    raise errors.UserError(
      f"--task={FLAGS.task}: nothing beside this SavedModel says its tasks; "
      "give whole inputs, with their prefix, and leave out --task."
    )
  return task_fields.choose(FLAGS.task, model.tasks)


def answer(
  model: asked.Model, asked_lines: Sequence[lines.Line], size: int
) -> tuple[list[str], list[float], list[str]]:
  """Asks a model lines of text.

  Args:
    model: that can be asked.
    asked_lines: in their order.
    size: of a batch, at most.

  Returns:
    an answer and its score for each line ("" and nan where it is not text), and
    sentences on what was cut
  """
  outputs = [""] * len(asked_lines)
  scores = [float("nan")] * len(asked_lines)
  cut: dict[str, list[int]] = {"inputs": [], "outputs": []}
  count = sum(not line.problem for line in asked_lines)
  with progress.bar(count, "predict", "line") as bar:
    for batch in lines.batches(asked_lines, size):
      found = model.ask([asked_lines[i].text for i in batch])
      for row, i in enumerate(batch):
        outputs[i], scores[i] = found.outputs[row], found.scores[row]
        number = asked_lines[i].number
        cut["inputs"] += [number] * found.inputs_cut[row]
        cut["outputs"] += [number] * found.outputs_cut[row]
      bar.update(len(batch))
  said = []
  for what, text in (("inputs", "lines"), ("outputs", "answers")):
    if cut[what]:
      limit = model.limits.get(what)
      said.append(
        f"{len(cut[what])} of {count} {text} were cut"
        f"{f' at {limit} tokens' if limit else ''}; the first is "
        f"{'' if what == 'inputs' else 'of '}line {min(cut[what])}"
      )
  return outputs, scores, said


def _shown(outputs, scores) -> list[str]:
  if not FLAGS.scores:
    return outputs
  pairs = zip(outputs, scores, strict=True)
  return [f"{text}\t{score:.6g}" for text, score in pairs]


def _all_at_once(model, task, content: bytes) -> None:
  raw = lines.split(content)
  found = lines.of_task(raw, task) if task else lines.texts(raw)
  size = FLAGS.batch_size if FLAGS["batch_size"].present else _BATCH
  outputs, scores, said = answer(model, found, size)
  text = "".join(f"{line}\n" for line in _shown(outputs, scores))
  if FLAGS.output_file:
    files.write(FLAGS.output_file, text)
  else:
    sys.stdout.write(text)
    sys.stdout.flush()
  for sentence in (lines.describe(found), *said):
    _note(sentence)
  if task and task.labels:
    asked_of = [o for o, line in zip(outputs, found, strict=True) if line.text]
    others = [o for o in asked_of if o not in task.labels]
    if others:
      _note(
        f"{len(others)} of {len(asked_of)} answers are not a label "
        f"({', '.join(task.labels)}); one is {others[0]!r}"
      )


def _one_by_one(model, task) -> None:
  """A conversation; the end of the input ends it."""
  while True:
    try:
      line = input("> ")
    except EOFError:
      print()
      return
    raw = [line.encode("utf-8", "surrogateescape")]
    parsed = lines.of_task(raw, task) if task else lines.texts(raw)
    if not parsed:
      continue  # a header
    (found,) = parsed
    if found.problem:
      _note(found.problem)
      continue
    outputs, scores, said = _ask_one(model, found)
    print(_shown(outputs, scores)[0])
    for sentence in said:
      _note(sentence)


def _ask_one(model, line):
  found = model.ask([line.text])
  said = []
  for what, cut in (
    ("the line", found.inputs_cut),
    ("the answer", found.outputs_cut),
  ):
    if cut[0]:
      said.append(f"{what} was cut")
  return found.outputs, found.scores, said


def main(argv) -> None:
  """Answers lines.

  Args:
    argv: unused.

  Raises:
    UserError: for what the user can put right.
  """
  del argv
  if FLAGS["batch_size"].present and FLAGS.batch_size < 1:
    raise errors.UserError(
      f"--batch_size={FLAGS.batch_size} is too small: give 1 or more."
    )
  gin_files.import_modules(FLAGS.module_import)
  if FLAGS.output_file:
    files.check_output(FLAGS.output_file, "--output_file")
  content = lines.read(FLAGS.input_file) if FLAGS.input_file else None
  with contextlib.ExitStack() as stack:
    model = _model(stack)
    task = _task(model)
    if content is None and sys.stdin.isatty():
      _one_by_one(model, task)
      return
    if content is None:
      content = lines.check(sys.stdin.buffer.read(), "standard input")
    _all_at_once(model, task, content)


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("saved_model", None, "What tools.export wrote.")
  flags.DEFINE_string(
    "task",
    None,
    "Make inputs from the fields of this task, as rte, and print its label.",
  )
  flags.DEFINE_bool("scores", False, "Print a tab and the score after answers.")
  option_flags.define()


if __name__ == "__main__":
  define_flags()
  console.run(main)
