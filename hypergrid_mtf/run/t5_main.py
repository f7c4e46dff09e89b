"""t5's own main, with what is ours between its parse and its run."""

from unittest import mock

import seqio
from mesh_tensorflow.transformer import utils
from t5.models import mesh_transformer, mesh_transformer_main

from hypergrid_mtf.run import gin_files


def parse(flags) -> None:
  """Reads Mesh TensorFlow's defaults, --gin_file and --gin_param.

  Args:
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: naming the flag or the file and line, the text, and the fault.
  """
  old = mesh_transformer.DEPRECATED_GIN_REFERENCES
  gin_files.parse(
    utils.parse_gin_defaults_and_flags,
    skip_unknown=flags.skip_all_gin_unknowns
    or (*old, *flags.additional_deprecated_gin_references),
    finalize_config=False,
  )
  # t5 does so after its parse; the checks look for cached tasks there.
  seqio.add_global_cache_dirs(flags.additional_task_cache_dirs)


def run() -> None:
  """Runs what gin and the flags ask for; gin was parsed by `parse`."""
  with mock.patch.object(utils, "parse_gin_defaults_and_flags"):
    mesh_transformer_main.main([])
