"""A task over CSV and JSON lines: what is read, and what is refused."""

import json

import gin
import pytest
import seqio
import tensorflow.compat.v2 as tf
import tensorflow_datasets as tfds

import t5_tasks
from hypergrid_mtf import errors
from hypergrid_mtf.run import source_files
from t5_tasks import mixtures, table, vocabularies

PAIRS = [("a, b", 'said "x"'), ("é", ""), ("two\nlines", "1")]


@pytest.fixture(autouse=True)
def _leave_no_trace():
  yield
  for name in ("mine", "table"):
    seqio.MixtureRegistry.remove(name)
    seqio.TaskRegistry.remove(name)
  vocabularies.use_vocabulary("t5")
  gin.clear_config()


def _write(folder):
  (folder / "train.csv").write_text(
    '\ufeffid,inputs,targets\r\n1,"a, b","said ""x"""\r\n2,é,\r\n'
    '3,"two\nlines",1\r\n'
  )
  rows = [dict(targets=b, inputs=a, more=[1]) for a, b in PAIRS[:2]]
  lines = [json.dumps(row) + "\n" for row in rows]
  (folder / "dev.jsonl").write_text("".join(lines))


def _read(split, **how):
  with tf.Graph().as_default():
    dataset = seqio.get_mixture_or_task("table").get_dataset(
      {"inputs": 32, "targets": 32}, split=split, num_epochs=1, **how
    )
    rows = list(tfds.as_numpy(dataset))
  keys = "inputs_pretokenized", "targets_pretokenized"
  return [tuple(row[key].decode() for key in keys) for row in rows]


def test_pairs_of_both_kinds_of_files(tmp_path, monkeypatch):
  _write(tmp_path)
  monkeypatch.chdir(tmp_path)
  where = "t5_tasks.table.define_table"
  gin.parse_config(
    f"{where}.name = 'table'\n{where}.train = 'train.csv'\n"
    f"{where}.validation = ['dev.jsonl', 'train.csv']\n"
    f"{where}.metrics = ['accuracy', 'bleu']\n"
    "t5_tasks.mixtures.define_mixture.name = 'mine'\n"
    "t5_tasks.mixtures.define_mixture.tasks = ['table']\n"
  )
  t5_tasks.define_from_gin()
  vocabularies.use_vocabulary("bytes")
  task = seqio.TaskRegistry.get("table")
  assert [f.__name__ for f in task.metric_fns] == ["accuracy", "bleu"]
  assert seqio.MixtureRegistry.get("mine").get_rate(task) == 3
  monkeypatch.chdir("/")
  assert _read("train", shuffle=False) == PAIRS
  assert _read("validation", shuffle=False) == [*PAIRS[:2], *PAIRS]
  with tf.io.gfile.GFile("ram://table/train.jsonl", "w") as f:
    f.write((tmp_path / "dev.jsonl").read_text())
  table.define_table("table", "ram://table/train.jsonl")
  vocabularies.use_vocabulary("bytes")
  assert _read("train", shuffle=False) == PAIRS[:2]
  table.define_table("table", f"{tmp_path}/train.csv")
  vocabularies.use_vocabulary("bytes")
  orders = [_read("train", shuffle=True, seed=seed) for seed in (1, 2, 1, 3, 4)]
  assert orders[0] == orders[2] and len(set(map(tuple, orders))) > 1
  assert all(sorted(order) == sorted(PAIRS) for order in orders)


@pytest.mark.parametrize(
  ("name", "content", "says"),
  [
    ("a.csv", b"inputs,targets\n", "has no rows"),
    ("a.csv", b"inputs,target\na,b\n", "line 2 .* a text is missing"),
    ("a.csv", b"inputs,targets\na,b\nc\n", "line 3 .* a text is missing"),
    ("a.csv", b"inputs,targets\na,b,c\n", "line 2 .* a text is missing"),
    ("a.csv", b'inputs,targets\n"a"b,c\n', "line 1 .* expected after"),
    ("a.csv", b"inputs,targets\n\xff,b\n", "line 2 .* not UTF-8"),
    (
      "a.jsonl",
      b'{"inputs": "a", "targets": 1}\n',
      "line 1 .* a text is missing",
    ),
    ("a.jsonl", b'["a", "b"]\n', "line 1 .* a text is missing"),
    ("a.jsonl", b'{"inputs": "a", "targets": "b"}\n{"inp', "line 2 .* Unterm"),
    ("a.jsonl", None, "cannot be read: No such file"),
    ("ram://a.jsonl", None, "cannot be read: NotFoundError"),
  ],
)
def test_rows_that_are_refused(tmp_path, name, content, says):
  """When they are read, and not when a model of them is opened."""
  path = name if "://" in name else tmp_path / name
  if content is not None:
    path.write_bytes(content)
  table.define_table("table", str(path))
  with pytest.raises(errors.UserError, match=f"{path}.*{says}"):
    source_files.check_task(seqio.TaskRegistry.get("table"), "train")


def test_bindings_that_are_refused():
  mixtures.define_mixture("mine", ["embedded_copy_v1"])
  for given, says in (
    (dict(train="a.csv"), "has files but no name"),
    (dict(name="mine", train="a.csv"), "is a mixture"),
    (dict(name="table"), "train = None: give a file that ends in .csv"),
    (dict(name="table", train=["a.csv", "b.tsv"]), "ends in .csv or .jsonl"),
    (dict(name="table", train="a.csv", metrics=["acc"]), "'acc' is not a func"),
  ):
    with pytest.raises(errors.UserError, match=says):
      table.define_table(**given)
