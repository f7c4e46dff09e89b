"""Draws the README's figure: two gates over one matrix.

  python -m tools.dev.readme_figure --output=docs/gate.png

The values are invented: small grids, a random wo. The arithmetic is the
layer's.
"""

from absl import flags

from hypergrid_mtf.run import console

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flags.DEFINE_string("output", "docs/gate.png", "File to write.")


console.read_flags(__name__, define_flags)

import matplotlib.pyplot as plt
import numpy as np

from hypergrid_mtf import gate_figures
from hypergrid_mtf.run import files

plt.switch_backend("Agg")  # no window is opened
_ROWS, _COLS, _D_FF, _D_MODEL = 4, 4, 32, 16


def draw():
  """A matplotlib Figure with r, c, G and the gated matrix of two tasks."""
  rng = np.random.default_rng(1)
  wo = rng.normal(size=(_D_FF, _D_MODEL))
  fig, axes = plt.subplots(
    2,
    3,
    figsize=(7.2, 5.4),
    width_ratios=(1, 1.3, 1.3),
    layout="constrained",
  )
  for row, task in zip(axes, ("sst2", "rte"), strict=True):
    r, c = 2.5 * rng.normal(size=_ROWS), 2.5 * rng.normal(size=_COLS)
    gate = 1 / (1 + np.exp(-np.outer(r, c)))  # [n_r, n_c]
    spread = np.kron(gate, np.ones((_D_FF // _ROWS, _D_MODEL // _COLS)))
    panels = (
      (gate, f"gate of “{task}”\nG = σ(r ⊗ c)", "viridis", 0, 1),
      (spread, "each cell for one block\nψ(G)", "viridis", 0, 1),
      (spread * wo, "weights that it uses\nψ(G) ⊙ wo", "RdBu_r", -2.5, 2.5),
    )
    for axis, (values, title, colors, least, most) in zip(
      row, panels, strict=True
    ):
      axis.imshow(
        values, cmap=colors, vmin=least, vmax=most, interpolation="nearest"
      )
      axis.set_title(title, fontsize=10)
      axis.set(xticks=[], yticks=[])
    row[0].set(xlabel="n_c columns", ylabel="n_r rows")
    for axis in row[1:]:
      axis.set(xlabel="d_model", ylabel="d_ff")
  return fig


def main(argv) -> None:
  """Draws the figure and writes the file."""
  del argv
  files.write(FLAGS.output, gate_figures.picture(draw(), dpi=110))
  console.say(f"see {FLAGS.output}")


if __name__ == "__main__":
  console.run(main)
