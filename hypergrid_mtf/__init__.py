"""HyperGrid (arXiv 2007.05891) as a Mesh TensorFlow layer for t5.

Importing this package is enough: the frozen stack is patched (`compat`) and the
layers are known to gin (`layers`), so that any t5 program can use them with
`--module_import=hypergrid_mtf`.
"""

from hypergrid_mtf.run import console

if console.is_command():
  console.capture()  # before TensorFlow prints its banner

from hypergrid_mtf import compat  # noqa: E402

compat.patch()

from hypergrid_mtf import layers  # noqa: E402  (needs the patched stack)

__all__ = ["compat", "console", "layers"]
__version__ = "0.1.0"
