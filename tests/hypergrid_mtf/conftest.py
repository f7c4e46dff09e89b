"""Fixtures for tests of the package and its command line."""

import pytest


@pytest.fixture
def run(tmp_path):
  """Calls main with some arguments, up to the first graph of the run."""
  from tests.hypergrid_mtf import command_line

  def call(*arguments, model_dir=tmp_path / "model"):
    command_line.call(f"--model_dir={model_dir}", *arguments)

  yield call
  command_line.reset()
