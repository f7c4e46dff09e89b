"""Errors in the data, reported before a graph is built, with file and line."""

import functools
import importlib
import json
import pathlib
import types

import numpy as np
import pytest
import seqio
import tensorflow as tf
from t5.data import preprocessors

import hypergrid_mtf  # noqa: F401  (patches the stack)
from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import examples as examples_lib
from hypergrid_mtf.run import source_files
from hypergrid_mtf.run.checks import data as data_checks

_BYTES = seqio.Feature(seqio.ByteVocabulary(100), add_eos=True)


def _task(name, source, *first):
  """A task that tokenizes what its first preprocessors give."""
  return seqio.Task(
    name,
    source=source,
    preprocessors=[*first, seqio.preprocessors.tokenize],
    output_features={"inputs": _BYTES, "targets": _BYTES},
  )


def _tsv(path, *, skip=0, **parse):
  return _task(
    "mine",
    seqio.TextLineDataSource({"train": str(path)}, skip_header_lines=skip),
    functools.partial(preprocessors.parse_tsv, **parse),
  )


def _function(name, rows, splits=("train",), **counts):
  def dataset(split, shuffle_files, seed=None):
    del split, shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices(
      {key: np.array(rows, "S") for key in ("inputs", "targets")}
    )

  return _task(
    name,
    seqio.FunctionDataSource(
      dataset, splits=splits, num_input_examples=counts or None
    ),
  )


def _by_upstream(task):
  """How many examples t5 reads; None if it fails."""
  try:
    with tf.Graph().as_default():
      ds = task.get_dataset({"inputs": 8, "targets": 8}, "train", shuffle=False)
      return len(list(seqio.utils.tfds.as_numpy(ds)))
  except (tf.errors.OpError, ValueError):
    return None


_GOOD = {
  "two columns": (b"a\tb\nc\td\n", {}),
  "no last end": (b"a\tb\nc\td", {}),
  "CRLF": (b"a\tb\r\nc\td\r\n", {}),
  "an empty target": (b"a\tb\nc\t\n", {}),
  "a third column throughout": (b"a\tb\tx\nc\td\ty\n", {}),
  "columns of choice": (b"a\tb\nc\td\tx\n", {"field_columns": [0, 1]}),
  "commas": (b"a,b\nc\t,d\n", {"field_delim": ","}),
  "a header": (b"\xef\xbb\xbftitle\na\tb\nc\td\n", {"skip": 1}),
}
_BAD = {
  "one column": (b"a\tb\nc\n", {}, 2, "1 tab-separated column, expected 2"),
  "three columns": (b"a\tb\nc\td\te\n", {}, 2, "3 tab-separated columns, exp"),
  "a first of three": (b"a\tb\tc\nc\td\n", {}, 2, "2 tab-.*, expected 3"),
  "a blank row": (b"a\tb\n\nc\td\n", {}, 2, "an empty row, expected 2"),
  "a blank last row": (b"a\tb\n\r\n", {}, 2, "an empty row, expected 2"),
  "blank, of one": (b"a\n\n", {"field_names": ["targets"]}, 2, "an empty row"),
  "too few for the choice": (
    b"a\tb\n",
    {"field_columns": [0, 2]},
    1,
    "2 tab-separated columns, expected 3",
  ),
  "no comma": (b"a,b\nc\td\n", {"field_delim": ","}, 2, "1 ','-separated col"),
  "after a header": (b"title\na\n", {"skip": 1}, 2, "1 tab-separated column"),
  "UTF-16": ("a\tb\n".encode("utf-16"), {}, 1, "UTF-16 text"),
  "NUL": (b"a\tb\nc\0\td\n", {}, 2, "byte 2 is NUL"),
  "Latin-1": (b"a\tb\nc\xe9\td\n", {}, 2, "byte 2 is not UTF-8"),
  "a mark": (b"\xef\xbb\xbfa\tb\n", {}, 1, "byte-order mark"),
  "CR": (b"a\tb\rc\td\r", {}, 1, "carriage return"),
  "empty": (b"", {}, None, "has no rows: give one example per line"),
  "only a header": (b"title\n", {"skip": 1}, None, "no rows.*1 of header"),
}


@pytest.mark.parametrize("case", _GOOD)
def test_what_t5_reads_passes(case, tmp_path):
  content, settings = _GOOD[case]
  path = tmp_path / "train.tsv"
  path.write_bytes(content)
  task = _tsv(path, **settings)
  examples_lib.check_examples([task], "train")
  assert _by_upstream(task) == 2


@pytest.mark.parametrize("case", _BAD)
def test_a_bad_row_has_file_and_line(case, tmp_path):
  content, settings, line, says = _BAD[case]
  path = tmp_path / "train.tsv"
  path.write_bytes(content)
  task = _tsv(path, **settings)
  place = f"{path}, line {line} " if line else f"{path} "
  match = f"^{place}.*split 'train' of the task 'mine'.*{says}"
  with pytest.raises(UserError, match=match) as error:
    examples_lib.check_examples([task], "train")
  assert "\n" not in str(error.value)


def test_t5_stops_at_rows_of_another_number_of_columns(tmp_path):
  # So these checks refuse nothing that t5 would read.
  for case in ("one column", "a blank row", "blank, of one", "no comma"):
    content, settings, *_ = _BAD[case]
    (tmp_path / "t").write_bytes(content)
    settings = {k: v for k, v in settings.items() if k != "field_names"}
    assert _by_upstream(_tsv(tmp_path / "t", **settings)) is None, case


def test_files_that_are_not_there(tmp_path):
  for path, says in (
    (tmp_path / "no.tsv", "no.tsv .*does not exist"),
    (tmp_path / "no*.tsv", r"no\*.tsv .*does not exist"),
    (tmp_path, "is a folder"),
  ):
    with pytest.raises(UserError, match=f"{says}: name a file"):
      examples_lib.check_examples([_tsv(path)], "train")
  # Of several files one may be empty, and is not there for evaluation alone.
  (tmp_path / "a").write_text("a\tb\n")
  (tmp_path / "b").write_text("")
  paths = [str(tmp_path / "a"), str(tmp_path / "b")]
  source = seqio.TextLineDataSource({"train": paths, "test": "/nowhere"})
  task = _task("several", source, preprocessors.parse_tsv)
  examples_lib.check_examples([task], "train")
  examples_lib.check_examples([task], "validation")
  with pytest.raises(UserError, match="/nowhere .*'test'.*does not exist"):
    data_checks.check_split(task, "test")
  records = seqio.TFExampleDataSource({"train": paths[1]}, {})
  with pytest.raises(UserError, match="is empty: give examples"):
    examples_lib.check_examples([_task("records", records)], "train")


def test_tsv_dataset_fn(tmp_path):
  path = tmp_path / "t.tsv"
  path.write_bytes(b"a\tb\nc\td\n")
  source_files.check_tsv(str(path))
  source_files.check_tsv([str(path), str(path)])
  for content, says in (
    (b"a\tb\nc\n", "line 2 .tsv_dataset_fn.filename.: 1 tab-separated column,"),
    (b"a\tb\tc\n", "line 1 .*: 3 tab-separated columns, expected 2"),
    (b"a\tb\n\n", "line 2 .*: an empty row"),
    (b"", "has no rows"),
  ):
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}.*{says}"):
      source_files.check_tsv(str(path))
  for filename, says in (
    (None, "tsv_dataset_fn.filename is not set"),
    ("/nowhere/t.tsv", "/nowhere/t.tsv .*does not exist"),
  ):
    with pytest.raises(UserError, match=says):
      source_files.check_tsv(filename)


def test_a_source_without_examples():
  full, empty = _function("full", ["a", "b", "c"]), _function("empty", [])
  declared = _function("declared", ["a"], train=0)
  examples_lib.check_examples([full, empty], "train")  # Not known yet.
  with pytest.raises(UserError, match="'declared' has no examples"):
    examples_lib.check_examples([full, declared], "train")
  found = examples_lib.first_examples([full], "train", 2, {"inputs": 9})
  assert [row["inputs"].tolist() for row in found["full"]] == [[100], [101]]
  assert examples_lib.texts(found, "inputs") == ["a", "b"]
  with pytest.raises(UserError, match="'empty' has no examples"):
    examples_lib.first_examples([full, empty], "train", 2, None)
  filtered = _task(
    "filtered",
    full.source,
    lambda ds: ds.filter(lambda ex: tf.strings.length(ex["inputs"]) > 1),
  )
  with pytest.raises(UserError, match="drop all of them"):
    examples_lib.first_examples([filtered], "train", 2, 16)

  def broken(split, shuffle_files):
    raise OSError("the disk is gone\nand more")

  task = _task("broken", seqio.FunctionDataSource(broken, splits=["train"]))
  with pytest.raises(
    UserError, match="'broken' cannot be read: .*disk is gone"
  ):
    examples_lib.first_examples([task], "train", 2, 16)


def test_what_is_trained_on():
  full = _function("full", ["a"])
  only_eval = _function("only_eval", ["a"], splits=("validation",))
  mixture = seqio.Mixture("m", [(full, 1.0), (only_eval, 2.0)])
  assert examples_lib.training_tasks(mixture) == [full]
  assert examples_lib.training_tasks(full) == [full]
  for tasks, says in (
    ([(full, 0.0), (only_eval, 1.0)], "rate above 0 .only_eval. none has a tr"),
    ([(full, 0.0), (only_eval, 0.0)], "every task has rate 0"),
    (
      [(full, lambda task: 1 / 0)],
      "rate of the task 'full'.*ZeroDivisionError: division",
    ),
  ):
    with pytest.raises(UserError, match=f"{says}"):
      examples_lib.training_tasks(seqio.Mixture("m", tasks))
  with pytest.raises(UserError, match="nothing to train on in only_eval"):
    examples_lib.training_tasks(only_eval)


def _of_tfds(name):
  return _task("of_tfds", seqio.TfdsDataSource(name))


@pytest.fixture
def no_bucket(monkeypatch):
  """Fails if TFDS is asked for anything that is not on this machine."""
  from tensorflow_datasets.core.utils import gcs_utils

  def asked(path):
    raise AssertionError(path)

  monkeypatch.setattr(gcs_utils, "exists", asked)
  monkeypatch.setattr(data_checks, "_online", lambda: False)
  yield
  seqio.set_tfds_data_dir_override(None)


def test_an_empty_folder_that_tfds_fills(no_bucket, tmp_path, capsys):
  """Before the graph, and without internet where nothing is fetched."""
  import tensorflow_datasets as tfds

  class Tens(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
      text = tfds.features.Text()
      features = tfds.features.FeaturesDict({"inputs": text, "targets": text})
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {"train": self._generate_examples()}

    def _generate_examples(self):
      for n in range(10):
        yield n, {"inputs": str(n), "targets": str(-n)}

  seqio.set_tfds_data_dir_override(str(tmp_path))
  task = _of_tfds("tens:1.2.0")
  data_checks.check_data(task, str(tmp_path))
  said = capsys.readouterr().out
  assert said.startswith(f"TFDS is making tens:1.2.0 in {tmp_path}, including")
  found = examples_lib.first_examples([task], "train", 20, None)
  assert len(found["of_tfds"]) == 10
  data_checks.check_data(task, str(tmp_path))
  assert not capsys.readouterr().out
  (path,) = (tmp_path / "tens/1.2.0").glob("*tfrecord*")
  content = path.read_bytes()
  # As another process finds it.
  type(task.source.tfds_dataset)._MEMOIZED_BUILDERS.clear()
  examples_lib.check_examples([task], "train")
  for size, says in (
    (16 + int.from_bytes(content[:8], "little"), "hold 1 of 10 examples: remo"),
    (len(content) - 1, "is cut after 9 examples: remove"),
  ):
    path.write_bytes(content[:size])
    with pytest.raises(UserError, match=f"'of_tfds' is damaged: .* {says}"):
      examples_lib.check_examples([task], "train")
  other = tmp_path / "other"
  other.mkdir()
  Tens._generate_examples = lambda self: iter([(1 / 0, {})])
  seqio.set_tfds_data_dir_override(str(other))
  with pytest.raises(UserError, match="TFDS cannot make tens:1.2.0 in --t5_tf"):
    data_checks.check_data(_of_tfds("tens:1.2.0"), str(other))


def test_an_empty_folder_that_tfds_cannot_fill(no_bucket, tmp_path):
  seqio.set_tfds_data_dir_override(str(tmp_path))
  for name, why in (
    ("glue/cola:1.0.0", "TFDS .* makes glue 2.0.0 and not 1.0.0: prepare"),
    ("no_such_set:1.0.0", "TFDS .* does not know it"),
    ("super_glue/cb:1.0.2", "cannot download them without internet"),
  ):
    with pytest.raises(UserError, match=why) as error:
      data_checks.check_data(_of_tfds(name), str(tmp_path))
    assert f"in --t5_tfds_data_dir={tmp_path}: {name}; " in str(error.value)
    assert "\n" not in str(error.value)
  assert not list(tmp_path.iterdir())


def test_what_the_public_bucket_may_have_is_not_refused(no_bucket, monkeypatch):
  task = _of_tfds("glue/cola:1.0.0")
  with pytest.raises(UserError, match="cannot be downloaded without internet"):
    data_checks.check_data(task, None)
  monkeypatch.setattr(data_checks, "_online", lambda: True)
  data_checks.check_data(task, None)
  run = types.SimpleNamespace(
    flags=types.SimpleNamespace(t5_tfds_data_dir=None),
    mixture=task,
    trains=True,
    reader="mesh_train_dataset_fn",
    use_cached=False,
  )
  (said,) = data_checks.note_bucket(run)
  assert "and fail if they are not in the bucket (TFDS" in said
  assert "prepare_data --download" in said


@pytest.fixture
def cache(tmp_path):
  """A cached task of two files, with three examples and two."""
  task = types.SimpleNamespace(name="own_v1", cache_dir=str(tmp_path))
  for content, path_of in (
    ({"num_shards": 2}, seqio.get_cached_info_path),
    ({"examples": 5}, seqio.get_cached_stats_path),
  ):
    pathlib.Path(path_of(tmp_path, "train")).write_text(json.dumps(content))
  prefix = seqio.get_cached_tfrecord_prefix(tmp_path, "train")
  for i, records in enumerate(([b"a", b"bb", b"ccc"], [b"d" * 70, b""])):
    with tf.io.TFRecordWriter(f"{prefix}-0000{i}-of-00002") as writer:
      for record in records:
        writer.write(record)
  source_files.check_cache(task, "train")
  return task, pathlib.Path(f"{prefix}-00000-of-00002")


@pytest.mark.parametrize(
  ("size", "says"),
  [
    (16 + 1 + 16 + 2, "hold 4 of 5 examples"),  # between two of them
    (16 + 1 + 9, "-00000-of-00002 is cut after 1 examples"),
    (0, "hold 2 of 5 examples"),
    (None, "-00000-of-00002 is missing"),
  ],
)
def test_a_cached_task_is_whole(cache, size, says):
  task, path = cache
  content = path.read_bytes()
  path.unlink()
  if size is not None:
    path.write_bytes(content[:size])
  with pytest.raises(UserError, match=says) as e:
    source_files.check_cache(task, "train")
  assert "'own_v1' is damaged" in str(e.value)
  assert "tools.cache_tasks" in str(e.value)


def test_a_split_without_its_number_is_refused():
  task = _function("mine", ["a"], splits=("train", "validation"), train=1)
  with pytest.raises(KeyError):
    task.get_dataset({"inputs": 8, "targets": 8}, "validation")
  with pytest.raises(UserError, match="'mine' has no number for its split 'v"):
    examples_lib.check_examples([task], "validation")
  examples_lib.check_examples([task], "train")


def test_the_documents_own_tasks_are_read(shared_data, monkeypatch):
  folder = pathlib.Path(__file__).parents[3] / "docs" / "own_tasks"
  monkeypatch.setenv("SENTENCES_DIR", str(shared_data / "sentences"))
  monkeypatch.syspath_prepend(folder)
  sentences = importlib.import_module("sentences")
  for name, counts in sentences.TASKS.items():
    task = seqio.TaskRegistry.get(f"sentences_{name}")
    for split, count in counts.items():
      examples_lib.check_examples([task], split)
      (path,) = task.source.list_shards(split)
      lines = pathlib.Path(path).read_text("utf-8").splitlines()
      assert len(lines) == count, path
