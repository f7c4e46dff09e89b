"""Pictures of gates."""

import io

import matplotlib.pyplot as plt
import numpy as np

from hypergrid_mtf.task_gates import Gates


def _maps(rows: dict[str, dict[str, np.ndarray]], size, label, named, **how):
  """A figure of small maps, with a row per key and a column per layer."""
  layers = list(next(iter(rows.values())))
  below = 0.07 * max(map(len, named), default=0)  # inches for their letters
  drawn, axes = plt.subplots(
    len(rows),
    len(layers),
    figsize=(size * len(layers) + 2.5, size * len(rows) + 1.2 + below),
    squeeze=False,
    layout="constrained",
  )
  for i, (row, by_layer) in enumerate(rows.items()):
    for axis, layer in zip(axes[i], layers, strict=True):
      image = axis.imshow(by_layer[layer], **how)
      axis.set(xticks=[], yticks=[])
      if i == 0:
        axis.set_title(layer.replace("/block_", "\nblock "), fontsize=8)
    axes[i][0].set_ylabel(row, fontsize=8, rotation=0, ha="right")
  axes[0][0].set_yticks(range(len(named)), named, fontsize=7)
  for axis in axes[-1] if named else ():
    axis.set_xticks(range(len(named)), named, fontsize=7, rotation=90)
  drawn.colorbar(image, ax=axes, shrink=0.6, label=label)
  plt.close(drawn)  # no window; a notebook shows what it is given, once
  return drawn


def figure(gates: Gates):
  """A matplotlib Figure of the gates, one small map per task and layer.

  Args:
    gates: from `task_gates`.
  """
  grids = [g for by in gates.values() for g in by.values()]
  drawn = _maps(
    gates,
    1.3,
    "gate",
    (),
    vmin=min(0.0, *(g.min() for g in grids)),  # for a user's gate
    vmax=max(1.0, *(g.max() for g in grids)),
    cmap="RdBu_r",
    aspect="auto",
  )
  drawn.suptitle(
    "Mean gate of each task (rows: regions of d_ff, columns: of d_model)",
    fontsize=9,
  )
  return drawn


def distances(gates: Gates) -> dict[str, np.ndarray]:
  """{layer: [tasks, tasks]}, the mean absolute difference of two tasks' gates.

  Args:
    gates: from `task_gates`.
  """
  found = {}
  for layer in next(iter(gates.values())):
    stacked = np.stack([by_layer[layer] for by_layer in gates.values()])
    apart = np.abs(stacked[:, None] - stacked[None])
    found[layer] = apart.mean(axis=(2, 3))
  return found


def distance_figure(gates: Gates):
  """A matplotlib Figure of `distances`, one matrix of tasks per layer."""
  apart = distances(gates)
  top = max(1e-6, *(d.max() for d in apart.values()))
  how = dict(vmin=0.0, vmax=top, cmap="viridis")
  return _maps({"": apart}, 1.7, "mean |difference|", list(gates), **how)


def picture(drawn, kind: str = "png", dpi: int = 130) -> bytes:
  """A figure as the bytes of a file."""
  buffer = io.BytesIO()
  drawn.savefig(buffer, format=kind, dpi=dpi)
  plt.close(drawn)
  return buffer.getvalue()
