"""HyperGrid (arXiv 2007.05891) as a Mesh TensorFlow layer for t5.

Importing this package is enough: the frozen stack is patched (`compat`) and the
layers are known to gin (`layers`), so that any t5 program can use them with
`--module_import=hypergrid_mtf`. A program of ours reads its flags before that
(`console.read_flags`).
"""

from hypergrid_mtf.run import console

__all__ = ["compat", "console", "layers"]
__version__ = "0.1.0"


def load() -> None:
  """Patches the libraries and tells gin of the layers, once."""
  from hypergrid_mtf import compat

  compat.patch()
  from hypergrid_mtf import layers  # noqa: F401  (needs the patched stack)


if console.is_command():
  console.capture()  # before TensorFlow prints its banner
else:
  load()
