"""In which order y = h (psi(G) * W) is computed, and what each order costs.

The gate G has one value for each region of W [F, M], a grid of R x C regions. N
gates serve T tokens each: one example a row of the batch gives N rows of T
tokens, packed examples a gate for each token (T = 1), a gate that no example
changes N = 1.

  order    what is made                                  its elements
  plain    a partial product for each grid row           N T R M
  weights  a gated W for each gate                       N F M
  rows     a partial product for each grid row           N T R M
  cols     a scaled copy of h for each grid column       N T C F

All give the same y. "plain" is the equation in Mesh TensorFlow's own operations
(`projection.plain_product`); the others never hold all that they make at once:
`cpu_orders` walk over it, and with `tpu_orders` it does not leave the chip.
"""

import dataclasses
import math

import mesh_tensorflow as mtf

from hypergrid_mtf import errors

ORDERS = ("weights", "rows", "cols")
CHOICES = ("auto", "plain", *ORDERS)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Static sizes of one product, on one device.

  Attributes:
    gates: N, how many gates there are.
    tokens: T, how many tokens share one gate.
    fan_in: F.
    fan_out: M.
    rows: R, grid rows; divides F.
    cols: C, grid columns; divides M.
  """

  gates: int
  tokens: int
  fan_in: int
  fan_out: int
  rows: int
  cols: int


# Nanoseconds that one element of what an order makes costs beside the plain
# product: (forward, forward and backward). The geometric means of two CPUs, one
# of them with AVX-512, which differ by a factor of three, for all orders alike.
# docs/cost.md; `python -m tools.calibrate` measures them again.
CPU_NANOSECONDS = {
  "weights": (0.70, 2.9),
  "rows": (0.86, 2.3),
  "cols": (0.68, 3.2),
}
# One multiply-add of the partial products that `rows` makes a second time.
_CPU_RECOMPUTE_NANOSECONDS = 0.0115


# Cycles of a TPU v3 core beside the plain product, as its compiler estimates
# them: (forward, forward and backward), each (for an element of W, for an
# element of what the order makes). docs/tpu.md.
TPU_CYCLES = {
  "plain": ((0.0, 0.008), (0.0, 0.050)),  # with one row: y, scaled
  "weights": ((0.0, 0.0114), (0.0, 0.0325)),
  "rows": ((0.045, 0.0066), (0.23, 0.022)),
  "cols": ((0.030, 0.0100), (0.23, 0.026)),
}
# Cycles of one multiply-add of the product: gating W forward hides behind them.
_TPU_PRODUCT_CYCLES = 3.5e-5


def elements(order: str, sizes: Sizes) -> int:
  """How many elements an order makes beside h, W, G and y."""
  s = sizes
  return {
    "plain": s.gates * s.tokens * s.rows * s.fan_out,
    "weights": s.gates * s.fan_in * s.fan_out,
    "rows": s.gates * s.tokens * s.rows * s.fan_out,
    "cols": s.gates * s.tokens * s.cols * s.fan_in,
  }[order]


def cost(order: str, sizes: Sizes, train: bool, on_tpu: bool) -> float:
  """What an order costs beside the product without a gate.

  Args:
    order: one of ORDERS.
    sizes: of the product.
    train: whether there is a backward pass.
    on_tpu: cycles of a TPU, by its compiler's estimate, instead of nanoseconds
      of a CPU.

  Returns:
    a number to compare orders by
  """
  s, count = sizes, elements(order, sizes)
  if on_tpu:
    of_weight, of_element = TPU_CYCLES[order][train]
    if order == "weights" and not train:
      of_element = max(0.0, of_element - s.tokens * _TPU_PRODUCT_CYCLES)
    return s.fan_in * s.fan_out * of_weight + count * of_element
  nanoseconds = count * CPU_NANOSECONDS[order][train]
  if order == "rows" and train:
    macs = s.gates * s.tokens * s.fan_in * s.fan_out
    nanoseconds += macs * _CPU_RECOMPUTE_NANOSECONDS
  return nanoseconds


def cheapest(
  orders, sizes: Sizes, train: bool = True, on_tpu: bool = False
) -> str:
  """The order among `orders` that costs least; the first of equals."""
  return min(orders, key=lambda order: cost(order, sizes, train, on_tpu))


def candidates(sizes: Sizes, packed: bool, on_tpu: bool) -> list[str]:
  """The orders that "auto" compares.

  Args:
    sizes: of the product.
    packed: whether every token of a row has a gate of its own.
    on_tpu: whether a TPU computes it.

  Returns:
    some of CHOICES
  """
  orders = list(ORDERS)
  if on_tpu and sizes.cols == 1:  # h is scaled once
    orders = ["cols"]
  elif on_tpu and sizes.rows == 1:  # y is
    orders = ["plain", "weights"]
  return [o for o in orders if o != "weights" or not packed]


def split_dims(h_dims, kernel_dims, gate: mtf.Tensor):
  """The dimensions of h beside fan-in: the ensemble's, N's and T's.

  N are those from the first to the last that the gate has too.

  Args:
    h_dims: the dimensions of h, in any order of fan-in among the others.
    kernel_dims: of W, [(ensemble,) fan_in, fan_out].
    gate: G.

  Returns:
    three lists of dimensions
  """
  *ensemble, fan_in, _ = kernel_dims
  leading = [d for d in h_dims if d not in ensemble and d != fan_in]
  shared = [i for i, d in enumerate(leading) if d in gate.shape.dims]
  end = shared[-1] + 1 if shared else 0
  return ensemble, leading[:end], leading[end:]


def arranged(order: str, h_dims, kernel_dims, gate: mtf.Tensor) -> list:
  """The dimensions of h in the order that a product reads.

  Args:
    order: "plain" or one of ORDERS.
    h_dims: as in `split_dims`, as the others are.
    kernel_dims: of W.
    gate: G.

  Returns:
    a list of dimensions
  """
  if order == "plain":
    return list(h_dims)
  ensemble, gates, tokens = split_dims(h_dims, kernel_dims, gate)
  fan_in = kernel_dims[-2]
  if not on_tpu(gate.mesh):
    return [*ensemble, *gates, *tokens, fan_in]
  if order == "weights" and not tokens:
    return [*ensemble, *gates, fan_in]
  leading = [*gates, *tokens]
  return [*ensemble, *leading[:-1], fan_in, *leading[-1:]]


def sizes_of(h_dims, kernel_dims, gate: mtf.Tensor, ways) -> Sizes:
  """The Sizes of a product on one device.

  Args:
    h_dims: as in `split_dims`, as the others are.
    kernel_dims: of W.
    gate: G.
    ways: a function of a Dimension: into how many shards the mesh splits it.

  Returns:
    a Sizes
  """

  def local(dims):
    return math.prod(d.size // ways(d) for d in dims)

  _, gates, tokens = split_dims(h_dims, kernel_dims, gate)
  fan_in, fan_out = kernel_dims[-2:]
  cells = {d.name: d.size for d in gate.shape.dims}
  return Sizes(
    gates=local(gates),
    tokens=local(tokens),
    fan_in=local([fan_in]),
    fan_out=local([fan_out]),
    rows=cells.get("grid_rows", 1),
    cols=cells.get("grid_cols", 1),
  )


def choose(
  order: str, h_dims, kernel_dims, gate: mtf.Tensor, train: bool, ways
) -> str:
  """The order that computes a product: the given one, or the cheapest.

  Args:
    order: one of CHOICES.
    h_dims: as in `split_dims`, as the others are.
    kernel_dims: of W.
    gate: G.
    train: whether a gradient will be wanted.
    ways: a function of a Dimension: into how many shards the mesh splits it.

  Returns:
    "plain" or one of ORDERS

  Raises:
    UserError: for "weights" if every token has a gate of its own.
  """
  # Packed rows: a gate for each position. (A step of decoding has no positions:
  # its gates are one for each example.)
  packed = "length" in (
    d.name for d in split_dims(h_dims, kernel_dims, gate)[1]
  )
  if order == "weights" and packed:
    raise errors.UserError(cannot_serve_packed_rows(order))
  if order != "auto":
    return order
  sizes = sizes_of(h_dims, kernel_dims, gate, ways)
  tpu = on_tpu(gate.mesh)
  return cheapest(candidates(sizes, packed, tpu), sizes, train, tpu)


def on_tpu(mesh: mtf.Mesh) -> bool:
  """Whether a TPU runs the graph of a mesh, and not a CPU or a GPU."""
  # mesh_tensorflow places variables by a function on TPUs only.
  return callable(mesh.variable_placer_fn)


def cannot_serve_packed_rows(order: str) -> str:
  """Says what to choose instead of the order "weights"."""
  others = [o for o in CHOICES if o not in (order, "auto")]
  return (
    f"HyperGrid.contraction = {order!r} needs one gate for each row of the "
    "batch, and these rows hold several packed examples: choose "
    f"{', '.join(map(repr, others))} or 'auto', or do not pack "
    "(mesh_train_dataset_fn.pack = False)."
  )
