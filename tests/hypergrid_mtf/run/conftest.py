"""Fixtures for tests of what surrounds a run."""

import gin
import pytest
import seqio
from absl import flags


@pytest.fixture(autouse=True)
def no_bindings_left_behind():
  """Gin, the flags and SeqIO's caches are empty after each test."""
  yield
  with gin.unlock_config():
    gin.clear_config()
  seqio.set_global_cache_dirs([])
  for name in flags.FLAGS:
    flags.FLAGS[name].unparse()
