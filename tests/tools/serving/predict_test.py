"""Lines that are asked, and lines that cannot be."""

import io
import json
import sys

import pytest
import seqio
import tensorflow as tf

import t5_tasks
from hypergrid_mtf import errors
from hypergrid_mtf.run import vocabulary_file
from t5_tasks import vocabulary_record
from tests import program
from tests.tools.serving import export_test
from tools import predict
from tools.serving import asked, lines, task_fields

GLUE = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb"]
SUPER_GLUE = ["boolq", "cb", "copa", "multirc", "rte", "wic"]
TASKS = [f"glue_{t}_v002" for t in GLUE]
TASKS += [f"super_glue_{t}_v102" for t in SUPER_GLUE]


class _Echo:
  """A model that answers with the text itself, at most 100 letters of it."""

  limits = {"inputs": 100, "outputs": 100}
  tasks = ("glue_rte_v002", "glue_stsb_v002", "embedded_rot_v1")

  def __init__(self, answers=None):
    self.batches = []
    self._answers = answers or {}

  def ask(self, texts):
    self.batches.append([len(t) for t in texts])
    cut = [len(t) > 100 for t in texts]
    outputs = [self._answers.get(t, t[:100]) for t in texts]
    scores = [-float(len(t)) for t in texts]
    return asked.Answers(outputs, scores, cut, [False] * len(texts))


def _run(monkeypatch, capsys, arguments, stdin=None):
  """(lines of standard output, of standard error)."""
  if stdin is not None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
  program.run("tools.predict", arguments, monkeypatch)
  said = capsys.readouterr()
  return said.out.split("\n")[:-1], said.err


def test_a_line_for_each_line(
  model_dir, saved_model, tmp_path, monkeypatch, capsys
):
  """The model's answers in the order of the lines, of both kinds of folder."""
  texts = ["copy: abc", "", "rot: " + "z" * 100_000, "sort: ba"]
  path = tmp_path / "inputs"
  path.write_text("".join(f"{text}\n" for text in texts))
  model = asked.of_saved_model(str(saved_model / "7"))
  assert model.tasks and model.limits["outputs"] == 6
  expected = [model.ask([text]).outputs[0] for text in texts]
  for given in (
    [f"--saved_model={saved_model}"],
    [f"--model_dir={model_dir}", "--max_output_tokens=6"],
  ):
    out = tmp_path / "outputs"
    given += [f"--input_file={path}", f"--output_file={out}", "--batch_size=2"]
    said, _ = _run(monkeypatch, capsys, given)
    assert out.read_text().split("\n")[:-1] == expected
    assert "1 of 4 lines were cut at 24 tokens; the first is line 3" in said


@pytest.fixture
def echo(monkeypatch):
  model = _Echo()
  monkeypatch.setattr(predict, "_model", lambda stack: model)
  return model


def test_lines_that_are_not_text(echo, monkeypatch, capsys):
  """The others are answered, and the number of lines stays."""
  raw = b"\xef\xbb\xbfa\nb\xff\r\nc\0\rd e \n\n" + b"x" * 100_000 + b"\nf"
  out, said = _run(monkeypatch, capsys, ["--scores"], raw)
  assert [line.split("\t")[0] for line in out] == [
    "a", "", "", "d e", "", "x" * 100, "f"
  ]  # fmt: skip
  assert [line.split("\t")[1] for line in out][:2] == ["-1", "nan"]
  assert (
    "2 lines were answered with an empty line; the first is line 2: byte 2 is "
    "not UTF-8 text" in said
  )
  assert "1 of 5 lines were cut at 100 tokens; the first is line 6" in said


def test_batches_are_of_one_length(echo, monkeypatch, capsys):
  texts = ["x" * n for n in (3, 9, 1, 8, 2)]
  raw = "\n".join(texts).encode()
  out, _ = _run(monkeypatch, capsys, ["--batch_size=2"], raw)
  assert out == texts
  assert echo.batches == [[9, 8], [3, 2], [1]]


@pytest.mark.parametrize(
  ("content", "expected"),
  [
    (b"", "is empty"),
    (b"\xff\xfea\0", "UTF-16 text, expected UTF-8"),
  ],
)
def test_files_that_are_not_text(
  echo, tmp_path, monkeypatch, content, expected
):
  path = tmp_path / "inputs"
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match=expected):
    program.run("tools.predict", [f"--input_file={path}"], monkeypatch)
  with pytest.raises(errors.UserError, match="is not a file"):
    program.run("tools.predict", [f"--input_file={path}.txt"], monkeypatch)


def test_a_blank_last_line_is_an_input_and_the_end_of_a_line_is_not():
  assert lines.split(b"a\n\n") == [b"a", b""]
  assert lines.split(b"a\nb") == lines.split(b"a\r\nb\r\n") == [b"a", b"b"]
  assert lines.split(b"a\rb\r") == [b"a", b"b"]
  assert lines.split(b"\n") == [b""]


def test_fields_of_a_task(echo, monkeypatch, capsys):
  text = "rte sentence1: A b. sentence2: C."
  echo._answers = {text: "entailment"}
  rows = [
    "index\tsentence2\tsentence1",
    "0\tC.\tA b.",
    "1\tC.",
    "2\td\te",
  ]
  out, said = _run(
    monkeypatch, capsys, ["--task=rte"], "\n".join(rows).encode()
  )
  assert out == ["entailment", "", "rte sentence1: e sentence2: d"]
  assert "1 line was answered with an empty line; the first is line 3" in said
  assert "1 of 2 answers are not a label (entailment, not_entailment)" in said
  given = [
    json.dumps({"sentence1": "A b.", "sentence2": "C.", "more": 1}),
    json.dumps({"sentence1": "A b."}),
    "{",
  ]
  out, said = _run(
    monkeypatch, capsys, ["--task=glue_rte_v002"], "\n".join(given).encode()
  )
  assert out == ["entailment", "", ""]
  assert "the field sentence2 is missing" in said
  out, _ = _run(monkeypatch, capsys, ["--task=rte"], b"A b.\tC.\n")
  assert out == ["entailment"]
  out, _ = _run(monkeypatch, capsys, ["--task=rot"], b"abc\n")
  assert out == ["rot: abc"]


def test_tasks_that_cannot_be_asked(echo, monkeypatch):
  with pytest.raises(errors.UserError, match="--task=xyz is not a task"):
    program.run("tools.predict", ["--task=xyz"], monkeypatch)
  known = ("glue_rte_v002", "super_glue_rte_v102", "super_glue_record_v102")
  with pytest.raises(errors.UserError, match="is several tasks"):
    task_fields.choose("rte", known)
  with pytest.raises(errors.UserError, match="the fields of super_glue_record"):
    task_fields.choose("record", known)
  with pytest.raises(errors.UserError, match="not registered here"):
    task_fields.choose("mine", ("mine_v1",))


@pytest.mark.parametrize("name", TASKS)
def test_inputs_are_those_of_the_task(name, tfds_dir):
  """Beside the task's own data set."""
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  try:
    task = seqio.TaskRegistry.get(name)
    known = task_fields.of_task(task)
    split = next(s for s in sorted(task.splits) if "validation" in s)
    source = task.source.get_dataset(split, shuffle=False)
    rows = [
      {field: row[field].decode() for field in known.fields}
      for row in source.as_numpy_iterator()
    ]
    expected = [
      e["inputs"].decode()
      for e in task.preprocessors[0](source).as_numpy_iterator()
    ]
  finally:
    seqio.set_tfds_data_dir_override(None)
  assert rows and known.inputs(rows) == expected
  assert all(text.startswith(known.prefix) for text in expected)


def test_a_conversation(echo, monkeypatch, capsys):
  """On a terminal, each line is answered at once."""
  given = iter(["abc", "x" * 101, "\udcff"])

  def typed(prompt):
    for line in given:
      return line
    raise EOFError

  monkeypatch.setattr("builtins.input", typed)
  monkeypatch.setattr(sys, "stdin", io.StringIO())
  monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
  program.run("tools.predict", [], monkeypatch)
  said = capsys.readouterr()
  assert said.out.split("\n")[:2] == ["abc", "x" * 100]
  assert "the line was cut" in said.err and "not UTF-8" in said.err


def test_folders_that_are_not_a_saved_model(saved_model, tmp_path, monkeypatch):
  def refused(folder):
    given = [f"--saved_model={folder}", f"--input_file={__file__}"]
    with pytest.raises(errors.UserError) as caught:
      program.run("tools.predict", given, monkeypatch)
    return str(caught.value)

  assert "is not the folder of a SavedModel" in refused(tmp_path)
  copy = tmp_path / "copy"
  for path in (saved_model / "7").rglob("*"):
    if path.is_file():
      to = copy / path.relative_to(saved_model / "7")
      to.parent.mkdir(parents=True, exist_ok=True)
      to.write_bytes(path.read_bytes())
  values = copy / "variables" / "variables.data-00000-of-00001"
  whole = values.read_bytes()
  values.write_bytes(whole[: len(whole) // 2])
  assert "is damaged" in refused(copy)
  values.write_bytes(whole)
  graph = copy / "saved_model.pb"
  graph.write_bytes(graph.read_bytes()[:-1000])
  assert "is damaged" in refused(copy)
  other = tf.Module()
  signature = tf.function(
    lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.string)]
  )
  tf.saved_model.save(other, str(tmp_path / "other"), signatures=signature)
  assert "does not answer texts" in refused(tmp_path / "other")


def test_what_names_a_model(tmp_path, monkeypatch):
  with pytest.raises(errors.UserError, match="neither is given"):
    program.run("tools.predict", [], monkeypatch)
  with pytest.raises(errors.UserError, match="both are given"):
    given = ["--model_dir=a", "--saved_model=b"]
    program.run("tools.predict", given, monkeypatch)


def test_another_vocabulary_than_the_training_s(tmp_path, monkeypatch):
  folder = export_test.write_model(tmp_path)
  given = [f"--model_dir={folder}", f"--input_file={__file__}"]
  mixture = t5_tasks.mixtures.get_mixture_or_task("embedded_v1")
  record = vocabulary_record.record(mixture)
  record["inputs"]["extra_ids"] += 1
  vocabulary_file.write(folder, record)
  with pytest.raises(errors.UserError, match="trained with another vocabulary"):
    program.run("tools.predict", given, monkeypatch)
