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

from hypergrid_mtf import contraction, errors

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


def shard_dims(
  fan_in: mtf.Dimension, fan_out: mtf.Dimension, ways
) -> list[mtf.Dimension]:
  """The dimensions that a gate gains where a mesh splits its matrix.

  Each device then has a gate of its own, for its own part of the matrix. It is
  made from the device's own copy of what all have (`copies`), so that what
  comes back from the devices is one sum, of the kind that the plain product
  makes, and can be added to that before either is sent.

  Args:
    fan_in: of the gated matrix.
    fan_out: of the gated matrix.
    ways: a function of a Dimension: into how many shards the mesh splits it.

  Returns:
    one element a shard; empty where nothing is split.
  """
  return [
    mtf.Dimension(d.name, ways(d)) for d in (fan_in, fan_out) if ways(d) > 1
  ]


def copies(x: mtf.Tensor, dims: list[mtf.Dimension]) -> mtf.Tensor:
  """[...] -> [*dims, ...]; the gradient is a sum over `dims`."""
  missing = [d for d in dims if d not in x.shape.dims]
  return mtf.broadcast(x, missing + x.shape.dims) if missing else x


def local_cells(
  vector: mtf.Tensor, grid_dim: mtf.Dimension, dim: mtf.Dimension, ways: int
) -> mtf.Tensor:
  """Leaves each device those cells of a side that lie in its own shard.

  Where there are more shards than cells, neighbours share a cell.

  Args:
    vector: [..., grid_dim], with a dimension of shards named as `dim` is.
    grid_dim: grid_rows or grid_cols.
    dim: the side of the matrix: fan-in for rows, fan-out for columns.
    ways: into how many shards the mesh splits `dim`.

  Returns:
    [..., cells of one shard], the last dimension of grid_dim's name
  """
  if ways == 1:
    return vector
  cells = math.lcm(grid_dim.size, ways)
  shard = mtf.Dimension(dim.name, ways)
  local = mtf.Dimension(grid_dim.name, cells // ways)
  # Another name, for the two are in one tensor for a moment.
  whole = mtf.Dimension("all_" + grid_dim.name, grid_dim.size)
  vector = mtf.replace_dimensions(vector, grid_dim, whole)
  number = mtf.range(vector.mesh, shard, tf.int32) * local.size
  number += mtf.range(vector.mesh, local, tf.int32)  # of [shard, local]
  old = mtf.floordiv(number, cells // grid_dim.size)
  which = mtf.one_hot(old, whole, dtype=vector.dtype)  # [shard, local, whole]
  dims = [d for d in vector.shape.dims if d != whole] + [local]
  return mtf.einsum([vector, which], output_shape=dims)


def gated_product(
  h: mtf.Tensor,
  kernel: mtf.Tensor,
  gate: mtf.Tensor,
  fan_in: mtf.Dimension,
  fan_out: mtf.Dimension,
  order: str = "auto",
  train: bool = True,
  ways=lambda dim: 1,
) -> mtf.Tensor:
  """y = h (psi(G) * W), in one of the orders of `contraction`.

  Nothing but h, W and G is kept for the gradient, and no device needs more of
  them than its own shard: only sums that the plain product makes too cross
  devices.

  Args:
    h: [..., fan_in].
    kernel: W, [(ensemble,) fan_in, fan_out].
    gate: G, [..., grid_rows, grid_cols], or without one of the two (a gate of
      rows or of columns alone). Its leading dimensions are those of shard_dims
      and some of those of h; its cells are those of one shard.
    fan_in: the dimension of h that is contracted.
    fan_out: the dimension of the result.
    order: "auto", which takes the cheapest, or one of contraction.ORDERS.
    train: whether a gradient will be wanted; "auto" asks.
    ways: a function of a Dimension: into how many shards the mesh splits it.

  Returns:
    y, [..., fan_out].

  Raises:
    UserError: for the order "weights" if every token has a gate of its own.
  """
  ensemble = kernel.shape.dims[:-2]
  leading = [d for d in h.shape.dims if d not in ensemble and d != fan_in]
  gate_leading = _prefix(leading, gate.shape.dims)
  sides = [d for d in gate.shape.dims if d.name in ("grid_rows", "grid_cols")]
  sides.sort(key=lambda d: d.name, reverse=True)
  h = _reorder(h, ensemble + leading + [fan_in])
  gate = _reorder(
    gate,
    ensemble + gate_leading + shard_dims(fan_in, fan_out, ways) + sides,
  )
  shard = _Shard(
    ensemble, leading, len(gate_leading), fan_in, fan_out, sides, ways
  )
  order = _choose(order, shard.sizes, train, h.mesh, gate_leading)
  return shard.product(order, h, kernel, gate)


def _reorder(x: mtf.Tensor, dims) -> mtf.Tensor:
  """x with these dimensions; mtf.transpose copies even where it need not."""
  shape = mtf.Shape(dims)
  if x.shape == shape:
    return x
  if set(x.shape.dims) == set(dims):
    return mtf.transpose(x, shape)
  return mtf.broadcast(x, shape)


def _prefix(leading, dims):
  """The shortest prefix of `leading` that holds all of it that `dims` has."""
  last = [i for i, d in enumerate(leading) if d in dims]
  return leading[: last[-1] + 1] if last else []


def _choose(order, sizes, train, mesh, gate_leading) -> str:
  orders = list(contraction.ORDERS)
  # Packed rows: a gate for each position. (A step of decoding has no positions:
  # its gates are one for each example.)
  if "length" in (d.name for d in gate_leading):
    orders.remove("weights")
  if order == "auto":
    # mesh_tensorflow places variables by a function on TPUs only.
    on_tpu = callable(mesh.variable_placer_fn)
    return contraction.cheapest(orders, sizes, train, on_tpu)
  if order not in orders:
    raise errors.UserError(cannot_serve_packed_rows(order))
  return order


def cannot_serve_packed_rows(order: str) -> str:
  """Says what to choose instead of the order "weights"."""
  others = [o for o in contraction.ORDERS if o != order]
  return (
    f"HyperGrid.contraction = {order!r} needs one gate for each row of the "
    "batch, and these rows hold several packed examples: choose "
    f"{', '.join(map(repr, others))} or 'auto', or do not pack "
    "(mesh_train_dataset_fn.pack = False)."
  )


class _Shard:
  """The product on one shard, as operations of Mesh TensorFlow."""

  def __init__(
    self, ensemble, leading, gate_leading, fan_in, fan_out, sides, ways
  ):
    """See gated_product.

    Args:
      ensemble: dimensions that h, W and G all begin with.
      leading: the other dimensions of h but fan_in.
      gate_leading: how many of `leading` the gate has.
      fan_in: the contracted dimension.
      fan_out: the result's dimension.
      sides: the gate's last dimensions: grid_rows, grid_cols, both or none.
      ways: as in gated_product.
    """
    self._ensemble = ensemble
    self._leading = leading
    self._gate_leading = gate_leading
    self._fan_in = fan_in
    self._fan_out = fan_out
    self._sides = sides
    self._ways = ways

  @property
  def sizes(self) -> contraction.Sizes:
    """What one device holds."""

    def local(dims):
      return math.prod(d.size // self._ways(d) for d in dims)

    cells = {d.name: d.size for d in self._sides}
    return contraction.Sizes(
      gates=local(self._leading[: self._gate_leading]),
      tokens=local(self._leading[self._gate_leading :]),
      fan_in=local([self._fan_in]),
      fan_out=local([self._fan_out]),
      rows=cells.get("grid_rows", 1),
      cols=cells.get("grid_cols", 1),
    )

  def product(self, order, h, kernel, gate) -> mtf.Tensor:
    """y [(ensemble,) ..., fan_out]."""
    (y,) = self._slicewise(
      lambda *args: [contraction.product(order, *args)],
      [h, kernel, gate],
      [self._ensemble + self._leading + [self._fan_out]],
      lambda op, dy: self._gradients(order, *op.inputs, dy),
    )
    return y

  def _gradients(self, order, h, kernel, gate, dy):
    return self._slicewise(
      lambda *args: contraction.gradients(order, *args),
      [h, kernel, gate, dy],
      [x.shape.dims for x in (h, kernel, gate)],
      None,
    )

  def _slicewise(self, fn, inputs, output_dims, grad_function):
    """Runs a function of `contraction` on every shard.

    Args:
      fn: takes h, W, G (and dy) as `contraction` shapes them, returns a list.
      inputs: mtf Tensors h, W, G (and dy).
      output_dims: of each output, without the dimensions of partial sums.
      grad_function: as in mtf.slicewise.

    Returns:
      a list of mtf Tensors
    """
    all_dims = list(dict.fromkeys(d for x in inputs for d in x.shape.dims))
    # What a device lacks of a sum becomes a dimension, one element a device;
    # its sum is the all-reduce that the plain product makes.
    partial = []
    for dims in output_dims:
      names = {d.name for d in dims}
      missing = {d.name: d for d in all_dims if d.name not in names}
      partial.append(
        [
          mtf.Dimension(name, self._ways(d))
          for name, d in missing.items()
          if self._ways(d) > 1
        ]
      )

    def on_shard(*xs):
      outs = self._on_shard(fn, xs)
      outs = [
        tf.reshape(y, [1] * len(p) + y.shape.as_list()) if p else y
        for y, p in zip(outs, partial, strict=True)
      ]
      return tuple(outs) if len(outs) > 1 else outs[0]

    dims = [p + d for p, d in zip(partial, output_dims, strict=True)]
    outs = mtf.slicewise(
      on_shard,
      inputs,
      [mtf.Shape(d) for d in dims],
      [x.dtype for x in inputs[: len(dims)]],
      splittable_dims=list(dict.fromkeys(all_dims + sum(dims, []))),
      grad_function=grad_function,
      name="hypergrid_product" if grad_function else "hypergrid_gradients",
    )
    return [
      mtf.reduce_sum(y, output_shape=mtf.Shape(d)) if p else y
      for y, p, d in zip(outs, partial, output_dims, strict=True)
    ]

  def _on_shard(self, fn, xs):
    """Shapes the slices as `contraction` wants them, and the results back."""
    h, kernel, gate, *rest = xs
    depth = len(self._ensemble)
    shape = h.shape.as_list()
    members, sizes = math.prod(shape[:depth]), self.sizes
    n, t = sizes.gates, sizes.tokens
    flat = [
      tf.reshape(h, [members, n, t, sizes.fan_in]),
      tf.reshape(kernel, [members, sizes.fan_in, sizes.fan_out]),
      tf.reshape(gate, [members, n, sizes.rows, sizes.cols]),
      *(tf.reshape(dy, [members, n, t, sizes.fan_out]) for dy in rest),
    ]
    if members == 1:
      outs = fn(*(tf.reshape(x, x.shape[1:]) for x in flat))
    else:
      each = [fn(*x) for x in zip(*map(tf.unstack, flat), strict=True)]
      outs = [tf.stack(parts) for parts in zip(*each, strict=True)]
    if len(outs) > 1:
      shapes = [x.shape for x in xs[: len(outs)]]
    else:
      shapes = [[*shape[:-1], sizes.fan_out]]
    return [tf.reshape(y, s) for y, s in zip(outs, shapes, strict=True)]


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
