"""The feed-forward layer of HyperGrid: DenseReluDense with a gated projection.

    h = relu(x wi),  y = h (psi(G) * wo)

with one gate G an example, made from its conditioning vector X (see
`conditioning`) by a global and a local vector (see `projection`).
"""

import functools

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer_layers

from hypergrid_mtf import conditioning, contraction, errors, projection

GATED_KERNELS = ("wo", "wi")
CONTRACTIONS = ("auto", *contraction.ORDERS)


def _check_choice(name: str, value, choices) -> None:
  if value not in choices:
    raise errors.UserError(
      f"HyperGrid.{name} = {value!r} is unknown: choose one of "
      f"{', '.join(map(repr, choices))}."
    )


@gin.configurable(module="hypergrid_mtf.layers")
class HyperGrid(transformer_layers.DenseReluDense):
  """Two dense layers, one of them gated region by region for each example.

  The hyperparameters that t5's gin files give to `DenseReluDense` (hidden_size,
  dropout_rate, activation, use_bias) hold for this layer too, because it is
  one; the variables `wi` and `wo` have its names, shapes and scope, so a
  checkpoint of a vanilla T5 fits. HyperGrid's own variables are
  `hypergrid/{local_row/kernel, local_col/kernel, global_row, global_col}`.
  """

  def __init__(
    self,
    variant: str = "L2",
    grid_rows: int = 16,
    grid_cols: int = 16,
    gate: str = "sigmoid",
    condition_on: str = "first_token",
    gated_kernel: str = "wo",
    zero_init: bool | None = None,
    contraction: str = "auto",
    hidden_size: int | None = None,
    dropout_rate: float | None = None,
    activation=None,
    use_bias: bool | None = None,
  ):
    """Records the hyperparameters.

    Args:
      variant: "L2" (local rows, local columns), "LG", "GL", "row", "col" or
        "GG"; README, "Variants".
      grid_rows: grid rows; divides the fan-in of the gated matrix.
      grid_cols: grid columns; divides its fan-out. Unused by "row", as
        grid_rows by "col".
      gate: "sigmoid", the paper's form, or "two_sigmoid", twice that.
      condition_on: "first_token", the hidden state of the example's first
        token, or "task_token", its input embedding.
      gated_kernel: "wo" or "wi" (each factor of a gated-linear wi).
      zero_init: start with r (x) c = 0. None: as the gate needs it, so that
        "two_sigmoid" starts exactly at the vanilla function, and "sigmoid"
        with gates that differ.
      contraction: the order of the product: "auto", which takes the cheapest
        for the shapes at hand, "weights", "rows" or "cols"; README, "Which
        order". All give the same result.
      hidden_size: as in DenseReluDense; this and the following are its own
        hyperparameters, and None takes what gin binds to DenseReluDense.
      dropout_rate: as in DenseReluDense.
      activation: as in DenseReluDense.
      use_bias: as in DenseReluDense.

    Raises:
      UserError: for an unknown choice, naming the known ones.
    """
    given = dict(
      hidden_size=hidden_size,
      dropout_rate=dropout_rate,
      activation=activation,
      use_bias=use_bias,
    )
    super().__init__(**{k: v for k, v in given.items() if v is not None})
    _check_choice("variant", variant, tuple(projection.VARIANTS))
    _check_choice("gate", gate, tuple(projection.GATES))
    _check_choice("condition_on", condition_on, conditioning.CONDITION_ON)
    _check_choice("gated_kernel", gated_kernel, GATED_KERNELS)
    _check_choice("contraction", contraction, CONTRACTIONS)
    self._check_activation()
    if not isinstance(zero_init, bool | None):
      raise errors.UserError(
        f"HyperGrid.zero_init = {zero_init!r} is no truth value: give True, "
        "False or None."
      )
    self.variant = variant
    self.gate = gate
    self.condition_on = condition_on
    self.gated_kernel = gated_kernel
    self.contraction = contraction
    self.zero_init = gate == "two_sigmoid" if zero_init is None else zero_init
    row_kind, col_kind = projection.VARIANTS[variant]
    self.last_gate = None
    # A side that the variant leaves out is one cell wide.
    self.grid_rows = mtf.Dimension("grid_rows", grid_rows if row_kind else 1)
    self.grid_cols = mtf.Dimension("grid_cols", grid_cols if col_kind else 1)

  def _check_activation(self):
    activations = self.activation
    if not isinstance(activations, list | tuple):
      activations = [activations]
    for name in activations:
      if isinstance(name, str) and name != "linear" and not hasattr(mtf, name):
        raise errors.UserError(
          f"DenseReluDense.activation = {name!r} is unknown: give the name of "
          "a function of mesh_tensorflow, such as 'relu', or 'linear'."
        )

  @property
  def gates_differ(self) -> bool:
    """Whether examples have gates of their own, as all but "GG" have."""
    return "local" in projection.VARIANTS[self.variant]

  def check(self, model_dim: mtf.Dimension) -> None:
    """Raises UserError if the grid does not fit a model of this width.

    Args:
      model_dim: the model's d_model.
    """
    projection.check_grid(
      *self._gated_dims(model_dim), self.grid_rows.size, self.grid_cols.size
    )

  def _gated_dims(self, model_dim):
    hidden_dim = mtf.Dimension("d_ff", self.hidden_size)
    dims = (model_dim, hidden_dim)  # fan-in, fan-out of wi
    return dims if self.gated_kernel == "wi" else dims[::-1]

  def call(self, context, x: mtf.Tensor, losses=None) -> mtf.Tensor:
    """Calls the layer.

    Args:
      context: a transformer.Context.
      x: [<batch>, (length,) d_model]; no length at "incremental" steps.
      losses: ignored, as in DenseReluDense.

    Returns:
      [<batch>, (length,) d_model]
    """
    del losses
    model_dim = x.shape.dims[-1]
    self.check(model_dim)
    hidden_dim = mtf.Dimension("d_ff", self.hidden_size)
    gate = self._gate(context, x)
    dense = functools.partial(self._dense, context)
    wi_gate, wo_gate = (
      (gate, None) if self.gated_kernel == "wi" else (None, gate)
    )
    activations = self.activation
    if not isinstance(activations, list | tuple):
      activations = [activations]
    factors = []
    for i, activation in enumerate(activations):
      name = f"wi_{i}" if len(activations) > 1 else "wi"
      factors.append(_activate(dense(x, hidden_dim, name, wi_gate), activation))
    h = functools.reduce(mtf.multiply, factors)  # [<batch>, (length,) d_ff]
    if context.train and self.dropout_rate != 0.0:
      h = mtf.dropout(
        h,
        context.train,
        keep_prob=1.0 - self.dropout_rate,
        noise_shape=h.shape - context.length_dim,
      )
    return dense(h, model_dim, "wo", wo_gate)

  def _dense(self, context, x, new_dim, name, gate):
    """`mtf.layers.dense`, gated or not, with its variable names."""
    ensemble_dims = context.model.ensemble_dims
    fan_in = x.shape.dims[-1]
    if gate is None:
      return mtf.layers.dense(
        x,
        new_dim,
        reduced_dims=[fan_in],
        use_bias=self.use_bias,
        variable_dtype=context.variable_dtype,
        expert_dims=ensemble_dims,
        name=name,
      )
    kernel = mtf.layers.get_dense_kernel_weights(
      x,
      [new_dim],
      [fan_in],
      ensemble_dims,
      None,
      name=name,
      variable_dtype=context.variable_dtype,
    )
    y = projection.gated_product(
      x,
      kernel,
      gate,
      fan_in,
      new_dim,
      order=self.contraction,
      train=context.train,
      ways=_ways(context),
    )
    if mtf.layers.unit_scaling_convention():
      y *= fan_in.size**-0.5
    if self.use_bias:
      with tf.variable_scope(name):
        y += mtf.get_variable(
          x.mesh,
          "bias",
          mtf.Shape(ensemble_dims + [new_dim]),
          initializer=tf.zeros_initializer(),
          dtype=context.variable_dtype,
        )
    return y

  def _gate(self, context, x: mtf.Tensor) -> mtf.Tensor:
    """G of every token, [<batch>, (length,) grid_rows, grid_cols]."""
    if context.mode == "incremental":
      return context.get_constant_state()
    gate = self._make_gate(context, x)
    if context.mode == "first_part":
      context.record_constant_state(gate)
    self.last_gate = gate  # for tools that look at gates; nothing here reads it
    return gate

  def _make_gate(self, context, x):
    row_kind, col_kind = projection.VARIANTS[self.variant]
    ways = _ways(context)
    dims = self._gated_dims(context.model.model_dim)
    shards = projection.shard_dims(*dims, ways)
    first = conditioning.first_tokens(context, x, self.condition_on, shards)
    vectors = []
    with tf.variable_scope("hypergrid"):
      for kind, name, grid, dim in (
        (row_kind, "row", self.grid_rows, dims[0]),
        (col_kind, "col", self.grid_cols, dims[1]),
      ):
        vector = projection.grid_vector(
          kind,
          name,
          first.x,
          grid,
          context.model.model_dim,
          context.variable_dtype,
          context.model.ensemble_dims,
          # One zero side is enough for r (x) c = 0, and lets the other learn.
          zero_init=self.zero_init and (name == "col" or self.variant == "row"),
        )
        if vector is not None:
          vector = projection.copies(first.spread(vector), shards)
          vector = projection.local_cells(vector, grid, dim, ways(dim))
        vectors.append(vector)
    return projection.gate_matrix(*vectors, gate=self.gate)


def _ways(context):
  """A function of a Dimension: into how many shards the mesh splits it."""
  return functools.partial(
    mtf.tensor_dim_to_mesh_dim_size,
    context.model.layout or "",
    context.model.mesh_shape or "",
  )


# sublayer_call_layer names the variable scope after the class: with a name of
# its own, wi and wo of a vanilla checkpoint would silently not be found.
HyperGrid.__name__ = "DenseReluDense"


def _activate(x: mtf.Tensor, activation) -> mtf.Tensor:
  """Applies an activation as `mtf.layers.dense_product` names them."""
  if activation is None or activation == "linear":
    return x
  if isinstance(activation, str):
    activation = getattr(mtf, activation)
  return activation(x)


def hypergrid_layers(model) -> list:
  """The HyperGrid layers of a model, as (layer, d_model dimension) pairs."""
  if hasattr(model, "student"):
    model = model.student
  names = ("encoder", "decoder")
  stacks = [getattr(model, n) for n in names if hasattr(model, n)] or [model]
  return [
    (layer, stack.model_dim)
    for stack in stacks
    for layer in getattr(stack.layer_stack, "layers", [])
    if isinstance(layer, HyperGrid)
  ]
