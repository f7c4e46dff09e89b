"""The gated projection y = h (psi(G) * W), on Mesh TensorFlow tensors.

Equations and their sources: docs/fidelity.md. This module knows nothing of
Transformers: it makes the gate G from a row vector and a column vector, and
multiplies by a kernel whose regions the gate opens and closes.

The kernel `W [fan_in, fan_out]` is seen as a grid of `rows x cols` regions,
each `fan_in/rows x fan_out/cols` weights large, and

    psi(G)[i, j] = G[i // (fan_in / rows), j // (fan_out / cols)].
"""

import math
from collections.abc import Callable

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf

from hypergrid_mtf import contraction, errors, sliced_product

# variant -> (where the row vector comes from, where the column vector does)
VARIANTS = {
  "L2": ("local", "local"),
  "LG": ("local", "global"),
  "GL": ("global", "local"),
  "GG": ("global", "global"),
  "row": ("local", None),
  "col": (None, "local"),
}
# gate -> factor in front of the logistic sigmoid
GATES = {"sigmoid": 1.0, "two_sigmoid": 2.0}
# One of GATES, or a function of the logits, tensors of any shape.
Gate = str | Callable[[mtf.Tensor], mtf.Tensor]


def check_grid(
  fan_in: mtf.Dimension, fan_out: mtf.Dimension, rows: int, cols: int
) -> None:
  """Raises UserError, naming both numbers, if the grid does not divide."""
  for what, cells, dim, side in (
    ("grid_rows", rows, fan_in, "fan-in"),
    ("grid_cols", cols, fan_out, "fan-out"),
  ):
    if not isinstance(cells, int) or isinstance(cells, bool) or cells < 1:
      raise errors.UserError(
        f"HyperGrid.{what} = {cells!r} is not a number of cells: give a "
        f"positive integer that divides {dim.name} = {dim.size}."
      )
    if dim.size % cells:
      raise errors.UserError(
        f"HyperGrid.{what} = {cells!r} does not divide the {side} {dim.name} = "
        f"{dim.size} of the gated matrix: choose a positive divisor of "
        f"{dim.size}."
      )


def check_gate(gate: Callable[[mtf.Tensor], mtf.Tensor]) -> None:
  """Checks what a gate of the user's own gives back.

  Args:
    gate: a function of the logits.

  Raises:
    UserError: if it fails, or gives anything but a tensor like the logits.
  """
  name = f"{gate.__module__}.{getattr(gate, '__qualname__', gate)}"
  dims = [mtf.Dimension("grid_rows", 2), mtf.Dimension("grid_cols", 3)]
  with tf.Graph().as_default():  # of variables that it may have
    logits = mtf.zeros(mtf.Mesh(mtf.Graph(), "gate"), mtf.Shape(dims))
    try:
      result = gate(logits)
    except Exception as e:
      raise errors.UserError(
        f"HyperGrid.gate = @{name} fails on logits [grid_rows, grid_cols]: "
        f"{type(e).__name__}: {errors.sentence(e)}"
      ) from e
  if not isinstance(result, mtf.Tensor) or (result.shape, result.dtype) != (
    logits.shape,
    logits.dtype,
  ):
    raise errors.UserError(
      f"HyperGrid.gate = @{name} returns {result} for logits [grid_rows, "
      "grid_cols]: return an mtf.Tensor of their shape and type."
    )


def grid_variable(
  kind: str | None,
  name: str,
  x: mtf.Tensor,
  grid_dim: mtf.Dimension,
  model_dim: mtf.Dimension,
  variable_dtype: mtf.VariableDType,
  ensemble_dims: list[mtf.Dimension],
  zero_init: bool = False,
) -> mtf.Tensor | None:
  """Makes the variable of one side of the gate.

  Args:
    kind: "local", "global" or None, as in VARIANTS.
    name: "row" or "col"; the variable is `<kind>_<name>`, for a local side
      `local_row/kernel [d_model, grid_rows]`.
    x: the conditioning vector X, [..., d_model].
    grid_dim: grid_rows or grid_cols.
    model_dim: the dimension of X that a local map contracts.
    variable_dtype: of the new variable.
    ensemble_dims: leading dimensions of every variable of the model.
    zero_init: start at zero instead of at a vector of about unit scale.

  Returns:
    [d_model, grid_dim] (local), [grid_dim] (global) or None
  """
  if kind is None:
    return None
  name = f"{kind}_{name}"
  if kind == "global":
    vector = mtf.get_variable(
      x.mesh,
      name,
      mtf.Shape(ensemble_dims + [grid_dim]),
      initializer=(
        tf.zeros_initializer()
        if zero_init
        else tf.random_normal_initializer(stddev=1.0)
      ),
      dtype=variable_dtype,
    )
    return mtf.cast(vector, x.dtype)
  return mtf.layers.get_dense_kernel_weights(
    x,
    [grid_dim],
    [model_dim],
    ensemble_dims,
    # None is T5's own: variance 1/fan_in, which makes a unit X a unit vector.
    tf.zeros_initializer() if zero_init else None,
    name=name,
    variable_dtype=variable_dtype,
  )


def local_vectors(
  x: mtf.Tensor, kernels: list[mtf.Tensor], spread
) -> list[mtf.Tensor]:
  """X L of each local side, as one product.

  Args:
    x: the conditioning vectors X, [..., d_model].
    kernels: L of each side, [d_model, grid_dim].
    spread: a function of [..., cells], `conditioning.FirstTokens.spread`.

  Returns:
    vectors of the tokens, [..., grid_dim] each
  """
  dims = [k.shape.dims[-1] for k in kernels]
  if not kernels:
    return []
  cells = "grid_cells"
  joined = mtf.concat(
    [mtf.rename_dimension(k, k.shape.dims[-1].name, cells) for k in kernels],
    cells,
  )
  leading = [d for d in x.shape.dims if d not in joined.shape.dims[-2:]]
  both = mtf.layers.us_einsum([x, joined], [*leading, joined.shape.dims[-1]])
  both = spread(both)
  parts = mtf.split(both, both.shape.dims[-1], [d.size for d in dims])
  return [
    mtf.rename_dimension(part, cells, d.name)
    for part, d in zip(parts, dims, strict=True)
  ]


def gate_matrix(
  row_vector: mtf.Tensor | None,
  col_vector: mtf.Tensor | None,
  gate: Gate = "sigmoid",
) -> mtf.Tensor:
  """G = gate(r (x) c), before its expansion psi.

  Args:
    row_vector: [..., grid_rows], or None for a gate of columns alone.
    col_vector: [..., grid_cols], or None for a gate of rows alone.
    gate: a key of GATES, factor * sigmoid(r (x) c), or a function.

  Returns:
    [..., grid_rows, grid_cols], or the one-sided [..., grid_rows] or
    [..., grid_cols].
  """
  if row_vector is None or col_vector is None:
    logits = row_vector if col_vector is None else col_vector
  else:
    rows, cols = row_vector.shape.dims[-1], col_vector.shape.dims[-1]
    leading = list(row_vector.shape.dims[:-1])
    leading += [d for d in col_vector.shape.dims[:-1] if d not in leading]
    logits = mtf.einsum(  # [..., grid_rows, grid_cols]
      [row_vector, col_vector], output_shape=leading + [rows, cols]
    )
  if callable(gate):
    return gate(logits)
  return GATES[gate] * mtf.sigmoid(logits)


def gated_product(
  h: mtf.Tensor,
  kernel: mtf.Tensor,
  gate: mtf.Tensor,
  order: str = "auto",
  train: bool = True,
  ways=lambda dim: 1,
) -> mtf.Tensor:
  """y = h (psi(G) * W), in one of the orders of `contraction`, all equal.

  Args:
    h: [..., fan_in].
    kernel: W, [(ensemble,) fan_in, fan_out].
    gate: G, [..., grid_rows, grid_cols], or without one of the two (a gate of
      rows or of columns alone). Its leading dimensions are some of those of h
      and, on a mesh that splits W, those of `sharding.shard_dims`; its cells
      are then those of one shard.
    order: one of contraction.CHOICES.
    train: whether a gradient will be wanted; "auto" asks.
    ways: a function of a Dimension: into how many shards the mesh splits it.

  Returns:
    y, [..., fan_out]

  Raises:
    UserError: for the order "weights" if every token has a gate of its own.
  """
  order = contraction.choose(
    order, h.shape.dims, kernel.shape.dims, gate, train, ways
  )
  if order == "plain":
    return plain_product(h, kernel, gate)
  return sliced_product.product(order, h, kernel, gate, ways)


def plain_product(
  h: mtf.Tensor, kernel: mtf.Tensor, gate: mtf.Tensor
) -> mtf.Tensor:
  """y = h (psi(G) * W), as it is written: a sum over the regions of W.

      p[r, c] = h[r] W[r, c],  y[c] = sum over r of p[r, c] G[r, c]

  where h[r], W[r, c] and y[c] are the parts that belong to one region. So psi
  is never made: repeating a cell is multiplying a region by it.

  Args:
    h: as in gated_product, as the others are.
    kernel: W.
    gate: G.

  Returns:
    y, [..., fan_out]
  """
  *ensemble, fan_in, fan_out = kernel.shape.dims
  *leading, _ = h.shape.dims
  *rows, row_cell = _grid_dims(gate, "grid_rows", fan_in)
  *cols, col_cell = _grid_dims(gate, "grid_cols", fan_out)
  # Below, rows and cols are [(shard,) grid_rows] and [(shard,) grid_cols].
  h = mtf.reshape(h, [*leading, *rows, row_cell])
  kernel = mtf.reshape(kernel, [*ensemble, *rows, row_cell, *cols, col_cell])
  p = mtf.einsum([h, kernel], [*leading, *rows, *cols, col_cell])
  y = mtf.einsum([p, gate], [*leading, *cols, col_cell])
  return mtf.reshape(y, [*leading, fan_out])


def _grid_dims(gate, side, dim):
  """One side of W as dimensions: (shard,) (cell of the grid,) place in it."""
  by_name = {d.name: d for d in gate.shape.dims}
  dims = [by_name[name] for name in (dim.name, side) if name in by_name]
  size = dim.size // math.prod(d.size for d in dims)
  return [*dims, mtf.Dimension(f"{side}_cell", size)]
