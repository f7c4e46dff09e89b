"""Applies t5's flags in programs that read a mixture's data."""

import seqio

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import config


def bind_flags(flags, *required: str) -> None:
  """Imports modules, sets the data folder, and parses gin files.

  Raises:
    UserError: for a missing flag, or a wrong file.
  """
  for name in required:
    if not flags[name].value:
      raise UserError(f"--{name} is missing: see --help.")
  config.import_modules(flags.module_import)
  if flags.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(flags.t5_tfds_data_dir)
  # The files describe complete runs; only the mixture is used here.
  config.parse_files(flags.gin_file or (), skip_unknown=True)
  config.parse_files((), flags.gin_param or (), clears=False)
