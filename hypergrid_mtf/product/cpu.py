"""Orders of y = h (psi(G) * W) that suit a CPU, on TensorFlow tensors.

All give the same y as `product.plain`, from one device's parts of h, W and G.
They loop over gates, grid rows or grid columns in steps whose temporaries fit
in a cache (and stay below the size from which malloc returns memory to the
system after each use, which costs more than the product). The gradients
recompute what they need, so only h, W and G are kept between the forward and
the backward pass. `cost` lists the intermediate values of each order and their
cost.
"""

import dataclasses

import tensorflow.compat.v1 as tf

from hypergrid_mtf.product.cost import Sizes, split_dims

__all__ = ["gradients", "h_layout", "product", "shapes", "split_dims"]

# Elements of one temporary in a step; 4 MB of float32.
_STEP_ELEMENTS = 1 << 20
# Each step adds to the graph: more steps than this are merged.
_MAX_STEPS = 32


def h_layout(order: str, ensemble, gates, tokens, fan_in) -> list:
  """The dimensions of h in the order that `product` expects."""
  del order
  return [*ensemble, *gates, *tokens, fan_in]


def positions(order: str, h_dims, fan_in) -> list:
  """No dimensions: CPUs need no layout of tokens."""
  del order, h_dims, fan_in
  return []


def shapes(order: str, s: Sizes, positions: int) -> list:
  """Shapes of h, W, G and dy."""
  del order, positions
  return [
    [s.gates, s.tokens, s.fan_in],
    [s.fan_in, s.fan_out],
    [s.gates, s.rows, s.cols],
    [s.gates, s.tokens, s.fan_out],
  ]


def product(order: str, h, kernel, gate):
  """y = h (psi(G) * W), [N, T, M], of h [N, T, F], W [F, M], G [N, R, C]."""
  return _ORDERS[order][0](h, kernel, gate)


def gradients(order: str, h, kernel, gate, dy):
  """Gradients of h, W and G, from the inputs of `product` and that of y."""
  # Recomputed values must not be shared with the forward pass, or they would be
  # kept. The graph optimizer merges equal nodes unless their control inputs
  # differ.
  with tf.control_dependencies([dy]):
    h, kernel, gate = map(tf.identity, (h, kernel, gate))
  return _ORDERS[order][1](h, kernel, gate, dy)


def _sizes(h, kernel, gate) -> Sizes:
  n, t, f = h.shape.as_list()
  return Sizes(n, t, f, kernel.shape.as_list()[1], *gate.shape.as_list()[1:])


def _group(count: int, step_elements: int) -> int:
  """How many of `count` equal parts to process per step; divides `count`."""
  divisors = [d for d in range(1, count + 1) if count % d == 0]
  fewest = min(d for d in divisors if count // d <= _MAX_STEPS)
  fit = [d for d in divisors if d * step_elements <= _STEP_ELEMENTS]
  return max([fewest, *fit])


def _wide(x):
  """x in the type used for sums: float32 for bfloat16."""
  return tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x


def _split(x, parts: int, axis: int):
  return [x] if parts == 1 else tf.split(x, parts, axis)


def _concat(parts, axis: int):
  return parts[0] if len(parts) == 1 else tf.concat(parts, axis)


def _matmul(a, b, **transposes):
  """`tf.matmul` of [g, …]; for g = 1 a product of plain matrices is faster."""
  if a.shape[0] == 1:
    return tf.matmul(a[0], b[0], **transposes)[None]
  return tf.matmul(a, b, **transposes)


def _add(total, term):
  return term if total is None else total + term


def _weights_steps(s: Sizes, gate):
  """The gates of each step, repeated over their columns: [g, R, 1, M]."""
  steps = s.gates // _group(s.gates, s.fan_in * s.fan_out)
  wide = tf.repeat(gate, s.fan_out // s.cols, axis=2)
  return [g[:, :, None, :] for g in _split(wide, steps, 0)]


def _weights(h, kernel, gate):
  s = _sizes(h, kernel, gate)
  gates = _weights_steps(s, gate)
  kernel = tf.reshape(kernel, [s.rows, s.fan_in // s.rows, s.fan_out])
  y: list[tf.Tensor] = []
  for part, g in zip(_split(h, len(gates), 0), gates, strict=True):
    with tf.control_dependencies(y[-1:]):
      y.append(_matmul(part, _gated(kernel, g)))
  return _concat(y, 0)


def _transposed(s: Sizes) -> Sizes:
  """The sizes of the product with the transposed kernel."""
  return dataclasses.replace(
    s, fan_in=s.fan_out, fan_out=s.fan_in, rows=s.cols, cols=s.rows
  )


def _gated(kernel, g):
  """[R, F/R, M] times [g, R, 1, M] as [g, F, M]."""
  gates, rows, _, fan_out = g.shape.as_list()
  if gates == 1:  # three axes broadcast faster than four
    g = tf.reshape(g, [rows, 1, fan_out])
  return tf.reshape(kernel * g, [gates, -1, fan_out])


def _weights_gradients(h, kernel, gate, dy):
  s = _sizes(h, kernel, gate)
  gates = _weights_steps(s, gate)
  # A product with a transposed kernel takes longer than transposing once.
  transposed = tf.reshape(
    tf.transpose(kernel), [s.cols, s.fan_out // s.cols, s.fan_in]
  )
  transposed_gates = _weights_steps(
    _transposed(s), tf.transpose(gate, [0, 2, 1])
  )  # [g, C, 1, F]
  kernel = tf.reshape(kernel, [s.rows, s.fan_in // s.rows, s.fan_out])
  dh, dgate, dkernel = [], [], None
  for part, dpart, g, transposed_g in zip(
    _split(h, len(gates), 0),
    _split(dy, len(gates), 0),
    gates,
    transposed_gates,
    strict=True,
  ):
    with tf.control_dependencies([] if dkernel is None else [dkernel]):
      dh.append(_matmul(dpart, _gated(transposed, transposed_g)))
    with tf.control_dependencies(dh[-1:]):
      # The kernel's gradient without the gate: [g, R, F/R, M]
      plain = _matmul(part, dpart, transpose_a=True)
      plain = tf.reshape(plain, [-1, *kernel.shape.as_list()])
      if plain.shape[0] == 1:
        of_regions = _wide(tf.reshape(plain, kernel.shape) * kernel)[None]
      else:
        of_regions = _wide(plain * kernel)
      of_regions = tf.reshape(
        tf.reduce_sum(of_regions, 2), [-1, s.rows, s.cols, s.fan_out // s.cols]
      )
      dgate.append(tf.reduce_sum(of_regions, 3))
    with tf.control_dependencies(dgate[-1:]):
      if plain.shape[0] == 1:
        of_kernel = _wide(tf.reshape(plain, kernel.shape) * g[0])
      else:
        of_kernel = tf.reduce_sum(_wide(plain * g), 0)
      dkernel = _add(dkernel, of_kernel)
  return (
    _concat(dh, 0),
    tf.cast(tf.reshape(dkernel, [s.fan_in, s.fan_out]), h.dtype),
    tf.cast(_concat(dgate, 0), h.dtype),
  )


def _rows_steps(s: Sizes, h, kernel, gate):
  """The parts of h, W and G for each step of grid rows.

  Slicing any axis but the first makes slow copies, so everything is transposed
  once instead.

  Returns:
    a list of (h [g, N T, F/R], W [g, F/R, M], G in the shape of `_regions`)
  """
  tokens = s.gates * s.tokens
  group = _group(s.rows, tokens * s.fan_out)
  steps, block = s.rows // group, s.fan_in // s.rows
  h = _swap(tf.reshape(h, [tokens, s.rows, block]))
  kernel = tf.reshape(kernel, [s.rows, block, s.fan_out])
  gate = _swap(gate)  # [R, N, C]
  if s.tokens > 1:
    gate = tf.repeat(gate, s.fan_out // s.cols, axis=2)
    gate = gate[:, :, None]
  else:
    gate = gate[..., None]
  return list(
    zip(*(_split(x, steps, 0) for x in (h, kernel, gate)), strict=True)
  )


def _regions(s: Sizes):
  """The shape in which a step's partial products are multiplied by gates.

  Where tokens share a gate, [g, N, T, M] times [g, N, 1, M]; otherwise
  [g, N, C, M/C] times [g, N, C, 1]: fewer axes broadcast faster.
  """
  if s.tokens > 1:
    return [-1, s.gates, s.tokens, s.fan_out]
  return [-1, s.gates, s.cols, s.fan_out // s.cols]


def _swap(x):
  """[a, b, ...] -> [b, a, ...], without a copy if one of them is 1."""
  a, b, *rest = x.shape.as_list()
  if 1 in (a, b):
    return tf.reshape(x, [b, a, *rest])
  return tf.transpose(x, [1, 0, *range(2, 2 + len(rest))])


def _sum_first(x):
  return tf.reshape(x, x.shape[1:]) if x.shape[0] == 1 else tf.reduce_sum(x, 0)


def _rows(h, kernel, gate):
  s = _sizes(h, kernel, gate)
  total: list[tf.Tensor] = []
  terms: list[tf.Tensor] = []
  steps = _rows_steps(s, h, kernel, gate)
  for i, (part, w, g) in enumerate(steps, 1):
    with tf.control_dependencies(total):
      p = tf.reshape(_matmul(part, w), _regions(s))
      terms.append(_sum_first(_wide(p * g)))
      # Adds three at a time in one pass over memory.
      if len(terms) == 2 or i == len(steps):
        total, terms = [tf.add_n(total + terms)], []
  (y,) = total
  return tf.cast(tf.reshape(y, [s.gates, s.tokens, s.fan_out]), h.dtype)


def _rows_gradients(h, kernel, gate, dy):
  s = _sizes(h, kernel, gate)
  dh: list[tf.Tensor] = []
  dkernel: list[tf.Tensor] = []
  dgate: list[tf.Tensor] = []
  cells = [-1, s.gates, s.tokens, s.cols, s.fan_out // s.cols]
  dy_cells, dy = tf.reshape(dy, cells), tf.reshape(dy, _regions(s))
  for part, w, g in _rows_steps(s, h, kernel, gate):
    with tf.control_dependencies(dh[-1:] + dkernel[-1:]):
      p = tf.reshape(_matmul(part, w), cells)
      of_gate = tf.reduce_sum(_wide(p * dy_cells), 4)  # [g, N, T, C]
    with tf.control_dependencies([of_gate]):
      dp = tf.reshape(dy * g, [-1, s.gates * s.tokens, s.fan_out])
      dkernel.append(_matmul(part, dp, transpose_a=True))
      dh_part = _swap(_matmul(dp, w, transpose_b=True))  # [N T, g, F/R]
    dh.append(tf.reshape(dh_part, [s.gates, s.tokens, -1]))
    dgate.append(tf.reduce_sum(of_gate, 2))
  return (
    _concat(dh, 2),
    tf.reshape(_concat(dkernel, 0), [s.fan_in, s.fan_out]),
    tf.cast(_swap(_concat(dgate, 0)), h.dtype),
  )


def _cols_steps(s: Sizes, kernel, gate):
  """The parts of W and G for each step of grid columns.

  Returns:
    a list of (W [g, F, M/C], G [g, N, 1, R, 1])
  """
  steps = s.cols // _group(s.cols, s.gates * s.tokens * s.fan_in)
  kernel = _swap(tf.reshape(kernel, [s.fan_in, s.cols, s.fan_out // s.cols]))
  gate = tf.transpose(gate, [2, 0, 1])[:, :, None, :, None]
  return list(zip(*(_split(x, steps, 0) for x in (kernel, gate)), strict=True))


def _by_rows(s: Sizes, h):
  """h as [N, T, R, F/R]."""
  return tf.reshape(h, [s.gates, s.tokens, s.rows, s.fan_in // s.rows])


def _cols(h, kernel, gate):
  s = _sizes(h, kernel, gate)
  h = _by_rows(s, h)
  y: list[tf.Tensor] = []
  for w, g in _cols_steps(s, kernel, gate):
    with tf.control_dependencies(y[-1:]):
      scaled = tf.reshape(h * g, [-1, s.gates * s.tokens, s.fan_in])
      part = _swap(_matmul(scaled, w))  # [N T, g, M/C]
      y.append(tf.reshape(part, [s.gates, s.tokens, -1]))
  return _concat(y, 2)


def _cols_gradients(h, kernel, gate, dy):
  s = _sizes(h, kernel, gate)
  steps = _cols_steps(s, kernel, gate)
  h = _by_rows(s, h)
  tokens = s.gates * s.tokens
  dy = _swap(tf.reshape(dy, [tokens, s.cols, s.fan_out // s.cols]))
  dys = _split(dy, len(steps), 0)
  dh, dkernel, dgate = None, [], []
  for (w, g), dpart in zip(steps, dys, strict=True):
    group = g.shape.as_list()[0]
    with tf.control_dependencies([] if dh is None else [dh]):
      scaled = tf.reshape(h * g, [group, tokens, s.fan_in])
      dw = _matmul(scaled, dpart, transpose_a=True)  # [g, F, M/C]
      dkernel.append(tf.reshape(_swap(dw), [s.fan_in, -1]))
    with tf.control_dependencies(dkernel[-1:]):
      # The gradient of the scaled h serves both of its factors.
      ds = _matmul(dpart, w, transpose_b=True)
      ds = tf.reshape(ds, [group, *h.shape.as_list()])
      of_gate = tf.reduce_sum(_wide(ds * h), [2, 4])  # [g, N, R]
      dgate.append(tf.transpose(of_gate, [1, 2, 0]))
    with tf.control_dependencies(dgate[-1:]):
      dh = _add(dh, _sum_first(_wide(ds * g)))
  return (
    tf.cast(tf.reshape(dh, [s.gates, s.tokens, s.fan_in]), dy.dtype),
    _concat(dkernel, 1),
    tf.cast(_concat(dgate, 2), dy.dtype),
  )


_ORDERS = {
  "weights": (_weights, _weights_gradients),
  "rows": (_rows, _rows_gradients),
  "cols": (_cols, _cols_gradients),
  "slices": (_rows, _rows_gradients),  # made for TPUs
}
