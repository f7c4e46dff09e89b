"""Programs around a run, one job each; `python -m tools` lists them."""

import hypergrid_mtf  # noqa: F401  (patches the stack, moves TensorFlow's banner)
