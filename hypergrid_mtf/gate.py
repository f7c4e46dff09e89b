"""The gate G = gate(r (x) c) of every token, before its expansion psi.

The gated matrix `W [fan_in, fan_out]` is seen as a grid of `rows x cols`
regions, each `fan_in/rows x fan_out/cols` weights large, and

    psi(G)[i, j] = G[i // (fan_in / rows), j // (fan_out / cols)].

r and c are local, r = X L_r and c = X L_c, or global, trained vectors.
Equations and their sources: docs/fidelity.md.
"""

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf

from hypergrid_mtf import conditioning, errors
from hypergrid_mtf.product import on_mesh

# variant -> (source of the row vector, source of the column vector)
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


def make_gate(layer, context, x: mtf.Tensor) -> mtf.Tensor:
  """G of every token.

  Args:
    layer: a layers.HyperGrid.
    context: a transformer.Context, not of an "incremental" decoding step.
    x: the layer's input, [<batch>, length, d_model].

  Returns:
    [<shards>, <batch>, (length,) grid_rows, grid_cols] without dimensions along
    which it is constant: those of the batch for global vectors, that of a side
    that the variant leaves out, and shards if no mesh splits W
  """
  model_dim = context.model.model_dim
  check_grid(layer, model_dim)
  fan_in, fan_out = layer.dims(layer.gated_kernel, model_dim)
  shards = on_mesh.shard_dims(fan_in, fan_out, on_mesh.Where(context))
  source = conditioning.find_source(context, x, layer.condition_on)
  source = _copies_of_source(context, source, shards)
  first = conditioning.first_tokens(context, source)
  row_kind, col_kind = VARIANTS[layer.variant]
  sides = [
    side
    for side in (
      (row_kind, "row", layer.grid_rows, fan_in),
      (col_kind, "col", layer.grid_cols, fan_out),
    )
    if side[0]
  ]
  with tf.variable_scope("hypergrid"):
    made = {
      grid_dim: _side_variable(
        context,
        first.x,
        f"{kind}_{name}",
        grid_dim,
        # One zero side is enough for r (x) c = 0, and the other still learns.
        layer.zero_init and (name == "col" or len(sides) == 1),
      )
      for kind, name, grid_dim, _ in sides
    }
    maps = [made[dim] for kind, _, dim, _ in sides if kind == "local"]
    made |= {v.shape.dims[-1]: v for v in _local_vectors(first, maps)}
    vectors = [
      on_mesh.local_cells(made[grid_dim], grid_dim, fan, shards)
      for _, _, grid_dim, fan in sides
    ]
    return apply_gate(layer.gate, _outer_product(vectors))


def _copies_of_source(context, source: mtf.Tensor, shards) -> mtf.Tensor:
  """The source with `shards`, if its gradient can join an existing sum.

  The mesh makes that sum without HyperGrid too. Otherwise it is cheaper to sum
  the gradients of the gate's vectors.
  """
  if context.model.model_dim.name in (d.name for d in shards):
    return source  # X itself is split
  if not context.model.autoregressive:  # joins that of the layer's wi
    joins = not conditioning.is_known_unpacked(context.sequence_id)
  else:
    # The attention of all decoder layers sends one sum for the gradient of the
    # encoder's output, unless another kind of term comes in between.
    joins = source is context.encoder_output and on_mesh.Where(
      context
    ).shares_mesh_axis(mtf.Dimension("heads", 0), *shards)
  return on_mesh.copies(source, shards) if joins else source


def _side_variable(
  context, x: mtf.Tensor, name: str, grid_dim: mtf.Dimension, zero_init: bool
) -> mtf.Tensor:
  """The variable of one side: L [d_model, grid_dim], or a vector [grid_dim]."""
  ensemble_dims = context.model.ensemble_dims
  initializer = tf.zeros_initializer() if zero_init else None
  if name.startswith("local"):
    return mtf.layers.get_dense_kernel_weights(
      x,
      [grid_dim],
      [context.model.model_dim],
      ensemble_dims,
      # None is T5's own: variance 1/fan_in, which maps a unit X to a unit
      # vector.
      initializer,
      name=name,
      variable_dtype=context.variable_dtype,
    )
  vector = mtf.get_variable(
    x.mesh,
    name,
    mtf.Shape(ensemble_dims + [grid_dim]),
    initializer=initializer or tf.random_normal_initializer(stddev=1.0),
    dtype=context.variable_dtype,
  )
  return mtf.cast(vector, x.dtype)


def _local_vectors(
  first: conditioning.FirstTokens, kernels: list[mtf.Tensor]
) -> list[mtf.Tensor]:
  """X L [..., grid_dim] of each local side, as one product."""
  if not kernels:
    return []
  dims = [k.shape.dims[-1] for k in kernels]
  cells = "grid_cells"
  joined = mtf.concat(
    [mtf.rename_dimension(k, k.shape.dims[-1].name, cells) for k in kernels],
    cells,
  )
  leading = [d for d in first.x.shape.dims if d not in joined.shape.dims[-2:]]
  both = mtf.layers.us_einsum(
    [first.x, joined], [*leading, joined.shape.dims[-1]]
  )
  both = first.to_tokens(both)
  parts = mtf.split(both, both.shape.dims[-1], [d.size for d in dims])
  return [
    mtf.rename_dimension(part, cells, d.name)
    for part, d in zip(parts, dims, strict=True)
  ]


def _outer_product(vectors: list[mtf.Tensor]) -> mtf.Tensor:
  """r (x) c, [..., grid_rows, grid_cols], or the only vector."""
  if len(vectors) == 1:
    return vectors[0]
  rows, cols = vectors
  leading = list(rows.shape.dims[:-1])
  leading += [d for d in cols.shape.dims[:-1] if d not in leading]
  dims = [*leading, rows.shape.dims[-1], cols.shape.dims[-1]]
  return mtf.einsum([rows, cols], output_shape=dims)


def apply_gate(gate, logits: mtf.Tensor) -> mtf.Tensor:
  """Applies the gate function to the logits r (x) c.

  Args:
    gate: a key of GATES, or a function of the user's own.
    logits: of any shape.

  Raises:
    UserError: if a user's function fails, or returns anything but a tensor like
      the logits.
  """
  if isinstance(gate, str):
    return GATES[gate] * mtf.sigmoid(logits)
  name = f"{gate.__module__}.{getattr(gate, '__qualname__', gate)}"
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
  return result


def check_gate(gate) -> None:
  """Tries `apply_gate` in a separate graph, before the real one is built."""
  dims = [mtf.Dimension("grid_rows", 2), mtf.Dimension("grid_cols", 3)]
  with tf.Graph().as_default():  # for variables that it may create
    apply_gate(gate, mtf.zeros(mtf.Mesh(mtf.Graph(), "gate"), mtf.Shape(dims)))


def check_grid(layer, model_dim: mtf.Dimension) -> None:
  """Raises UserError, with both numbers, if the grid does not divide."""
  fan_in, fan_out = layer.dims(layer.gated_kernel, model_dim)
  for what, cells, dim, side in (
    ("grid_rows", layer.grid_rows.size, fan_in, "fan-in"),
    ("grid_cols", layer.grid_cols.size, fan_out, "fan-out"),
  ):
    if not isinstance(cells, int) or isinstance(cells, bool) or cells < 1:
      raise errors.UserError(
        f"HyperGrid.{what} = {cells!r} must be a positive integer that divides "
        f"{dim.name} = {dim.size}."
      )
    if dim.size % cells:
      raise errors.UserError(
        f"HyperGrid.{what} = {cells!r} does not divide the {side} {dim.name} = "
        f"{dim.size} of the gated matrix: choose a positive divisor of "
        f"{dim.size}."
      )
