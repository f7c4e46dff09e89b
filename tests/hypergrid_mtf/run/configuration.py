"""Gin's configuration, made as the command line makes it."""

import os
from unittest import mock

import gin
from absl import flags
from mesh_tensorflow.transformer import utils
from t5.models import mesh_transformer

import t5_tasks  # noqa: F401
from hypergrid_mtf.run import gin_files

EMBEDDED = ("models/tiny.gin", "hypergrid/L2.gin", "experiments/embedded.gin")


def parse(*parameters: str, files: tuple[str, ...] = EMBEDDED) -> None:
  """Parses mesh_tensorflow's defaults, files and bindings, as t5's main does.

  Args:
    *parameters: of --gin_param.
    files: of --gin_file.
  """
  gin.clear_config()
  gin_files.add_search_paths()
  given = mock.Mock(
    gin_location_prefix=[],
    gin_file=[os.fspath(f) for f in files],
    gin_param=list(parameters),
    spec=flags.FlagValues,
  )
  with mock.patch.object(utils, "FLAGS", given):
    gin_files.parse(
      utils.parse_gin_defaults_and_flags,
      skip_unknown=mesh_transformer.DEPRECATED_GIN_REFERENCES,
      finalize_config=False,
    )
