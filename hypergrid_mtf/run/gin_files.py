"""Finds gin files, without importing gin or TensorFlow."""

import importlib.util
import os
from collections.abc import Sequence

from hypergrid_mtf import errors
from hypergrid_mtf.run import t5_flags

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def folder() -> str:
  """The folder operative_configs.

  In a clone it is next to the package, in an installed package inside it.
  """
  inside = os.path.join(_PACKAGE, "operative_configs")
  if os.path.isdir(inside):
    return inside
  return os.path.join(os.path.dirname(_PACKAGE), "operative_configs")


# Where gin finds this project's and t5's files by their short names.
SEARCHED = (folder(), os.path.join(t5_flags.folder("t5.models"), "gin"))
MESH_FOLDER = t5_flags.folder("mesh_tensorflow.transformer.gin")
PLACES = (
  "--gin_file is looked up in the current folder, in --gin_location_prefix, "
  "in operative_configs and in t5's own gin folder"
)


def check(paths: Sequence[str], prefixes: Sequence[str] = ()) -> None:
  """Checks that gin can find files.

  Args:
    paths: from --gin_file.
    prefixes: from --gin_location_prefix.

  Raises:
    UserError: for a name that is empty, a folder, or no local file.
  """
  for path in paths:
    if not path or os.path.isdir(path):
      what = "a folder" if path else "empty"
      raise errors.UserError(f"--gin_file={path} is {what}: name a file.")
    if any("://" in place for place in (path, *prefixes)):
      continue
    # gin also reads files in packages, as python.package/name.gin.
    package = path.split("/")[0].split(".")[0] if "/" in path else ""
    if package and importlib.util.find_spec(package):
      continue
    places = ("", *prefixes, *SEARCHED)
    if not any(os.path.isfile(os.path.join(p, path)) for p in places):
      raise errors.UserError(f"--gin_file={path} was not found: {PLACES}.")
