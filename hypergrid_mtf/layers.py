"""The feed-forward layer of HyperGrid, known to gin as `HyperGrid`.

`gate` makes the gate G from the vector X of every token, which `conditioning`
finds; `product` multiplies by it, fast on a CPU, a TPU and a mesh.
"""

from collections.abc import Callable

import gin
import mesh_tensorflow as mtf

from hypergrid_mtf import conditioning, errors, feed_forward, product
from hypergrid_mtf import gate as gate_lib


# This is HyperGrid. transformer.sublayer_call_layer names the variable scope
# after the class: under another name, wi and wo of a vanilla checkpoint would
# not be found.
@gin.configurable("HyperGrid", module="hypergrid_mtf.layers")
class DenseReluDense(feed_forward.FeedForward):
  """Two dense layers, one of them gated per region for each example.

      h = relu(x wi),  y = h (psi(G) * wo)
      G = sigmoid(r (x) c),  r = X L_r,  c = X L_c
      psi(G)[i, j] = G[i // (d_ff / n_r), j // (d_model / n_c)]

  with x, y [length, d_model]; h [length, d_ff]; wi [d_model, d_ff]; wo [d_ff,
  d_model]; G [n_r, n_c] of each example, n_r and n_c being grid_rows and
  grid_cols; X [d_model] of the example's first token (`conditioning`); L_r
  [d_model, n_r] and L_c [d_model, n_c], which some variants replace by a
  trained vector r [n_r] or c [n_c], or leave out. (x) is the outer product, *
  the element-wise one. docs/fidelity.md gives the source of each statement.

  The hyperparameters that t5's gin files give to `DenseReluDense` (hidden_size,
  dropout_rate, activation, use_bias) apply to this layer too, because it is
  one; the variables `wi` and `wo` have its names, shapes and scope, so a
  vanilla T5 checkpoint fits. HyperGrid's own variables are
  `hypergrid/{local_row/kernel, local_col/kernel, global_row, global_col}`.
  """

  # What makes G and what multiplies by it. A program that needs another way
  # sets these attributes of a layer: make_gate(context, x), gated_product(h,
  # wo, gate, order, where).
  make_gate: Callable[..., mtf.Tensor] = gate_lib.make_gate
  gated_product: Callable[..., mtf.Tensor] = staticmethod(product.gated)

  def __init__(
    self,
    variant: str = "L2",
    grid_rows: int = 16,
    grid_cols: int = 16,
    gate: str | Callable[[mtf.Tensor], mtf.Tensor] = "sigmoid",
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
      grid_rows: must divide the fan-in of the gated matrix. Unused by "col".
      grid_cols: must divide its fan-out. Unused by "row".
      gate: "sigmoid", the paper's form; "two_sigmoid", twice that; or a gin
        reference such as @my_gate to a function of the logits r (x) c, which
        takes an mtf.Tensor and returns one of the same shape and type.
      condition_on: "first_token", the hidden state of the example's first
        token, or "task_token", its input embedding.
      gated_kernel: "wo" or "wi" (each factor of a gated-linear wi).
      zero_init: whether to start with r (x) c = 0. None chooses by the gate:
        "two_sigmoid" starts exactly at the vanilla function, the others with
        gates that differ.
      contraction: the order of the product: "plain", as in the equation;
        "weights", "rows" or "cols", optimized for CPU and TPU; "slices", for
        few grid rows on a TPU; or "auto", the cheapest for the shapes and the
        device (docs/dev/cost.md). All give the same result.
      hidden_size: this and the following are those of DenseReluDense; None
        means the value that gin binds to it.

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
    for name, value, choices in (
      ("variant", variant, gate_lib.VARIANTS),
      ("gate", gate, [gate] if callable(gate) else gate_lib.GATES),
      ("condition_on", condition_on, conditioning.CONDITION_ON),
      ("gated_kernel", gated_kernel, ("wo", "wi")),
      ("contraction", contraction, product.cost.CHOICES),
      ("zero_init", zero_init, (True, False, None)),
    ):
      if value not in list(choices):
        raise errors.UserError(
          f"HyperGrid.{name} = {value!r} is unknown: choose one of "
          f"{', '.join(map(repr, choices))}."
        )
    self.activations()  # raises UserError for names that are unknown
    self.variant = variant
    self.gate = gate
    self.condition_on = condition_on
    self.gated_kernel = gated_kernel
    self.contraction = contraction
    self.zero_init = gate == "two_sigmoid" if zero_init is None else zero_init
    row_kind, col_kind = gate_lib.VARIANTS[variant]
    # A side that the variant leaves out is one cell wide.
    self.grid_rows = mtf.Dimension("grid_rows", grid_rows if row_kind else 1)
    self.grid_cols = mtf.Dimension("grid_cols", grid_cols if col_kind else 1)

  @property
  def gates_differ(self) -> bool:
    """Whether gates differ between examples; true for all but "GG"."""
    return "local" in gate_lib.VARIANTS[self.variant]

  def check(self, model_dim: mtf.Dimension) -> None:
    """Raises UserError before a graph is built if building it would fail.

    That is, for a grid that does not divide this width, or a user's gate
    function that does not return what a gate must.
    """
    gate_lib.check_grid(self, model_dim)
    gate_lib.check_gate(self.gate)

  def call(self, context, x: mtf.Tensor, losses=None) -> mtf.Tensor:
    """h = act(x wi); y = h (psi(G) * wo).

    Args:
      context: a transformer.Context.
      x: [<batch>, (length,) d_model]; no length at "incremental" steps.
      losses: ignored, as in mesh_tensorflow's DenseReluDense.

    Returns:
      [<batch>, (length,) d_model]
    """
    del losses
    gate = self._gate(context, x)  # [<batch>, (length,) grid_rows, grid_cols]
    if product.tpu.serves(self, context):  # the same y, laid out for the chip
      return product.tpu.feed_forward(self, context, x, gate)

    def multiply(h, kernel):
      where = product.Where(context)
      return self.gated_product(h, kernel, gate, self.contraction, where)

    gated = {self.gated_kernel: multiply}
    h = self.hidden(context, x, gated.get("wi"))  # [<batch>, (length,) d_ff]
    return self.dense(context, h, "wo", gated.get("wo"))

  def _gate(self, context, x: mtf.Tensor) -> mtf.Tensor:
    """G; decoding makes it once, from the whole input, and reuses it."""
    if context.mode == "incremental":
      return context.get_constant_state()
    gate = self.make_gate(context, x)
    if context.mode == "first_part":
      context.record_constant_state(gate)
    return gate


HyperGrid = DenseReluDense


def own_layers(model) -> list:
  """The layers that read a task, as (layer, d_model dimension) pairs.

  Those are the layers with a `check`: HyperGrid's and those of `peers`.
  """
  if hasattr(model, "student"):
    model = model.student
  names = ("encoder", "decoder")
  stacks = [getattr(model, n) for n in names if hasattr(model, n)] or [model]
  return [
    (layer, stack.model_dim)
    for stack in stacks
    for layer in getattr(stack.layer_stack, "layers", [])
    if hasattr(layer, "check")
  ]


def hypergrid_layers(model) -> list:
  """The HyperGrid layers of a model, as (layer, d_model dimension) pairs."""
  return [
    found for found in own_layers(model) if isinstance(found[0], HyperGrid)
  ]
