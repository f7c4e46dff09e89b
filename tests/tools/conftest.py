"""Fixtures: invented test sets of all tasks; TPU compilers.

A compiler is the real one, or one that only knows the cores of a v3:2x2.
"""

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
import pytest
import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds

from t5_tasks import mixtures
from tests import command
from tools.cost.tpu import client
from tools.data import local_files
from tools.experiments import submissions

CORES = [[x, y, 0, core] for x in (0, 1) for y in (0, 1) for core in (0, 1)]


@pytest.fixture
def tpu_compiler():
  """Skips a test where the environment of the compiler was not made."""
  if not client.PYTHON.exists():
    pytest.skip("no .venv-tpu (make test-tpu makes it)")


@pytest.fixture
def described_tpu(monkeypatch):
  """A compiler that knows one topology, and compiles nothing."""
  refused = {"compiles": False, "refused": "this TPU is only described"}
  monkeypatch.setattr(client, "PYTHON", command.ROOT)  # is there
  monkeypatch.setattr(client, "cores", lambda topology: CORES)
  monkeypatch.setattr(client, "compile_program", lambda *_: refused)


def _examples(task):
  """The test examples as an evaluation sees them, with a byte vocabulary."""
  feature = seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
  registered = seqio.TaskRegistry.get(task)
  copy = seqio.Task(
    "copy",
    registered.source,
    output_features={"inputs": feature, "targets": feature},
    preprocessors=registered.preprocessors,
  )
  with tf.Graph().as_default():
    dataset = copy.get_dataset(None, split="test", shuffle=False)
    return list(tfds.as_numpy(dataset))


@pytest.fixture(scope="session")
def _read(tfds_dir):
  """Examples and `submissions.test_set` of each task."""
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  tasks = [e.task for es in submissions.BENCHMARKS.values() for e in es]
  read = {task: (_examples(task), submissions.test_set(task)) for task in tasks}
  seqio.set_tfds_data_dir_override(None)
  return read


@pytest.fixture
def examples(_read):
  """{task: its test examples, in the order of decoding}."""
  return {task: examples for task, (examples, _) in _read.items()}


@pytest.fixture
def official(_read, monkeypatch):
  """The invented test sets count as the official ones, and are read once."""
  rows = {
    e.data: {"test": len(_read[e.task][0])}
    for entries in submissions.BENCHMARKS.values()
    for e in entries
  }
  monkeypatch.setattr(local_files, "OFFICIAL_ROWS", rows)
  monkeypatch.setattr(
    submissions, "test_set", lambda task: _read[mixtures.base_name(task)][1]
  )
