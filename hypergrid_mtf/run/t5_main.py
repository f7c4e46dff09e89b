"""t5's own main, split so that our checks run between its parse and its run."""

import functools
import os
import shlex
import sys
import types
from unittest import mock

import gin
import seqio
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils
from t5.models import mesh_transformer, mesh_transformer_main

from hypergrid_mtf.run import config, console, gin_files


def parse(flags) -> None:
  """Imports modules and parses gin, as t5's main does before its run.

  If no file or binding describes a model, the folder's operative_config.gin is
  parsed first.

  Args:
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: with the flag or the file and line, the text, and the fault.
  """
  gin_files.check(flags.gin_file or (), flags.gin_location_prefix)
  config.import_modules(flags.module_import)
  config.add_search_paths()
  if flags.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(flags.t5_tfds_data_dir)
  old = mesh_transformer.DEPRECATED_GIN_REFERENCES
  parse_flags = functools.partial(
    config.parse,
    utils.parse_gin_defaults_and_flags,
    skip_unknown=flags.skip_all_gin_unknowns
    or (*old, *flags.additional_deprecated_gin_references),
    finalize_config=False,
  )
  parse_flags()
  record = os.path.join(flags.model_dir, config.RECORD)
  if not config.describes_model() and tf.io.gfile.exists(record):
    console.say(f"using the configuration in {record} and the given flags")
    flags.gin_file = [record, *(flags.gin_file or [])]
    gin.clear_config()
    parse_flags()
  # t5 does this after its parse; the checks need it to find cached tasks.
  seqio.add_global_cache_dirs(flags.additional_task_cache_dirs)


def run() -> None:
  """Runs what gin and the flags ask for, after `parse`."""
  # t5 records the command in <model_dir>/commands; make it one that can be
  # pasted.
  words = ["python -m hypergrid_mtf.main", *map(shlex.quote, sys.argv[1:])]
  kept = types.SimpleNamespace(argv=words)
  with (
    mock.patch.object(utils, "parse_gin_defaults_and_flags"),
    mock.patch.object(mesh_transformer_main, "sys", kept),
    gin.unlock_config(),  # an earlier run in this process locked it
  ):
    mesh_transformer_main.main([])
