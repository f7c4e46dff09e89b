"""tools.cache_tasks: what it writes is what SeqIO reads with use_cached."""

import json
import shutil

import numpy as np
import pytest
import seqio

import t5_tasks  # noqa: F401  (patches the stack, registers the tasks)
from hypergrid_mtf import tfds_data
from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures, vocabularies
from tests.hypergrid_mtf import command_line
from tools import cache_tasks

LENGTHS = {"inputs": 64, "targets": 16}


@pytest.fixture(scope="module")
def bytes_for_all():
  """All tasks of t5 on bytes, for this file."""
  before = {
    name: dict(seqio.TaskRegistry.get(name).output_features)
    for name in seqio.TaskRegistry.names()
  }
  vocabularies.use_vocabulary("bytes")
  yield
  for name, features in before.items():
    seqio.TaskRegistry.get(name).output_features.update(features)


# Every kind of feature that t5's tasks of both benchmarks have.
TASKS = (
  "glue_cola_v002",
  "glue_rte_v002",
  "glue_ax_v002",
  "super_glue_multirc_v102",
  "super_glue_record_v102",
)


@pytest.fixture(scope="module")
def cache_dir(tfds_dir, bytes_for_all, tmp_path_factory):
  """TASKS, cached by the program's function."""
  folder = str(tmp_path_factory.mktemp("cache"))
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  name = mixtures.define_mixture("all_cached_v1", TASKS)
  cache_tasks.cache_mixture(name, folder, str(tfds_dir), "bytes")
  seqio.set_tfds_data_dir_override(None)
  for task in TASKS:  # each keeps the first folder that it saw
    seqio.TaskRegistry.get(task).source.tfds_dataset.override_data_dir(None)
  yield folder
  seqio.MixtureRegistry.remove(name)


@pytest.fixture(autouse=True)
def no_data_folder():
  """A test's own folder of raw data is not the next one's."""
  yield
  seqio.set_tfds_data_dir_override(None)


@pytest.fixture
def reads_cache(cache_dir):
  """SeqIO looks into the cache, for one test."""
  before = seqio.get_global_cache_dirs().copy()
  seqio.add_global_cache_dirs([cache_dir])
  yield
  seqio.set_global_cache_dirs(before)
  for name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.get(name)._cache_dir = None


def _examples(task, split, **kwargs):
  dataset = task.get_dataset(LENGTHS, split=split, num_epochs=1, **kwargs)
  return list(dataset.as_numpy_iterator())


def _same(a, b):
  assert len(a) == len(b) > 0
  for x, y in zip(a, b, strict=True):
    assert x.keys() == y.keys()
    for key in x:
      assert np.asarray(x[key]).dtype == np.asarray(y[key]).dtype, key
      np.testing.assert_array_equal(x[key], y[key])


def test_the_same_examples_in_the_same_order(tfds_dir, reads_cache):
  """Also shuffled, as training reads them."""
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  for name in TASKS:
    task = seqio.TaskRegistry.get(name)
    split = "train" if "train" in task.splits else list(task.splits)[0]
    raw = _examples(task, split, shuffle=False)
    _same(raw, _examples(task, split, use_cached=True, shuffle=False))
  task = seqio.TaskRegistry.get("glue_cola_v002")
  raw = _examples(task, "train", seed=3)
  _same(raw, _examples(task, "train", use_cached=True, seed=3))


def test_a_cached_task_needs_no_raw_data(reads_cache, tmp_path, monkeypatch):
  """Not even to know its splits, for which TFDS would ask its bucket."""
  from tensorflow_datasets.core.utils import gcs_utils

  asked = []
  monkeypatch.setattr(gcs_utils, "exists", asked.append)
  seqio.set_tfds_data_dir_override(str(tmp_path))
  assert seqio.TaskRegistry.get("glue_ax_v002").splits == ["test"]
  task = seqio.TaskRegistry.get("glue_cola_v002")
  assert task.splits == ["test", "train", "validation"]
  assert len(_examples(task, "train", use_cached=True)) == 5
  assert not asked


def test_stats_and_info(cache_dir, tfds_dir):
  with open(f"{cache_dir}/glue_cola_v002/stats.train.json") as f:
    stats = json.load(f)
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  task = seqio.TaskRegistry.get("glue_cola_v002")
  inputs = [len(e["inputs"]) - 1 for e in _examples(task, "train")]
  assert stats["examples"] == 5
  assert stats["inputs_tokens"] == sum(inputs)
  assert stats["inputs_max_tokens"] == max(inputs)
  with open(f"{cache_dir}/glue_cola_v002/info.train.json") as f:
    info = json.load(f)
  assert info["features"]["inputs"] == {"shape": [None], "dtype": "int32"}
  assert info["num_shards"] == 1


def _flags(cache_dir, data, tmp_path):
  return (
    f"--model_dir={tmp_path}/run",
    *command_line.EMBEDDED,
    f"--t5_tfds_data_dir={data}",
    "--vocabulary=bytes",
    f"--additional_task_cache_dirs={cache_dir}",
    "--gin_param=MIXTURE_NAME = 'cached_v1'",
    "--gin_param=t5_tasks.mixtures.define_mixture.name = 'cached_v1'",
    "--gin_param=t5_tasks.mixtures.define_mixture.tasks = "
    "['glue_cola_v002', 'glue_rte_v002']",
    "--gin_param=mesh_train_dataset_fn.use_cached = True",
  )


@pytest.fixture
def flags(cache_dir, tmp_path, reads_cache):
  """Of a training without raw data; clears up after it."""
  empty = tmp_path / "empty"
  empty.mkdir()
  yield _flags(cache_dir, empty, tmp_path)
  command_line.reset()
  command_line.flags.FLAGS["additional_task_cache_dirs"].unparse()
  if "cached_v1" in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.remove("cached_v1")


def test_a_run_without_raw_data_is_not_refused(flags, tfds_dir):
  with pytest.raises(command_line.GraphReached):
    command_line.call(*flags)
  # What it will read is what it would make of the raw data.
  mixture = seqio.get_mixture_or_task("cached_v1")
  read = {}
  for use_cached in (True, False):
    dataset = mixture.get_dataset(
      LENGTHS, split="train", use_cached=use_cached, seed=1
    )
    read[use_cached] = list(dataset.take(20).as_numpy_iterator())
    for task in mixture.tasks:
      task.source.tfds_dataset.override_data_dir(str(tfds_dir))
  _same(read[False], read[True])
  for task in mixture.tasks:
    task.source.tfds_dataset.override_data_dir(None)
  with pytest.raises(UserError, match="empty: glue/cola:1.0.0, glue/"):
    command_line.call(
      *flags, "--gin_param=mesh_train_dataset_fn.use_cached = False"
    )


def test_a_task_that_is_not_cached_is_named(flags, tmp_path):
  other = str(tmp_path / "other")
  seqio.set_global_cache_dirs([])
  with pytest.raises(UserError) as error:
    command_line.call(*flags, f"--additional_task_cache_dirs={other}")
  assert str(error.value) == (
    "mesh_train_dataset_fn.use_cached = True, and glue_cola_v002, "
    f"glue_rte_v002 are not in --additional_task_cache_dirs={other}: write "
    "them with python -m tools.cache_tasks, or leave that binding out."
  )


def test_another_vocabulary_is_refused(
  flags, cache_dir, tfds_dir, tmp_path, capsys
):
  copy = tmp_path / "copy"
  shutil.copytree(cache_dir, copy)
  path = copy / "glue_cola_v002" / "vocabulary.json"
  record = json.loads(path.read_text())
  record["inputs"] |= {"ids": 1, "described": "another"}
  path.write_text(json.dumps(record))
  seqio.set_global_cache_dirs([])
  with pytest.raises(UserError, match="glue_cola_v002 was cached with another"):
    command_line.call(*flags, f"--additional_task_cache_dirs={copy}")
  command_line.reset()
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  with pytest.raises(
    UserError, match="has glue_cola_v002 with another vocabulary"
  ):
    cache_tasks.cache_mixture(
      "glue_cola_v002", str(copy), str(tfds_dir), "bytes"
    )
  cache_tasks.cache_mixture("glue_rte_v002", str(copy), str(tfds_dir), "bytes")
  assert "glue_rte_v002: already cached" in capsys.readouterr().out


def test_nothing_is_left_of_a_task_that_fails(tfds_dir, tmp_path, monkeypatch):
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  task = seqio.TaskRegistry.get("glue_cola_v002")

  def broken(*args, **kwargs):
    raise UserError("no.")

  with monkeypatch.context() as patch:
    patch.setattr(cache_tasks.task_cache, "_info", broken)
    with pytest.raises(UserError, match="no."):
      cache_tasks.cache_mixture(
        task.name, str(tmp_path), str(tfds_dir), "bytes"
      )
  assert not list(tmp_path.iterdir())
  assert tfds_data.is_prepared("glue/cola:1.0.0", str(tfds_dir))
