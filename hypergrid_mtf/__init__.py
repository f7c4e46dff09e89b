"""HyperGrid (arXiv 2007.05891) as a Mesh TensorFlow layer for t5.

Importing the package patches the pinned libraries (`compat`) and registers the
layer with gin (`layers`), so any t5 program can use it with
`--module_import=hypergrid_mtf`. This project's programs do both after reading
their flags (`console.read_flags`).
"""

from hypergrid_mtf.run import console

__all__ = ["compat", "console", "layers"]
__version__ = "0.1.0"


def load() -> None:
  """Patches the libraries and registers the layer with gin, once."""
  from hypergrid_mtf import compat

  compat.patch()
  from hypergrid_mtf import layers  # noqa: F401  (needs the patched stack)


if console.is_command():
  console.capture()  # before TensorFlow prints its banner
else:
  load()
