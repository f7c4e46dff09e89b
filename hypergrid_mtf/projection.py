"""The gated projection y = h (psi(G) * W), on Mesh TensorFlow tensors.

Equations and their sources: README, "Fidelity". This module knows nothing of
Transformers: it makes the gate G from a row vector and a column vector, and
multiplies by a kernel whose regions the gate opens and closes.

The kernel `W [fan_in, fan_out]` is seen as a grid of `rows x cols` regions,
each `fan_in/rows x fan_out/cols` weights large, and

    psi(G)[i, j] = G[i // (fan_in / rows), j // (fan_out / cols)].
"""

import math

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors

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
        f"HyperGrid.{what} = {cells!r} is no number of cells: give a positive "
        f"integer that divides {dim.name} = {dim.size}."
      )
    if dim.size % cells:
      raise errors.UserError(
        f"HyperGrid.{what} = {cells!r} does not divide the {side} {dim.name} = "
        f"{dim.size} of the gated matrix: choose a positive divisor of "
        f"{dim.size}."
      )


def num_extra_parameters(variant: str, d_model: int, rows: int, cols: int):
  """How many parameters HyperGrid adds to one layer, by the formulas.

  Args:
    variant: a key of VARIANTS.
    d_model: size of the conditioning vector X.
    rows: number of grid rows.
    cols: number of grid columns.

  Returns:
    an integer: a local side costs d_model a cell, a global side one.
  """
  cost = {"local": d_model, "global": 1, None: 0}
  row_kind, col_kind = VARIANTS[variant]
  return cost[row_kind] * rows + cost[col_kind] * cols


def gate_matrix(
  row_vector: mtf.Tensor | None,
  col_vector: mtf.Tensor | None,
  gate: str = "sigmoid",
) -> mtf.Tensor:
  """G = factor * sigmoid(r (x) c), before its expansion psi.

  Args:
    row_vector: [..., grid_rows], or None for a gate of columns alone.
    col_vector: [..., grid_cols], or None for a gate of rows alone.
    gate: a key of GATES.

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
  return GATES[gate] * mtf.sigmoid(logits)


def gated_product(
  h: mtf.Tensor,
  kernel: mtf.Tensor,
  gate: mtf.Tensor,
  fan_in: mtf.Dimension,
  fan_out: mtf.Dimension,
  grid_rows: mtf.Dimension,
  grid_cols: mtf.Dimension,
  row_ways: int = 1,
  col_ways: int = 1,
) -> mtf.Tensor:
  """y = h (psi(G) * W), by one partial product a grid row.

  Each row block of h meets its block of W once; the gate weighs the partial
  products, which are then summed over grid rows. The gated kernel itself is
  never materialised, so every token may have a gate of its own.

  Args:
    h: [..., fan_in].
    kernel: W, [(ensemble,) fan_in, fan_out].
    gate: G, [..., grid_rows, grid_cols], or without one of the two (a gate of
      rows or of columns alone). Its leading dimensions are among those of h.
    fan_in: the dimension of h that is contracted.
    fan_out: the dimension of the result.
    grid_rows: as the gate has it; its size divides fan_in.
    grid_cols: as the gate has it; its size divides fan_out.
    row_ways: into how many shards the mesh splits fan_in.
    col_ways: into how many shards the mesh splits fan_out.

  Returns:
    y, [..., fan_out].
  """
  # The outer halves keep the names of the dimensions they come from, so that a
  # mesh that splits d_ff splits the grid in the same places, without traffic.
  gate = _split_gate(gate, grid_rows, fan_in.name, row_ways)
  gate = _split_gate(gate, grid_cols, fan_out.name, col_ways)
  rows = mtf.Dimension(fan_in.name, math.lcm(grid_rows.size, row_ways))
  row_block = mtf.Dimension("grid_row_block", fan_in.size // rows.size)
  cols = mtf.Dimension(fan_out.name, math.lcm(grid_cols.size, col_ways))
  col_block = mtf.Dimension("grid_col_block", fan_out.size // cols.size)

  h = mtf.replace_dimensions(h, fan_in, [rows, row_block])
  kernel = mtf.replace_dimensions(kernel, fan_in, [rows, row_block])
  kernel = mtf.replace_dimensions(kernel, fan_out, [cols, col_block])
  # Grid rows come first everywhere, so that the partial products are one
  # batched matrix product and the weighing runs over contiguous memory: forward
  # and backward are twice as fast as the same einsums with rows in place.
  leading = [d for d in h.shape.dims if d not in (rows, row_block)]
  h = mtf.transpose(h, [rows] + leading + [row_block])
  if rows in gate.shape.dims:
    gate = mtf.transpose(gate, [rows] + [d for d in gate.shape if d != rows])
  partial = mtf.einsum(  # [rows, ..., cols, col_block]
    [h, kernel], output_shape=[rows] + leading + [cols, col_block]
  )
  y = mtf.reduce_sum(partial * gate, reduced_dim=rows)  # [..., cols, col_block]
  return mtf.replace_dimensions(y, [cols, col_block], fan_out)


def _split_gate(gate, grid_dim, name, ways):
  """Names a side of the gate after the matrix, in cells that `ways` divides.

  Where the mesh has more shards than the grid has cells, each cell is repeated:
  a finer grid of equal neighbours is the same gate.
  """
  if grid_dim not in gate.shape.dims:
    return gate
  cells = mtf.Dimension(name, math.lcm(grid_dim.size, ways))
  if cells.size == grid_dim.size:
    return mtf.replace_dimensions(gate, grid_dim, cells)
  # A reshape would have to split the cells before it has repeated them.
  repeat = cells.size // grid_dim.size
  old_cell = mtf.floordiv(mtf.range(gate.mesh, cells, tf.int32), repeat)
  which = mtf.one_hot(old_cell, grid_dim, dtype=gate.dtype)  # [cells, grid_dim]
  dims = [cells if d == grid_dim else d for d in gate.shape.dims]
  return mtf.einsum([gate, which], output_shape=dims)


def grid_vector(
  kind: str | None,
  name: str,
  x: mtf.Tensor,
  grid_dim: mtf.Dimension,
  model_dim: mtf.Dimension,
  variable_dtype: mtf.VariableDType,
  ensemble_dims: list[mtf.Dimension],
  zero_init: bool = False,
) -> mtf.Tensor | None:
  """Makes the variable of one side of the gate, and its vector.

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
    [..., grid_dim] (local), [grid_dim] (global) or None.
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
  return mtf.layers.dense(
    x,
    grid_dim,
    reduced_dims=[model_dim],
    expert_dims=ensemble_dims,
    use_bias=False,
    variable_dtype=variable_dtype,
    # None is T5's own: variance 1/fan_in, which makes a unit X a unit vector.
    kernel_initializer=tf.zeros_initializer() if zero_init else None,
    name=name,
  )
