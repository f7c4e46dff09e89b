"""Chooses the order in which y = h (psi(G) * W) is computed, by its cost.

The gate G has one value for each region of W [F, M], a grid of R x C regions. N
gates serve T tokens each: with one example per sequence, N sequences of T
tokens; with packed examples, one gate per token (T = 1); with a gate that is
the same for all examples, N = 1.

      order    intermediate values                           their elements
      plain    all partial products of grid rows at once     N T R M
      weights  a gated W for each gate                       N F M
      rows     the same, in small steps, redone in gradients N T R M
      cols     a scaled copy of h for each grid column       N T C F
      slices   all partial products, kept; on a TPU          N T R M
      merged   rows, of all sequences at once; on a TPU      N T R M
      scaled   a scaled h, if the grid has one column        N T F
      once     one gated W for all examples; on a TPU        F M
"""

import dataclasses

import mesh_tensorflow as mtf

from hypergrid_mtf import errors
from hypergrid_mtf.product import on_mesh

ORDERS = ("weights", "rows", "cols")
CHOICES = ("auto", "plain", *ORDERS, "slices")


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Static sizes of one product, on one device.

  Attributes:
    gates: N, number of gates.
    tokens: T, number of tokens that share a gate.
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


# Nanoseconds per element of an order's intermediate values, in addition to the
# product without a gate: (forward, forward and backward). Geometric means of
# two CPUs, one with AVX-512, which differ by a factor of three for all orders
# alike. `python -m tools.dev.calibrate` measures them (docs/dev/cost.md).
CPU_NANOSECONDS = {
  "weights": (0.70, 2.9),
  "rows": (0.86, 2.3),
  "cols": (0.68, 3.2),
}
# One multiply-add of the partial products that `rows` recomputes.
_CPU_RECOMPUTE_NANOSECONDS = 0.0115

# Cycles of a TPU v3 core in addition to the product without a gate, as its
# compiler estimates them: (forward, forward and backward), each (per element of
# W, per element of the order's intermediate values). docs/dev/tpu_layer.md.
TPU_CYCLES = {
  "plain": ((0.0, 0.008), (0.0, 0.050)),  # with one row: y, scaled
  "weights": ((0.0, 0.0085), (0.0, 0.019)),
  "rows": ((0.045, 0.0100), (0.09, 0.0185)),
  "cols": ((0.030, 0.0030), (0.09, 0.026)),
  "slices": ((0.020, 0.0), (0.0, 0.040)),
  "merged": ((0.029, 0.0073),),  # never in training
  "scaled": ((0.0, 0.0030),),  # never in training
}
# One multiply-add of the product that `rows` and `cols` compute once more for
# the gradients.
_TPU_RECOMPUTE_CYCLES = 3.3e-5
# Of `slices`, where the tokens of a sequence share a gate.
_TPU_SHARED_SLICES = 0.026
TPU_LANES = 128
# Of each token that shares a gate: gating W forward hides behind the product.
_TPU_HIDDEN_CYCLES = 5.5e-5


def whole_lanes(size: int) -> int:
  """The lanes of a TPU that hold `size` tokens of a sequence."""
  return -(-size // TPU_LANES) * TPU_LANES


def elements(order: str, sizes: Sizes) -> int:
  """Number of elements that an order makes in addition to h, W, G and y."""
  s = sizes
  if order == "weights":
    return s.gates * s.fan_in * s.fan_out
  if order in ("cols", "scaled"):
    return s.gates * s.tokens * s.cols * s.fan_in
  return s.gates * s.tokens * s.rows * s.fan_out


def cost(order: str, sizes: Sizes, train: bool, on_tpu: bool) -> float:
  """Cost of an order in addition to the product without a gate.

  Nanoseconds of a CPU, or cycles of a TPU by its compiler's estimate; only for
  comparing orders.
  """
  s, count = sizes, elements(order, sizes)
  macs = s.gates * s.tokens * s.fan_in * s.fan_out
  if on_tpu:
    of_weight, of_element = TPU_CYCLES[order][train]
    if order == "weights" and not train:
      of_element = max(0.0, of_element - s.tokens * _TPU_HIDDEN_CYCLES)
    if order == "cols" and not train and s.tokens > 1:
      count = count // s.tokens * whole_lanes(s.tokens)
    if order == "slices" and train and s.tokens > 1:
      of_element = _TPU_SHARED_SLICES
    cycles = s.fan_in * s.fan_out * of_weight + count * of_element
    if order in ("rows", "cols") and train:
      cycles += macs * _TPU_RECOMPUTE_CYCLES
    return cycles
  nanoseconds = count * CPU_NANOSECONDS[order][train]
  if order == "rows" and train:
    nanoseconds += macs * _CPU_RECOMPUTE_NANOSECONDS
  return nanoseconds


def cheapest(
  orders, sizes: Sizes, train: bool = True, on_tpu: bool = False
) -> str:
  """The cheapest of `orders`; the first of equals."""
  return min(orders, key=lambda order: cost(order, sizes, train, on_tpu))


def candidates(
  sizes: Sizes, packed: bool, train: bool, on_tpu: bool
) -> list[str]:
  """The orders compared by "auto".

  Args:
    sizes: of the product.
    packed: whether every token has its own gate.
    train: whether gradients are needed.
    on_tpu: whether a TPU computes it.

  Returns:
    some of CHOICES; and "merged" and "scaled", which are never for training
  """
  merges = on_tpu and not train and sizes.tokens > 1
  orders = ["weights", "merged" if merges else "rows", "cols"]
  if on_tpu and sizes.cols == 1:  # h is scaled once
    return ["scaled" if merges else "cols"]
  elif on_tpu and sizes.rows == 1:  # y is
    orders = ["plain", "weights"]
  elif on_tpu:
    kept = sizes.rows * sizes.fan_out  # products per token
    decodes = sizes.tokens == 1 and not packed
    if decodes:  # no more than W, whose grid rows fill whole lanes
      small = (
        sizes.gates * kept <= sizes.fan_in * sizes.fan_out
        and sizes.fan_in // sizes.rows % TPU_LANES == 0
      )
    else:  # no more than h; where tokens share a gate, "weights" does as well
      small = kept <= sizes.fan_in and (train or sizes.tokens == 1)
    if small:
      orders.append("slices")
  return [o for o in orders if o != "weights" or not packed]


def split_dims(h_dims, kernel_dims, gate: mtf.Tensor):
  """The dimensions of h except fan-in: the ensemble's, N's and T's.

  N's are those up to the last one that the gate also has.

  Args:
    h_dims: the dimensions of h, with fan-in anywhere among them.
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


def sizes_of(
  gates, tokens, kernel_dims, gate: mtf.Tensor, where: on_mesh.Where
) -> Sizes:
  """The sizes of a product, from the dimensions of `split_dims`."""
  cells = {d.name: d.size for d in gate.shape.dims}
  return Sizes(
    gates=where.local_size(gates),
    tokens=where.local_size(tokens),
    fan_in=where.local_size(kernel_dims[-2:-1]),
    fan_out=where.local_size(kernel_dims[-1:]),
    rows=cells.get("grid_rows", 1),
    cols=cells.get("grid_cols", 1),
  )


def choose(
  order: str, h_dims, kernel_dims, gate: mtf.Tensor, where: on_mesh.Where
) -> str:
  """The order for a product: the given one, or the cheapest.

  Args:
    order: one of CHOICES.
    h_dims: this and the following as in `split_dims`.
    kernel_dims: of W.
    gate: G.
    where: the graph.

  Returns:
    as `candidates`; or "once" if all examples share a gate, which the other
    orders for a TPU would copy for each sequence

  Raises:
    UserError: for "weights" if every token has its own gate.
  """
  _, gates, tokens = split_dims(h_dims, kernel_dims, gate)
  # Packed examples need a gate per position. (A decoding step has no positions;
  # its gates are per example.)
  packed = "length" in (d.name for d in gates)
  if order == "weights" and packed:
    raise errors.UserError(cannot_serve_packed_rows(order))
  if order != "auto":
    return order
  if where.on_tpu and not gates and "length" in (d.name for d in tokens):
    return "once"  # not while decoding: each step would write the gated W
  sizes = sizes_of(gates, tokens, kernel_dims, gate, where)
  orders = candidates(sizes, packed, where.train, where.on_tpu)
  return cheapest(orders, sizes, where.train, where.on_tpu)


def cannot_serve_packed_rows(order: str) -> str:
  """Says what to choose instead of the order "weights"."""
  others = [o for o in CHOICES if o not in (order, "auto")]
  return (
    f"HyperGrid.contraction = {order!r} needs one gate per sequence, and these "
    "sequences hold several packed examples: choose "
    f"{', '.join(map(repr, others))} or 'auto', or do not pack "
    "(mesh_train_dataset_fn.pack = False)."
  )
