"""Submissions, from what t5's own postprocessors make of decoded texts."""

import csv
import io
import itertools
import json
import zipfile

import pytest
import seqio
from mesh_tensorflow.transformer import utils
from t5.models import utils as t5_utils

import t5_tasks  # noqa: F401  (registers the variants with task tokens)
from hypergrid_mtf import errors
from t5_tasks import mixtures
from tools import submit
from tools.data import local_files
from tools.experiments import decoded, submissions

STEP = 20
TOKEN = mixtures.TASK_TOKEN_SUFFIX
NONSENSE = "xyz"

_NLI = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")
_SAME = {n: dict(zip(n, n, strict=True)) for n in (_NLI, _TWO_WAY)}
_TRUTH = {"False": "false", "True": "true"}
# What a model says to the examples of a file in turn -> what the server reads.
SAID = {
  "CoLA.tsv": {"unacceptable": "0", "acceptable": "1"},
  "SST-2.tsv": {"negative": "0", "positive": "1"},
  "MRPC.tsv": {"not_equivalent": "0", "equivalent": "1"},
  "STS-B.tsv": {"3.2": "3.200", "-0.3": "0.000", "7": "5.000"},
  "QQP.tsv": {"not_duplicate": "0", "duplicate": "1"},
  "MNLI-m.tsv": _SAME[_NLI],
  "MNLI-mm.tsv": _SAME[_NLI],
  "QNLI.tsv": _SAME[_TWO_WAY],
  "RTE.tsv": _SAME[_TWO_WAY],
  "WNLI.tsv": {"not_entailment": "0", "entailment": "1"},
  "AX.tsv": _SAME[_NLI],
  "BoolQ.jsonl": _TRUTH,
  "CB.jsonl": _SAME[_NLI],
  "COPA.jsonl": {"choice1": 0, "choice2": 1},
  "MultiRC.jsonl": {"False": 0, "True": 1},
  "ReCoRD.jsonl": {
    "Paris": "Paris",
    "l'\u00c9mil": "l'\u00c9mil",
    'a "b"\u2028c\x0cd\x85e': 'a "b"\u2028c\x0cd\x85e',
    "{'value': 1}": "{'value': 1}",
  },
  "RTE.jsonl": _SAME[_TWO_WAY],
  "WiC.jsonl": _TRUTH,
  "WSC.jsonl": {"the Mark": "True", "a book": "False"},
  "AX-b.jsonl": _SAME[_TWO_WAY],
  "AX-g.jsonl": _SAME[_TWO_WAY],
}
# What becomes of an answer that is not a label: none of ReCoRD's is.
FILLER = {
  **dict.fromkeys(("CoLA.tsv", "SST-2.tsv", "MRPC.tsv"), "1"),
  **dict.fromkeys(("QQP.tsv", "WNLI.tsv"), "0"),
  "STS-B.tsv": "2.500",
  **dict.fromkeys(("BoolQ.jsonl", "WiC.jsonl"), "true"),
  **dict.fromkeys(("COPA.jsonl", "MultiRC.jsonl"), 0),
  "CB.jsonl": "neutral",
  "WSC.jsonl": "False",
}
ENTRIES = [e for entries in submissions.BENCHMARKS.values() for e in entries]
OFFICIAL = {e.file: e.rows for e in ENTRIES}


@pytest.fixture(autouse=True)
def made_up(official):
  """All tests are on made-up test sets."""


def write(folder, entry, examples, said, suffix="", step=STEP, writer=utils):
  """Predictions as an evaluation writes them: postprocessed, then as text."""
  task = seqio.TaskRegistry.get(entry.task + suffix)
  predictions = [
    task.postprocess_fn(text, example=example)
    for text, example in zip(said, examples, strict=True)
  ]
  stem = f"{folder}/{task.name}"
  writer.write_lines_to_file(predictions, f"{stem}_{step}_predictions")
  inputs = [example["inputs_pretokenized"] for example in examples]
  writer.write_lines_to_file(inputs, f"{stem}_inputs")


def read(content):
  """{file: {official number: answer}} of a zip."""
  found = {}
  with zipfile.ZipFile(io.BytesIO(content)) as zipped:
    for name in zipped.namelist():
      text = zipped.read(name).decode()
      if name.endswith(".tsv"):
        rows = csv.DictReader(io.StringIO(text), delimiter="\t")
        numbered = [((int(r["index"]),), r["prediction"]) for r in rows]
      elif name == "MultiRC.jsonl":
        numbered = [
          ((p["idx"], q["idx"], a["idx"]), a["label"])
          for p in map(json.loads, text.split("\n")[:-1])
          for q in p["passage"]["questions"]
          for a in q["answers"]
        ]
      else:
        rows = map(json.loads, text.split("\n")[:-1])
        numbered = [((r["idx"],), r["label"]) for r in rows]
      assert numbered == sorted(numbered, key=lambda pair: pair[0]), name
      found[name] = dict(numbered)
      assert len(found[name]) == len(numbered), name
  return found


def number(file, example):
  """The number the server has for an example; idx is as in its file."""
  if file == "MultiRC.jsonl":
    keys = ("idx/paragraph", "idx/question", "idx/answer")
  else:
    keys = ("idx/query",) if file == "ReCoRD.jsonl" else ("idx",)
  return tuple(int(example[key]) for key in keys)


@pytest.mark.parametrize("suffix", ["", TOKEN])
@pytest.mark.parametrize("benchmark", ["GLUE", "SuperGLUE"])
def test_every_file_holds_what_the_model_said(
  benchmark, suffix, examples, tmp_path
):
  """Some answers are nonsense, but for ReCoRD, which has no labels."""
  folder = f"ram://{tmp_path}/test_eval"
  expected, wrong = {}, {}
  for k, entry in enumerate(submissions.BENCHMARKS[benchmark]):
    file = entry.file
    pairs = list(SAID[file].items())
    if file != "ReCoRD.jsonl":
      filler = FILLER.get(file, "entailment")
      nonsense = ("nan" if suffix else NONSENSE) if k == 3 else NONSENSE
      nonsense = "" if file == "WSC.jsonl" else nonsense
      pairs.append((nonsense, filler))
    turn = list(
      itertools.islice(itertools.cycle(pairs), len(examples[entry.task]))
    )
    write(
      folder, entry, examples[entry.task], [text for text, _ in turn], suffix
    )
    expected[file] = {
      number(file, example): answer
      for example, (_, answer) in zip(examples[entry.task], turn, strict=True)
    }
    wrong[file] = sum(text in (NONSENSE, "nan", "") for text, _ in turn)
    # What stands beside it: another step, and a text of another task.
    write(
      folder,
      entry,
      examples[entry.task],
      [""] * len(examples[entry.task]),
      suffix,
      step=3,
    )
  found = decoded.find(f"ram://{tmp_path}", "test")
  content, records = submit.submission(submit.choose(benchmark, found, None))
  made = read(content)
  assert list(made) == list(expected)
  for file, answers in expected.items():
    assert made[file] == answers, file
  assert {r["file"]: r["no_label"] for r in records} == wrong
  assert wrong.pop("ReCoRD.jsonl", 0) == 0 and min(wrong.values()) >= 0
  assert sum(wrong.values()) >= 6
  assert {r["step"] for r in records} == {STEP}
  assert {r["filler"] for r in records} == {None}
  assert all(r["task"].endswith(suffix or "") for r in records)


def test_numbers_are_of_the_data_and_not_of_the_order(examples):
  """The made-up BoolQ counts down; texts begin with the number of their row."""
  entry = submissions.BENCHMARKS["SuperGLUE"][0]
  found = submissions.test_set(entry.task)
  assert found.numbers == [number(entry.file, e) for e in examples[entry.task]]
  assert sorted(found.numbers) == [(0,), (1,), (2,), (3,)]
  for (index,), text in zip(found.numbers, found.inputs, strict=True):
    assert f" question: {3 - index} " in text


def test_both_of_t5s_writers(examples, tmp_path):
  """That of the model API puts no newline at the end."""
  entry = submissions.BENCHMARKS["GLUE"][0]
  texts = ["acceptable", "unacceptable"] * 2
  for writer in (utils, t5_utils):
    folder = tmp_path / writer.__name__
    folder.mkdir()
    write(folder, entry, examples[entry.task], texts, writer=writer)
    predictions = decoded.read_folder(str(folder)).tasks[entry.task][STEP]
    text, _ = submissions.make_file(entry, predictions)
    assert text.count("\t1\n") == text.count("\t0\n") == 2


@pytest.mark.parametrize(
  ("file", "line", "answer"),
  [
    ("STS-B.tsv", "nan", None),
    ("STS-B.tsv", "inf", None),
    ("STS-B.tsv", "-1.0", None),
    ("STS-B.tsv", "-0.3", "0.000"),
    ("STS-B.tsv", "-0.0", "0.000"),
    ("STS-B.tsv", "1e-05", "0.000"),
    ("STS-B.tsv", "4.99951", "5.000"),
    ("STS-B.tsv", "500.0", "5.000"),
    ("ReCoRD.jsonl", "{'value': 'Paris'}", "Paris"),
    ("ReCoRD.jsonl", "{'value': \"it's\"}", "it's"),
    ("ReCoRD.jsonl", "{'value': ''}", ""),
    ("ReCoRD.jsonl", "Paris", "Paris"),  # t5 before 2022
    ("MultiRC.jsonl", "{'value': 1}", 1),
    ("MultiRC.jsonl", "{'value': -1}", None),
    ("CoLA.tsv", "-1", None),
  ],
)
def test_values(file, line, answer):
  (entry,) = (e for e in ENTRIES if e.file == file)
  found, wrong = submissions.answers(entry, [line])
  assert wrong == (answer is None)
  assert found == [entry.filler if answer is None else answer]


@pytest.mark.parametrize(
  ("file", "line"),
  [
    ("CoLA.tsv", "acceptable"),
    ("CoLA.tsv", "2"),
    ("CoLA.tsv", "-12.25"),  # a log likelihood
    ("CoLA.tsv", ""),
    ("CoLA.tsv", "-2"),
    ("STS-B.tsv", "three"),
    ("MultiRC.jsonl", "{'value': 1, "),
    ("MultiRC.jsonl", "{'value': None}"),
    ("ReCoRD.jsonl", "{'value': 'Par"),
    ("ReCoRD.jsonl", "{'answer': 'Paris'}"),
  ],
)
def test_what_is_no_prediction_of_the_task_is_refused(file, line):
  (entry,) = (e for e in ENTRIES if e.file == file)
  good = {"STS-B.tsv": "1.0", "ReCoRD.jsonl": "x"}.get(file, "0")
  with pytest.raises(errors.UserError) as e:
    submissions.answers(entry, [good, line], "runs/x_1_predictions")
  assert str(e.value).startswith(
    f"runs/x_1_predictions, line 2: {line!r} is not what t5 predicts for {file}"
  )


def _with_numbers(task, numbers):
  found = submissions.test_set(task)
  return submissions.TestSet(numbers, found.inputs[: len(numbers)])


def test_what_is_not_the_official_test_set_is_refused(
  examples, tmp_path, monkeypatch
):
  entry = submissions.BENCHMARKS["GLUE"][0]
  texts = ["acceptable"] * 4
  write(tmp_path, entry, examples[entry.task], texts)
  predictions = decoded.read_folder(str(tmp_path)).tasks[entry.task][STEP]
  good = submissions.test_set(entry.task)

  def refused(found, *words):
    with monkeypatch.context() as patch:
      patch.setattr(submissions, "test_set", lambda task: found)
      with pytest.raises(errors.UserError) as e:
        submissions.make_file(entry, predictions)
    for word in words:
      assert word in str(e.value), str(e.value)

  def numbered(*numbers):
    return submissions.TestSet([(n,) for n in numbers], good.inputs)

  refused(numbered(0, 1, 1, 3), "two examples", "the same number")
  refused(numbered(0, 1, 2, 4), "has the number 3", "0 to 3")
  refused(numbered(0, 1, 2), "needs 4 rows", "has 3 examples")
  refused(
    submissions.TestSet(good.numbers, good.inputs[::-1]),
    f"{tmp_path}/glue_cola_v002_inputs, line 1: ",
    "--t5_tfds_data_dir",
  )
  utils.write_lines_to_file([0, 1], predictions.path)
  refused(good, "needs 4 rows", f"{predictions.path} has 2 predictions")


def test_fillers_have_the_rows_of_the_test_set(monkeypatch):
  for entry in ENTRIES:
    text, record = submissions.make_file(entry, None)
    if entry.file != "MultiRC.jsonl":  # a line a paragraph
      lines = text.split("\n")[:-1]
      assert len(lines) == entry.rows + entry.file.endswith(".tsv")
    assert record["filler"] == FILLER.get(
      entry.file, "" if entry.file == "ReCoRD.jsonl" else "entailment"
    )
  rows = {**local_files.OFFICIAL_ROWS, "super_glue/multirc": {"test": 9693}}
  monkeypatch.setattr(local_files, "OFFICIAL_ROWS", rows)
  (multirc,) = (e for e in ENTRIES if e.file == "MultiRC.jsonl")
  with pytest.raises(errors.UserError, match=r"needs 9693 rows.* 12 examples"):
    submissions.make_file(multirc, None)


def test_a_step_is_that_of_all_tasks(examples, tmp_path, capsys):
  cola, sst2 = submissions.BENCHMARKS["GLUE"][:2]

  def decode(entry, step, suffix=""):
    said = [NONSENSE] * len(examples[entry.task])
    write(tmp_path, entry, examples[entry.task], said, suffix, step)
    return decoded.read_folder(str(tmp_path))

  decode(cola, 10)
  found = decode(sst2, 20)
  assert submit.choose("SuperGLUE", found, None) is None
  assert submit.choose("GLUE", found, 99) is None
  with pytest.raises(errors.UserError, match="glue_cola_v002: step 10; glue_s"):
    submit.choose("GLUE", found, None)
  chosen = submit.choose("GLUE", found, 10)
  assert [e.file for e, p in chosen.items() if p] == ["CoLA.tsv"]
  found = decode(sst2, 10)
  chosen = submit.choose("GLUE", found, None)
  assert {p.step for p in chosen.values() if p} == {10}
  said = capsys.readouterr().out
  assert (
    "using step 10, the last one of all tasks; step 20 has only glue_sst2"
    in said
  )
  with pytest.raises(errors.UserError, match="and of glue_cola_v002_task_toke"):
    decode(cola, 10, TOKEN)


def test_the_official_sizes():
  assert OFFICIAL["CoLA.tsv"] == 1063 and OFFICIAL["AX.tsv"] == 1104
  assert OFFICIAL["ReCoRD.jsonl"] == 10000 and OFFICIAL["AX-g.jsonl"] == 356
  assert OFFICIAL["MultiRC.jsonl"] == 9693
  assert OFFICIAL.keys() == SAID.keys()
