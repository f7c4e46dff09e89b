r"""The zip files that the GLUE and SuperGLUE servers take.

First the test sets are decoded, then the files are made:

  python -m hypergrid_mtf.main … --gin_file=experiments/local_eval.gin \
    --gin_param="run.dataset_split = 'test'"
  python -m tools.submit --model_dir=runs/l2 --output_dir=submission

File names, labels and the order of rows are the servers'; every file is checked
against the size of its test set before a zip is written. T5 is not trained on
WNLI and answers it with the majority class, as here. A task that was not
decoded is refused, unless --fill is given: then it gets one answer throughout,
so that the server takes the zip and the rest can be read. `submission.json`
beside the zips says which file is what.
"""

import collections
import dataclasses
import glob
import io
import json
import os
import re
import zipfile

import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds
from absl import flags
from t5.models import mesh_transformer_main  # noqa: F401  (--model_dir)

from hypergrid_mtf import errors
from hypergrid_mtf.launch import console, data_checks, files
from tools.data import local_files

FLAGS = flags.FLAGS

_NLI = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")
_BITS = ("0", "1")
_TRUTH = ("false", "true")
_MULTIRC = "MultiRC.jsonl"


@dataclasses.dataclass(frozen=True)
class Entry:
  """One file of a submission.

  Attributes:
    file: its name in the zip.
    data: the TFDS data set whose test split it answers, "glue/cola".
    task: whose predictions it holds; None if T5 has none.
    labels: what the classes are called, by number; () for a real number or a
      text.
    filler: the answer where there is none.
  """

  file: str
  data: str
  task: str | None
  labels: tuple = ()
  filler: str | int = ""

  @property
  def rows(self) -> int:
    """Of the official test set."""
    return local_files.OFFICIAL_ROWS[self.data]["test"]


def _glue(file, name, labels, filler):
  return Entry(
    f"{file}.tsv", f"glue/{name}", f"glue_{name}_v002", labels, filler
  )


def _super(file, name, labels, filler):
  return Entry(
    f"{file}.jsonl",
    f"super_glue/{name}",
    f"super_glue_{name}_v102",
    labels,
    filler,
  )


BENCHMARKS = {
  "GLUE": (
    _glue("CoLA", "cola", _BITS, "1"),
    _glue("SST-2", "sst2", _BITS, "1"),
    _glue("MRPC", "mrpc", _BITS, "1"),
    _glue("STS-B", "stsb", (), "2.5"),
    _glue("QQP", "qqp", _BITS, "0"),
    _glue("MNLI-m", "mnli_matched", _NLI, "entailment"),
    _glue("MNLI-mm", "mnli_mismatched", _NLI, "entailment"),
    _glue("QNLI", "qnli", _TWO_WAY, "entailment"),
    _glue("RTE", "rte", _TWO_WAY, "entailment"),
    Entry("WNLI.tsv", "glue/wnli", None, _BITS, "0"),
    _glue("AX", "ax", _NLI, "entailment"),
  ),
  "SuperGLUE": (
    _super("BoolQ", "boolq", _TRUTH, "true"),
    _super("CB", "cb", ("entailment", "contradiction", "neutral"), "neutral"),
    _super("COPA", "copa", (0, 1), 0),
    _super("MultiRC", "multirc", (0, 1), 0),
    _super("ReCoRD", "record", (), ""),
    _super("RTE", "rte", _TWO_WAY, "entailment"),
    _super("WiC", "wic", _TRUTH, "true"),
    Entry(
      "WSC.jsonl",
      "super_glue/wsc.fixed",
      "super_glue_wsc_v102_simple_eval",
      ("False", "True"),
      "False",
    ),
    _super("AX-b", "axb", _TWO_WAY, "entailment"),
    _super("AX-g", "axg", _TWO_WAY, "entailment"),
  ),
}


def _untokenized(task: seqio.Task) -> tf.data.Dataset:
  """The test examples as the task words them; no vocabulary is needed."""
  dataset = task.source.get_dataset("test", shuffle=False)
  for preprocessor in task.preprocessors:
    if preprocessor is seqio.preprocessors.tokenize:
      break
    dataset = seqio.add_kwargs_to_transform(
      preprocessor, sequence_length=None, output_features=task.output_features
    )(dataset)
  return dataset


def indices(task: str) -> list[tuple[int, ...]]:
  """The official number of each test example, in the order of decoding.

  Args:
    task: a registered task with a test split.

  Returns:
    (idx,), (passage, query) of ReCoRD or (paragraph, question, answer) of
    MultiRC
  """
  found = []
  with tf.Graph().as_default():
    dataset = _untokenized(seqio.TaskRegistry.get(task))
    for example in tfds.as_numpy(dataset):
      keys = sorted(k for k in example if k == "idx" or k.startswith("idx/"))
      if keys == ["idx/passage", "idx/query"]:
        order = keys
      elif len(keys) == 3:
        order = ["idx/paragraph", "idx/question", "idx/answer"]
      else:
        order = ["idx"]
      found.append(tuple(int(example[k]) for k in order))
  return found


def answers(entry: Entry, lines: list[str]) -> tuple[list, int]:
  """Answers as the server writes them.

  Args:
    entry: of the task.
    lines: t5's predictions.

  Returns:
    (answers, how many were no label and became the filler)
  """
  found, wrong = [], 0
  for line in lines:
    if "multirc" in entry.task:
      match = re.search(r"'value': (-?\d+)", line)
      line = match[1] if match else "-1"
    if entry.labels:
      label = int(line) if re.fullmatch(r"-?\d+", line) else -1
      if label < 0 or label >= len(entry.labels):
        found.append(entry.filler)
        wrong += 1
      else:
        found.append(entry.labels[label])
    elif entry.file == "STS-B.tsv":
      value = float(line)
      if value < 0:  # t5's mark for what is no number
        value, wrong = float(entry.filler), wrong + 1
      found.append(f"{min(value, 5.0):.3f}")
    else:
      found.append(line)
  return found, wrong


def file_text(entry: Entry, numbered: list[tuple[tuple, object]]) -> str:
  """The contents of one file.

  Args:
    entry: which one.
    numbered: (official number, answer), in any order.

  Returns:
    text
  """
  numbered = sorted(numbered, key=lambda pair: pair[0])
  out = io.StringIO()
  if entry.file.endswith(".tsv"):
    out.write("index\tprediction\n")
    for (index,), answer in numbered:
      out.write(f"{index}\t{answer}\n")
  elif entry.file == _MULTIRC:
    paragraphs = collections.defaultdict(lambda: collections.defaultdict(list))
    for (paragraph, question, answer), label in numbered:
      paragraphs[paragraph][question].append(dict(idx=answer, label=label))
    for paragraph, questions in paragraphs.items():
      passage = [dict(idx=q, answers=a) for q, a in questions.items()]
      row = dict(idx=paragraph, passage=dict(questions=passage))
      out.write(json.dumps(row) + "\n")
  else:
    for number, answer in numbered:
      out.write(json.dumps(dict(idx=number[-1], label=answer)) + "\n")
  return out.getvalue()


def _predictions(folder: str, task: str, step: int | None):
  """(step, lines) of the last decoded checkpoint, or of one; None if none."""
  paths = {}
  for path in glob.glob(os.path.join(folder, f"{task}_*_predictions")):
    match = re.fullmatch(
      rf"{re.escape(task)}_(\d+)_predictions", os.path.basename(path)
    )
    if match:
      paths[int(match[1])] = path
  if not paths or (step is not None and step not in paths):
    return None
  step = max(paths) if step is None else step
  with open(paths[step]) as f:
    return step, f.read().splitlines()


def make_file(entry: Entry, folder: str, step: int | None) -> dict | None:
  """One file of a submission.

  Args:
    entry: which one.
    folder: of the evaluation of the test split.
    step: of the checkpoint, or None for the last.

  Returns:
    `text`, `step`, `rows`, `no_label`; None if the task was not decoded

  Raises:
    UserError: if the answers are not those of the official test set.
  """
  found = entry.task and _predictions(folder, entry.task, step)
  if not found:
    return None
  step, lines = found
  numbers = indices(entry.task)
  if not len(lines) == len(numbers) == entry.rows:
    raise errors.UserError(
      f"{entry.file} needs {entry.rows} rows, and {entry.task} has "
      f"{len(numbers)} examples and {len(lines)} predictions: decode the whole "
      "official test set."
    )
  if len(set(numbers)) != len(numbers):
    raise errors.UserError(
      f"two examples of {entry.task} have one number, so the data set is not "
      "the official one."
    )
  texts, wrong = answers(entry, lines)
  return dict(
    text=file_text(entry, list(zip(numbers, texts, strict=True))),
    step=step,
    rows=entry.rows,
    no_label=wrong,
  )


def make_filler(entry: Entry) -> dict:
  """A file of one answer throughout, for what was not decoded.

  Args:
    entry: which one.

  Returns:
    as `make_file`

  Raises:
    UserError: for MultiRC without its data, whose numbering is in no formula.
  """
  numbers = [(i,) for i in range(entry.rows)]
  if entry.file == _MULTIRC:
    try:
      numbers = indices(entry.task)
    except (AssertionError, ValueError, OSError) as e:
      raise errors.UserError(
        f"{_MULTIRC} is numbered by its paragraphs and questions, and the test "
        f"set cannot be read ({errors.sentence(e)}): give --t5_tfds_data_dir "
        "with super_glue/multirc."
      ) from None
  text = file_text(entry, [(number, entry.filler) for number in numbers])
  return dict(text=text, step=None, rows=len(numbers), no_label=0)


def submission(
  benchmark: str, folder: str, step: int | None, fill: bool
) -> tuple[bytes, list[dict]]:
  """The zip of one benchmark.

  Args:
    benchmark: a key of BENCHMARKS.
    folder: of the evaluation of the test split.
    step: of the checkpoint, or None for the last.
    fill: put filler where a task was not decoded.

  Returns:
    (zip, a record for each file)

  Raises:
    UserError: naming the tasks that were not decoded.
  """
  made = {e: make_file(e, folder, step) for e in BENCHMARKS[benchmark]}
  absent = [e.task for e, m in made.items() if m is None and e.task]
  if absent and not fill:
    raise errors.UserError(
      f"{folder} holds no predictions of {', '.join(absent)}: decode the test "
      "split of all tasks, or give --fill to put one answer there."
    )
  buffer = io.BytesIO()
  records = []
  with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
    for entry, content in made.items():
      filler = content is None
      content = content or make_filler(entry)
      zipped.writestr(entry.file, content["text"])
      records.append(
        dict(
          file=entry.file,
          task=entry.task,
          rows=content["rows"],
          step=content["step"],
          filler=entry.filler if filler else None,
          no_label=content["no_label"],
        )
      )
  return buffer.getvalue(), records


def main(argv) -> None:
  """Writes the zips.

  Args:
    argv: unused.
  """
  del argv
  files.check_output(
    os.path.join(FLAGS.output_dir, "submission.json"), "--output_dir"
  )
  folder = os.path.join(FLAGS.model_dir, "test_eval")
  if not os.path.isdir(folder):
    raise errors.UserError(
      f"--model_dir={FLAGS.model_dir} holds no decoded test split ({folder} "
      "does not exist): run hypergrid_mtf.main on it with "
      "--gin_param=\"run.dataset_split = 'test'\" first."
    )
  for name in FLAGS.benchmarks:
    if name not in BENCHMARKS:
      raise errors.UserError(
        f"--benchmarks={name} is unknown: choose from {', '.join(BENCHMARKS)}."
      )
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  for entry in [e for name in FLAGS.benchmarks for e in BENCHMARKS[name]]:
    if entry.task and _predictions(folder, entry.task, FLAGS.step):
      data_checks.check_data(
        seqio.TaskRegistry.get(entry.task), FLAGS.t5_tfds_data_dir
      )
  report = {}
  for name in FLAGS.benchmarks:
    content, records = submission(name, folder, FLAGS.step, FLAGS.fill)
    path = os.path.join(FLAGS.output_dir, f"{name}.zip")
    files.write(path, content)
    report[name] = records
    console.say(f"wrote {path}")
    for r in records:
      source = f"step {r['step']}"
      if r["filler"] is not None:
        source = f"FILLER {r['filler']!r}"
      elif r["no_label"]:
        source += f", {r['no_label']} answers were no label"
      console.say(f"  {r['file']:<14} {r['rows']:>7,} rows  {source}")
  files.write(
    os.path.join(FLAGS.output_dir, "submission.json"),
    json.dumps(report, indent=1) + "\n",
  )


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_list("benchmarks", list(BENCHMARKS), "Which zips to make.")
  flags.DEFINE_string("output_dir", "submission", "Where the zips go.")
  flags.DEFINE_integer("step", None, "The checkpoint; the last if not given.")
  flags.DEFINE_bool("fill", False, "One answer for what was not decoded.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
