"""The command line within a test's own process, up to the graph."""

from unittest import mock

import gin
import seqio
import tensorflow.compat.v1 as tf
from absl import flags
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import main

EMBEDDED = (
  "--gin_file=models/tiny.gin",
  "--gin_file=hypergrid/L2.gin",
  "--gin_file=experiments/embedded.gin",
)


class GraphReached(Exception):
  """All checks passed and the run would begin."""


def call(*arguments: str, program=main.main) -> None:
  """Calls main; raises GraphReached where t5 would build a graph.

  Args:
    *arguments: flags.
    program: another main of the same flags.
  """

  def reached(*args, **kwargs):
    raise GraphReached

  flags.FLAGS.unparse_flags()
  for name in flags.FLAGS:
    flags.FLAGS[name].unparse()
  flags.FLAGS(["main", *arguments])
  gin.clear_config()
  with (
    mock.patch.object(tf, "disable_v2_behavior"),
    mock.patch.object(utils, "run", reached),
  ):
    program(["main"])


def reset() -> None:
  """Leaves nothing of a call to other tests."""
  gin.clear_config()
  seqio.set_tfds_data_dir_override(None)
  for name in ("vocabulary", "t5_tfds_data_dir"):
    flags.FLAGS[name].unparse()
