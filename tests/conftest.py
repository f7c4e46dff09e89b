"""Fixtures for all tests."""

import os
import pathlib

import pytest


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
