"""Files of inputs that are answered, and inputs that cannot be."""

import csv
import io
import json
import os
import sys
import threading

import pytest
import tensorflow as tf

import t5_tasks
from hypergrid_mtf import errors
from hypergrid_mtf.run import vocabulary_file
from t5_tasks import vocabulary_record
from tests import program
from tests.tools.serving import model_dirs
from tools import predict
from tools.serving import loaded


class _Echo:
  """A model that answers with the text itself, at most 100 letters of it."""

  def __init__(self):
    self.batches = []

  def __call__(self, inputs):
    texts = [text.decode() for text in inputs.numpy()]
    self.batches.append([len(t) for t in texts])
    return dict(
      outputs=tf.constant([t[:100] for t in texts]),
      scores=tf.constant([-float(len(t)) for t in texts]),
      inputs_cut=tf.constant([len(t) > 100 for t in texts]),
      outputs_cut=tf.constant([False] * len(texts)),
    )


@pytest.fixture
def echo(monkeypatch):
  model = _Echo()
  limits = {"inputs": 100, "outputs": 100}
  monkeypatch.setattr(predict, "_open_function", lambda _: (model, limits, 0))
  return model


def _run(monkeypatch, capsysbinary, arguments=(), stdin=b""):
  """(lines of standard output, standard error)."""
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
  program.run("tools.predict", arguments, monkeypatch)
  said = capsysbinary.readouterr()
  out = said.out.decode("utf-8", "replace")
  return out.split("\n")[:-1], said.err.decode()


def test_an_answer_for_each_line(model_dir, saved_model, tmp_path, monkeypatch):
  """In the order of the lines, of both kinds of folder."""
  texts = ["copy: abc", "", "rot: " + "z" * 100_000, "sort: ba"]
  path, out = tmp_path / "inputs", tmp_path / "outputs"
  path.write_text("".join(f"{text}\n" for text in texts))
  function, limits, _kept = loaded.load(str(saved_model / "7"))
  assert limits["outputs"] == 6
  expected = []
  for text in texts:
    (found,) = function(inputs=tf.constant([text]))["outputs"].numpy()
    expected.append(" ".join(found.decode("utf-8", "replace").splitlines()))
  for given in (
    [f"--saved_model={saved_model}"],
    [f"--model_dir={model_dir}", "--max_output_tokens=6"],
  ):
    given += [f"--input_file={path}", f"--output_file={out}", "--batch_size=2"]
    program.run("tools.predict", given, monkeypatch)
    assert out.read_text().split("\n")[:-1] == expected


def test_lines_that_are_invalid(echo, monkeypatch, capsysbinary):
  """The others are answered, and the number of lines stays."""
  raw = b"\xef\xbb\xbfa\nb\xff\r\nc\0\rd e \n\n" + b"x" * 100_000 + b"\nf"
  out, said = _run(monkeypatch, capsysbinary, ["--scores"], raw)
  assert [line.split("\t")[0] for line in out] == [
    "a", "", "", "d e", "", "x" * 100, "f"
  ]  # fmt: skip
  assert [line.split("\t")[1] for line in out][:2] == ["-1", "nan"]
  assert "2 of 7 inputs are invalid and got an empty answer" in said
  assert "the first is input 2: it has a NUL byte or is not UTF-8" in said
  assert "1 of 5 inputs were cut at 100 tokens; the first is that of" in said


@pytest.mark.parametrize(
  ("raw", "expected"),
  [
    (b"a\n\n", ["a", ""]),
    (b"a\nb", ["a", "b"]),
    (b"a\r\nb\r\n", ["a", "b"]),
    (b"a\rb\r", ["a", "b"]),
    (b"\n", [""]),
  ],
)
def test_what_ends_a_line(echo, monkeypatch, capsysbinary, raw, expected):
  assert _run(monkeypatch, capsysbinary, (), raw)[0] == expected


def test_batches_are_of_one_length(echo, monkeypatch, capsysbinary):
  texts = ["x" * n for n in (3, 9, 1, 8, 2)]
  raw = "\n".join(texts).encode()
  out, _ = _run(monkeypatch, capsysbinary, ["--batch_size=2"], raw)
  assert out == texts
  assert echo.batches == [[9, 8], [3, 2], [1]]


def test_columns_are_kept(echo, tmp_path, monkeypatch, capsysbinary):
  path, out = tmp_path / "in.csv", tmp_path / "out.csv"
  path.write_bytes(
    b'id,inputs,note\r\n1,"a, ""b""",x\n2,"two\nlines",\xff\n3\n'
    b"4,c,d,e\n5,f\xff,\n"
  )
  given = [f"--input_file={path}", f"--output_file={out}"]
  _, said = _run(monkeypatch, capsysbinary, given)
  with open(out, encoding="utf-8", errors="replace", newline="") as f:
    rows = list(csv.DictReader(f))
  assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
  assert [row["outputs"] for row in rows] == [
    'a, "b"',
    "two\nlines",
    "",
    "",
    "",
  ]
  assert rows[0]["note"] == "x" and rows[0]["scores"] == "-6.0"
  assert "3 of 5 inputs are invalid" in said and "number of columns" in said
  # A text from a file of columns, and columns from a text.
  lines, _ = _run(monkeypatch, capsysbinary, given[:1])
  assert lines[0] == "id,inputs,note,outputs,scores,outputs_cut"
  _run(monkeypatch, capsysbinary, given[1:], b"z\n")
  assert (
    out.read_text() == "inputs,outputs,scores,outputs_cut\nz,z,-1.0,False\n"
  )


def test_a_pipe_is_read(echo, tmp_path, monkeypatch, capsysbinary):
  pipe = tmp_path / "pipe"
  os.mkfifo(pipe)
  writer = threading.Thread(target=pipe.write_text, args=("a\nb\n",))
  writer.start()
  out, _ = _run(monkeypatch, capsysbinary, [f"--input_file={pipe}"])
  writer.join()
  assert out == ["a", "b"]


@pytest.mark.parametrize(
  ("name", "content", "expected"),
  [
    ("a", b"", "is empty"),
    ("a", b"\xff\xfea\0", "is UTF-16: give UTF-8 text"),
    ("a", None, r"a cannot be read \(.*No such file"),
    (
      "a.csv",
      b"x,y\n1,2\n",
      "has no column 'inputs' in its first line, only x, y",
    ),
    ("a.csv", b'inputs\n"a"b\n', "a.csv, line 2, is not CSV"),
  ],
)
def test_files_that_are_refused(
  echo, tmp_path, monkeypatch, name, content, expected
):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.UserError, match=expected):
    program.run("tools.predict", [f"--input_file={path}"], monkeypatch)


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    ([], "neither is given"),
    (["--model_dir=a", "--saved_model=b"], "both are given"),
    (["--saved_model=a", "--beam_size=4"], "--beam_size=4 was fixed when a"),
    (["--saved_model=a", "--batch_size=0"], "--batch_size=0 is too small"),
  ],
)
def test_flags_that_are_refused(monkeypatch, given, expected):
  given = [*given, f"--input_file={__file__}"]
  with pytest.raises(errors.UserError, match=expected):
    program.run("tools.predict", given, monkeypatch)


def test_folders_that_are_not_a_saved_model(saved_model, tmp_path):
  def refused(folder):
    with pytest.raises(errors.UserError) as caught:
      loaded.load(str(folder))
    return str(caught.value)

  assert "is not the folder of a SavedModel" in refused(tmp_path)
  copy = tmp_path / "copy"
  for path in (saved_model / "7").rglob("*"):
    if path.is_file():
      to = copy / path.relative_to(saved_model / "7")
      to.parent.mkdir(parents=True, exist_ok=True)
      to.write_bytes(path.read_bytes())
  for name, left in (
    ("variables/variables.data-00000-of-00001", 0.5),
    ("saved_model.pb", 0.9),
    ("hypergrid_mtf.json", 0.5),
  ):
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: int(len(whole) * left)])
    assert "is damaged" in refused(copy), name
    (copy / name).write_bytes(whole)
  content = json.loads(whole)
  (copy / name).write_text(json.dumps({**content, "schema": 1}))
  assert loaded.load(str(copy))[1] == content["limits"]
  signature = tf.function(
    lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.string)]
  )
  other = str(tmp_path / "other")
  tf.saved_model.save(tf.Module(), other, signatures=signature)
  assert "does not answer texts" in refused(other)


def test_another_vocabulary_than_the_training_s(tmp_path, monkeypatch):
  folder = model_dirs.make(tmp_path)
  mixture = t5_tasks.mixtures.get_mixture_or_task("embedded_v1")
  record = vocabulary_record.record(mixture)
  record["inputs"]["extra_ids"] += 1
  vocabulary_file.write(folder, record)
  given = [f"--model_dir={folder}", f"--input_file={__file__}"]
  with pytest.raises(errors.UserError, match="trained with another vocabulary"):
    program.run("tools.predict", given, monkeypatch)
