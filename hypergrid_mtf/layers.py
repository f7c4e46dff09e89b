"""The feed-forward layer of HyperGrid, known to gin as `HyperGrid`.

A batch goes through these modules in this order:

  layers        the layer: wi, activation, dropout, wo
  conditioning  from a Context to the conditioning vector X of every token
  projection    from X to the gate G, and the product y = h (psi(G) * wo)

Beside them, and not needed to read them: `contraction` chooses the order in
which the product is computed, `sliced_product` computes it, by `cpu_orders` or
`tpu_orders` and `tpu_rows`, as a CPU or a TPU does it fast, and `sharding` is
what a mesh that splits wo needs.
"""

import functools

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer_layers

from hypergrid_mtf import (
  conditioning,
  contraction,
  errors,
  projection,
  sharding,
  sliced_product,
  tpu_rows,
)

GATED_KERNELS = ("wo", "wi")
CONTRACTIONS = contraction.CHOICES


# transformer.sublayer_call_layer names the variable scope after the class: with
# a name of its own, wi and wo of a vanilla checkpoint would not be found.
@gin.configurable("HyperGrid", module="hypergrid_mtf.layers")
class DenseReluDense(transformer_layers.DenseReluDense):
  """Two dense layers, one of them gated region by region for each example.

      h = relu(x wi),  y = h (psi(G) * wo)
      G = sigmoid(r (x) c),  r = X L_r,  c = X L_c
      psi(G)[i, j] = G[i // (d_ff / n_r), j // (d_model / n_c)]

  with x, y [length, d_model]; h [length, d_ff]; wi [d_model, d_ff]; wo [d_ff,
  d_model]; G [n_r, n_c] of each example, n_r and n_c being grid_rows and
  grid_cols; X [d_model] of the example's first token (`conditioning`); L_r
  [d_model, n_r] and L_c [d_model, n_c], in whose place the variants have a
  trained vector r [n_r] or c [n_c], or nothing. (x) is the outer product, * the
  element-wise one.

  Sources, by the marks of docs/fidelity.md: gates from a global and a local
  vector [A], by outer product and repetition [S], on wo, through the sigmoid,
  X of the first token [R], in the decoder from the encoder's output [P].

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
    gate: projection.Gate = "sigmoid",
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
        "GG"; docs/variants.md.
      grid_rows: grid rows; divides the fan-in of the gated matrix.
      grid_cols: grid columns; divides its fan-out. Unused by "row", as
        grid_rows by "col".
      gate: "sigmoid", the paper's form, "two_sigmoid", twice that, or, by a
        gin reference such as @my_gate, a function of the logits r (x) c: it
        takes an mtf.Tensor and returns one of the same shape and type.
      condition_on: "first_token", the hidden state of the example's first
        token, or "task_token", its input embedding.
      gated_kernel: "wo" or "wi" (each factor of a gated-linear wi).
      zero_init: start with r (x) c = 0. None: as the gate needs it, so that
        "two_sigmoid" starts exactly at the vanilla function, and others with
        gates that differ.
      contraction: the order of the product: "plain", as the equation has it,
        "weights", "rows" or "cols", made for a CPU and for a TPU, or "auto",
        which takes the cheapest for the shapes and the device at hand;
        docs/cost.md. All give the same result.
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
    if not callable(gate):
      _check_choice("gate", gate, tuple(projection.GATES))
    _check_choice("condition_on", condition_on, conditioning.CONDITION_ON)
    _check_choice("gated_kernel", gated_kernel, GATED_KERNELS)
    _check_choice("contraction", contraction, CONTRACTIONS)
    self._activations()  # raises UserError for names that are unknown
    if not isinstance(zero_init, bool | None):
      raise errors.UserError(
        f"HyperGrid.zero_init = {zero_init!r} is not a truth value: give "
        "True, False or None."
      )
    self.variant = variant
    self.gate = gate
    self.condition_on = condition_on
    self.gated_kernel = gated_kernel
    self.contraction = contraction
    self.zero_init = gate == "two_sigmoid" if zero_init is None else zero_init
    self.last_gate = None  # for tools that look at gates; not read here
    row_kind, col_kind = projection.VARIANTS[variant]
    # A side that the variant leaves out is one cell wide.
    self.grid_rows = mtf.Dimension("grid_rows", grid_rows if row_kind else 1)
    self.grid_cols = mtf.Dimension("grid_cols", grid_cols if col_kind else 1)

  def _activations(self) -> list:
    """(name of wi, function or None) of each factor of h."""
    given = self.activation
    given = list(given) if isinstance(given, list | tuple) else [given]
    for i, activation in enumerate(given):
      if activation == "linear":
        given[i] = None
      elif isinstance(activation, str):
        given[i] = getattr(mtf, activation, None)
        if given[i] is None:
          raise errors.UserError(
            f"DenseReluDense.activation = {activation!r} is unknown: give the "
            "name of a function of mesh_tensorflow, such as 'relu', or "
            "'linear'."
          )
    names = [f"wi_{i}" for i in range(len(given))] if given[1:] else ["wi"]
    return list(zip(names, given, strict=True))

  @property
  def gates_differ(self) -> bool:
    """Whether examples have gates of their own, as all but "GG" have."""
    return "local" in projection.VARIANTS[self.variant]

  def check(self, model_dim: mtf.Dimension) -> None:
    """Checks what can be known without a graph.

    Args:
      model_dim: the model's d_model.

    Raises:
      UserError: if the grid does not fit a model of this width, or if a gate
        of the user's own does not give back what a gate must.
    """
    fan_in, fan_out = self._gated_dims(model_dim)
    projection.check_grid(
      fan_in, fan_out, self.grid_rows.size, self.grid_cols.size
    )
    if callable(self.gate):
      projection.check_gate(self.gate)

  def _gated_dims(self, model_dim):
    """Fan-in and fan-out of the gated matrix."""
    hidden_dim = mtf.Dimension("d_ff", self.hidden_size)
    dims = (model_dim, hidden_dim)
    return dims if self.gated_kernel == "wi" else dims[::-1]

  def call(self, context, x: mtf.Tensor, losses=None) -> mtf.Tensor:
    """Calls the layer.

    Args:
      context: a transformer.Context.
      x: [<batch>, (length,) d_model]; no length at "incremental" steps.
      losses: ignored, as in mesh_tensorflow's DenseReluDense.

    Returns:
      [<batch>, (length,) d_model]
    """
    del losses
    self.check(x.shape.dims[-1])
    gate = self._gate(context, x)
    kernel_dims = self._kernel_dims(context)
    order = contraction.choose(
      self.contraction,
      [*x.shape.dims[:-1], kernel_dims[-2]],
      kernel_dims,
      gate,
      context.train,
      sharding.ways(context),
    )
    length = context.length_dim
    if self._for_tpu(context, gate, order):
      length, (x, gate) = tpu_rows.filled(length, [x, gate])
    y = self._products(context, x, gate, order, length)
    if length != context.length_dim:
      y = mtf.slice(y, 0, context.length_dim.size, length.name)
    return y

  def _for_tpu(self, context, gate: mtf.Tensor, order: str) -> bool:
    """Whether a TPU trains a gated wo, by the orders that are made for it."""
    return (
      contraction.on_tpu(gate.mesh)
      and context.train
      and self.gated_kernel == "wo"
      and order != "plain"
      and sharding.ways(context)(context.length_dim) == 1
    )

  def _products(self, context, x, gate, order, length_dim) -> mtf.Tensor:
    """`call`, after G; length_dim is the context's or, of x, a longer one."""
    *leading, model_dim = x.shape.dims
    hidden_dim = mtf.Dimension("d_ff", self.hidden_size)
    kernel_dims = self._kernel_dims(context)
    gates = {self.gated_kernel: (gate, order)}
    h_dims = [*leading, hidden_dim]
    if self.gated_kernel == "wo":
      h_dims = contraction.arranged(order, h_dims, kernel_dims, gate)
    activations = self._activations()
    # Dropout multiplies by nothing negative: relu may follow it, and then h is
    # all that is kept for the gradients.
    relu_last = self._for_tpu(context, gate, order) and activations == [
      ("wi", mtf.relu)
    ]
    factors = [
      self._dense(
        context,
        x,
        model_dim,
        h_dims,
        name,
        None if relu_last else activation,
        gates.get("wi"),
      )
      for name, activation in activations
    ]
    h = functools.reduce(mtf.multiply, factors)  # [<batch>, (length,) d_ff]
    if context.train and self.dropout_rate != 0.0:
      h = mtf.dropout(
        h,
        context.train,
        keep_prob=1.0 - self.dropout_rate,
        noise_shape=h.shape - length_dim,
      )
    if relu_last:
      h = tpu_rows.relu(h)
    return self._dense(
      context, h, hidden_dim, x.shape.dims, "wo", None, gates.get("wo")
    )

  def _gate(self, context, x: mtf.Tensor) -> mtf.Tensor:
    """G of every token, [<batch>, (length,) grid_rows, grid_cols]."""
    if context.mode == "incremental":
      return context.get_constant_state()
    gate = self._make_gate(context, x)
    if context.mode == "first_part":
      context.record_constant_state(gate)
    self.last_gate = gate
    return gate

  def _make_gate(self, context, x: mtf.Tensor) -> mtf.Tensor:
    """G = gate(r (x) c), of the vectors that the variant has."""
    row_kind, col_kind = projection.VARIANTS[self.variant]
    fan_in, fan_out = self._gated_dims(context.model.model_dim)
    shards = sharding.shard_dims(fan_in, fan_out, sharding.ways(context))
    first = conditioning.first_tokens(context, x, self.condition_on, shards)

    def variable(kind, name, grid_dim):
      return projection.grid_variable(
        kind,
        name,
        first.x,
        grid_dim,
        context.model.model_dim,
        context.variable_dtype,
        context.model.ensemble_dims,
        # One zero side is enough for r (x) c = 0, and lets the other learn.
        zero_init=self.zero_init and (name == "col" or self.variant == "row"),
      )

    with tf.variable_scope("hypergrid"):
      sides = {
        self.grid_rows: variable(row_kind, "row", self.grid_rows),
        self.grid_cols: variable(col_kind, "col", self.grid_cols),
      }
      local = [
        side
        for side, kind in zip(sides.values(), (row_kind, col_kind), strict=True)
        if kind == "local"
      ]
      vectors = projection.local_vectors(first.x, local, first.spread)
      sides |= {v.shape.dims[-1]: v for v in vectors}
      r, c = (
        None if v is None else sharding.local_cells(v, grid_dim, dim, shards)
        for (grid_dim, v), dim in zip(
          sides.items(), (fan_in, fan_out), strict=True
        )
      )
      return projection.gate_matrix(r, c, self.gate)

  def _kernel_dims(self, context):
    """Of the gated matrix, [(ensemble,) fan_in, fan_out]."""
    fan_in, fan_out = self._gated_dims(context.model.model_dim)
    return [*context.model.ensemble_dims, fan_in, fan_out]

  def _dense(self, context, x, fan_in, y_dims, name, activation, gate):
    """`mtf.layers.dense`, with its variables, and with a gate if there is one.

    Args:
      context: a transformer.Context.
      x: [..., fan_in], in any order.
      fan_in: a dimension of x.
      y_dims: dimensions of the result, in any order.
      name: of the kernel.
      activation: a function, or None.
      gate: None, or G and the order of the product.

    Returns:
      an mtf.Tensor
    """
    ensemble_dims = context.model.ensemble_dims
    (new_dim,) = [d for d in y_dims if d not in x.shape.dims]
    kernel = mtf.layers.get_dense_kernel_weights(
      x,
      [new_dim],
      [fan_in],
      ensemble_dims,
      None,
      name=name,
      variable_dtype=context.variable_dtype,
    )
    if gate is None and contraction.on_tpu(x.mesh) and y_dims[-1] != new_dim:
      y = sliced_product.tokens_last(x, kernel, y_dims, sharding.ways(context))
    elif gate is None:
      y = mtf.einsum([x, kernel], output_shape=y_dims)
    else:
      y = projection.gated_product(
        x,
        kernel,
        gate[0],
        order=gate[1],
        train=context.train,
        ways=sharding.ways(context),
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
    return y if activation is None else activation(y)


HyperGrid = DenseReluDense


def _check_choice(name: str, value, choices) -> None:
  if value not in choices:
    raise errors.UserError(
      f"HyperGrid.{name} = {value!r} is unknown: choose one of "
      f"{', '.join(map(repr, choices))}."
    )


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
