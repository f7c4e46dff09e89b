"""Submissions, from predictions on the made-up test sets."""

import csv
import io
import json
import os
import re
import zipfile

import pytest
import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds

from hypergrid_mtf import errors
from tests import command
from tools import submit
from tools.data import local_files

STEP = 20


def _inputs(task):
  """The test examples' inputs, in the order of decoding."""
  vocabulary = seqio.ByteVocabulary()
  feature = dict(inputs=seqio.Feature(vocabulary, add_eos=True))
  registered = seqio.TaskRegistry.get(task)
  copy = seqio.Task(
    "copy",
    registered.source,
    output_features={**feature, "targets": feature["inputs"]},
    preprocessors=registered.preprocessors,
  )
  with tf.Graph().as_default():
    dataset = copy.get_dataset(None, split="test", shuffle=False)
    return [e["inputs_pretokenized"].decode() for e in tfds.as_numpy(dataset)]


def _answer(entry, i):
  """A prediction as t5 writes it, for the example with the i-th number."""
  if entry.file == "STS-B.tsv":
    return f"{i}.25"
  if entry.file == "ReCoRD.jsonl":
    return f"answer {i}"
  label = i % len(entry.labels)
  if entry.file == "MultiRC.jsonl":
    return str({"group": "x", "value": label})
  return str(label)


@pytest.fixture(scope="module")
def numbers(tfds_dir):
  """{task: the numbers of its test examples, in the order of decoding}."""
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  tasks = [e.task for es in submit.BENCHMARKS.values() for e in es if e.task]
  yield {task: submit.indices(task) for task in tasks}
  seqio.set_tfds_data_dir_override(None)


@pytest.fixture
def decoded(numbers, tmp_path, monkeypatch):
  """A folder of predictions; made-up test sets count as the official ones."""
  rows = {}
  for entries in submit.BENCHMARKS.values():
    for entry in entries:
      if entry.task is None:
        rows[entry.data] = {"test": 7}
        continue
      ours = numbers[entry.task]
      rows[entry.data] = {"test": len(ours)}
      lines = "".join(
        f"{_answer(entry, sorted(ours).index(n))}\n" for n in ours
      )
      (tmp_path / f"{entry.task}_{STEP}_predictions").write_text(lines)
      (tmp_path / f"{entry.task}_3_predictions").write_text("old\n")
  monkeypatch.setattr(local_files, "OFFICIAL_ROWS", rows)
  monkeypatch.setattr(submit, "indices", numbers.get)
  return tmp_path


def _read(content):
  with zipfile.ZipFile(io.BytesIO(content)) as zipped:
    return {name: zipped.read(name).decode() for name in zipped.namelist()}


def _tsv(text):
  return [(r["index"], r["prediction"]) for r in _dicts(text)]


def _dicts(text):
  return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def _jsonl(text):
  return [json.loads(line) for line in text.splitlines()]


def test_glue(decoded):
  content, records = submit.submission("GLUE", str(decoded), None, False)
  files = _read(content)
  assert list(files) == [
    "CoLA.tsv",
    "SST-2.tsv",
    "MRPC.tsv",
    "STS-B.tsv",
    "QQP.tsv",
    "MNLI-m.tsv",
    "MNLI-mm.tsv",
    "QNLI.tsv",
    "RTE.tsv",
    "WNLI.tsv",
    "AX.tsv",
  ]
  assert _tsv(files["CoLA.tsv"]) == [
    ("0", "0"),
    ("1", "1"),
    ("2", "0"),
    ("3", "1"),
  ]
  assert [a for _, a in _tsv(files["RTE.tsv"])] == [
    "entailment",
    "not_entailment",
  ] * 2
  assert [a for _, a in _tsv(files["MNLI-m.tsv"])][:3] == [
    "entailment",
    "neutral",
    "contradiction",
  ]
  assert [a for _, a in _tsv(files["STS-B.tsv"])][:2] == ["0.250", "1.250"]
  assert {a for _, a in _tsv(files["WNLI.tsv"])} == {"0"}
  by_file = {r["file"]: r for r in records}
  assert by_file["WNLI.tsv"]["filler"] == "0"
  assert by_file["CoLA.tsv"]["filler"] is None
  assert by_file["CoLA.tsv"]["step"] == STEP


def test_super_glue(decoded):
  content, _ = submit.submission("SuperGLUE", str(decoded), STEP, False)
  files = {name: _jsonl(text) for name, text in _read(content).items()}
  assert set(files) == {
    f"{n}.jsonl"
    for n in ("BoolQ", "CB", "COPA", "MultiRC", "ReCoRD")
    + ("RTE", "WiC", "WSC", "AX-b", "AX-g")
  }
  assert files["BoolQ.jsonl"][:2] == [
    {"idx": 10, "label": "false"},
    {"idx": 11, "label": "true"},
  ]
  assert files["COPA.jsonl"][1] == {"idx": 11, "label": 1}
  assert files["CB.jsonl"][1]["label"] == "contradiction"
  assert files["WSC.jsonl"][:2] == [
    {"idx": 0, "label": "False"},
    {"idx": 1, "label": "True"},
  ]
  assert files["ReCoRD.jsonl"][0] == {"idx": 0, "label": "answer 0"}
  first = files["MultiRC.jsonl"][0]
  assert first["idx"] == 0
  assert [q["idx"] for q in first["passage"]["questions"]] == [0, 1]
  assert first["passage"]["questions"][0]["answers"] == [
    {"idx": 9, "label": 0},
    {"idx": 10, "label": 1},
    {"idx": 11, "label": 0},
  ]


def test_answers_keep_to_their_example(numbers):
  """Numbers are the data set's, not the order of decoding."""
  task = "glue_rte_v002"
  for (index,), text in zip(numbers[task], _inputs(task), strict=True):
    assert text.startswith(f"rte sentence1: {index} ")


def test_what_is_no_label_becomes_the_filler(decoded):
  path = decoded / f"glue_cola_v002_{STEP}_predictions"
  path.write_text("0\n-1\n1\n-1\n")
  content, records = submit.submission("GLUE", str(decoded), None, False)
  cola = _tsv(_read(content)["CoLA.tsv"])
  assert sorted(a for _, a in cola) == list("0111")
  assert {r["file"]: r["no_label"] for r in records}["CoLA.tsv"] == 2


def test_a_test_set_of_another_size_is_refused(decoded):
  (decoded / f"glue_cola_v002_{STEP}_predictions").write_text("0\n1\n")
  with pytest.raises(errors.UserError, match=r"CoLA.tsv needs 4 rows.* 2 pre"):
    submit.submission("GLUE", str(decoded), None, False)


def test_what_was_not_decoded_is_named_or_filled(decoded):
  for name in ("glue_mrpc_v002", "super_glue_multirc_v102"):
    for path in decoded.glob(f"{name}_*"):
      os.remove(path)
  with pytest.raises(errors.UserError, match="glue_mrpc_v002"):
    submit.submission("GLUE", str(decoded), None, False)
  content, records = submit.submission("GLUE", str(decoded), None, True)
  assert {a for _, a in _tsv(_read(content)["MRPC.tsv"])} == {"1"}
  assert {r["file"]: r["filler"] for r in records}["MRPC.tsv"] == "1"
  content, _ = submit.submission("SuperGLUE", str(decoded), None, True)
  filled = _jsonl(_read(content)["MultiRC.jsonl"])
  assert [p["idx"] for p in filled] == [0, 1]
  assert {
    a["label"]
    for p in filled
    for q in p["passage"]["questions"]
    for a in q["answers"]
  } == {0}


def test_all_tasks_and_diagnostics_from_a_model(
  numbers, tfds_dir, tmp_path, monkeypatch
):
  """From training over decoding to both zips, with nothing to fill."""
  train = [
    f"--model_dir={tmp_path}",
    "--gin_file=models/nano.gin",
    "--gin_file=hypergrid/L2.gin",
    "--gin_file=experiments/local_glue.gin",
    f"--gin_file={tfds_dir}/local_mixture.gin",
    f"--t5_tfds_data_dir={tfds_dir}",
    "--vocabulary=bytes",
    "--gin_param=run.sequence_length = {'inputs': 24, 'targets': 8}",
    "--gin_param=run.batch_size = ('sequences_per_batch', 8)",
    "--gin_param=run.train_steps = 2",
    "--gin_param=run.save_checkpoints_steps = 2",
  ]
  decode = [
    "--gin_file=experiments/local_eval.gin",
    "--gin_param=run.dataset_split = 'test'",
    "--gin_param=Bitransformer.decode.max_decode_length = 2",
  ]
  printed = command.run(train, [*train, *decode])
  said = "answers but no scores"
  for task in ("glue_ax_v002", "glue_mrpc_v002", "super_glue_axb_v102"):
    assert re.search(rf"^{task}: .*{said}$", printed, re.M)
  rows = {
    entry.data: {"test": len(numbers[entry.task]) if entry.task else 7}
    for entries in submit.BENCHMARKS.values()
    for entry in entries
  }
  monkeypatch.setattr(local_files, "OFFICIAL_ROWS", rows)
  monkeypatch.setattr(submit, "indices", numbers.get)
  for benchmark, filled in (("GLUE", {"WNLI.tsv"}), ("SuperGLUE", set())):
    content, records = submit.submission(
      benchmark, str(tmp_path / "test_eval"), 2, False
    )
    assert {r["file"] for r in records if r["filler"] is not None} == filled
    for entry in submit.BENCHMARKS[benchmark]:
      lines = _read(content)[entry.file].splitlines()
      if entry.file != "MultiRC.jsonl":  # a line a paragraph
        header = entry.file.endswith(".tsv")
        assert len(lines) == rows[entry.data]["test"] + header


def test_data_that_is_not_there_is_named(tmp_path):
  (tmp_path / "test_eval").mkdir()
  (tmp_path / "test_eval/glue_rte_v002_1_predictions").write_text("1\n")
  done = command.tool(
    "submit",
    f"--model_dir={tmp_path}",
    f"--t5_tfds_data_dir={tmp_path}",
    "--fill",
  )
  assert done.returncode == 2, done.stderr
  assert "does not hold: glue/rte" in done.stderr


def test_the_official_sizes():
  rows = {e.file: e.rows for es in submit.BENCHMARKS.values() for e in es}
  assert rows["CoLA.tsv"] == 1063 and rows["AX.tsv"] == 1104
  assert rows["ReCoRD.jsonl"] == 10000 and rows["AX-g.jsonl"] == 356
