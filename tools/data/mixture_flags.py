"""What the programs that read a mixture's data take from t5's flags."""

import seqio

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import config


def bind_flags(flags, *required: str) -> None:
  """Imports modules, sets the data folder, and binds what gin files say.

  Args:
    flags: absl's FLAGS, parsed.
    *required: flags of the program that must be given.

  Raises:
    UserError: naming the flag that is missing, or what is wrong with a file.
  """
  for name in required:
    if not flags[name].value:
      raise UserError(f"--{name} is missing: see --help.")
  config.import_modules(flags.module_import)
  if flags.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(flags.t5_tfds_data_dir)
  # Files are of whole runs; what is bound here is of the mixture.
  config.parse_files(flags.gin_file or (), skip_unknown=True)
  config.parse_files((), flags.gin_param or (), clears=False)
