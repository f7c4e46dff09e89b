"""Fixtures for all tests."""

import collections
import os
import pathlib
import sys

import pytest


def pytest_terminal_summary(terminalreporter):
  """Writes passed tests and reasons of skipped ones to a workflow's page."""
  path = os.environ.get("GITHUB_STEP_SUMMARY")
  if not path:
    return
  stats = terminalreporter.stats
  counts = [
    f"{len(stats[outcome])} {outcome}"
    for outcome in ("passed", "failed", "error", "skipped")
    if outcome in stats
  ]
  skipped = collections.Counter(
    report.longrepr[2] for report in stats.get("skipped", ())
  )
  with open(path, "a", encoding="utf-8") as f:
    f.write(f"{', '.join(counts)}\n\n")
    f.writelines(f"- {n} × {reason}\n" for reason, n in skipped.items())


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """Folder of real GLUE and SuperGLUE files; skips the test without it."""
  beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
  path = pathlib.Path(os.environ.get("HYPERGRID_TEST_DATA") or beside)
  if not path.is_dir():
    pytest.skip(
      f"no benchmark data in {path} (set HYPERGRID_TEST_DATA to its folder)"
    )
  return path


@pytest.fixture(scope="session")
def downloads(tmp_path_factory) -> pathlib.Path:
  """Invented files of every task, in `glue` and `super_glue`."""
  from tests.tools.data import benchmark_files

  root = tmp_path_factory.mktemp("downloads")
  benchmark_files.write_glue(root / "glue")
  benchmark_files.write_super_glue(root / "super_glue")
  return root


@pytest.fixture(scope="session")
def tfds_dir(downloads, tmp_path_factory) -> pathlib.Path:
  """Both benchmarks prepared for TFDS, one after the other."""
  from tools import prepare_data

  path = tmp_path_factory.mktemp("tfds")
  prepare_data.prepare(str(downloads / "glue"), None, str(path))
  prepare_data.prepare(None, str(downloads / "super_glue"), str(path))
  return path


@pytest.fixture(autouse=True)
def tensorflow_as_it_was():
  """Restores TensorFlow 2's behavior, which a called program may disable."""
  yield
  tf = sys.modules.get("tensorflow")
  if tf is not None and not tf.executing_eagerly():
    tf.compat.v1.reset_default_graph()
    tf.compat.v1.enable_v2_behavior()


@pytest.fixture(autouse=True)
def no_data_folder_left_behind():
  """Clears the data folder that SeqIO's loaders keep, after the test."""
  yield
  seqio = sys.modules.get("seqio")
  for name in seqio.TaskRegistry.names() if seqio else ():
    source = seqio.TaskRegistry.get(name).source
    if isinstance(source, seqio.TfdsDataSource):
      source.tfds_dataset.override_data_dir(None)
