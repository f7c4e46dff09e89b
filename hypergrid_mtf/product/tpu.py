"""Orders of y = h (psi(G) * W) that suit a TPU, and the layer around them.

The orders are functions of TensorFlow tensors. All give the same y as
`product.plain`, from one device's parts of h, W and G. Each product is one
operation, which XLA fuses with its neighbours: the gated weights, partial
products and scaled copies of h that `cost` counts are never in memory, except
the products of "slices". To make that possible, the tokens of a sequence are
the last dimension, the lanes of the chip, because a cell of 48 columns would
fill them badly; and W is repeated for each sequence, because XLA fuses a
product well if its only outer dimension is a batch.

The optimization barriers keep XLA from sharing a value between two products: it
would have to stay in memory between them, or between the forward and the
backward pass. docs/dev/tpu_layer.md has the cost of each order, as estimated by
the TPU's compiler.

Below, N is the number of sequences and T the tokens of each. The gate is G [N,
T, R, C], with 1 instead of T if the tokens of a sequence share it; for "once",
with 1 instead of both; for "merged" [N, S, R, C], with a gate for each of S
sequences that together have T tokens.
"""

import functools

import mesh_tensorflow as mtf
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from hypergrid_mtf.product import cost, on_mesh

# Of a gate: the sequences that `merge_sequences` made one.
SEQUENCES = "merged_sequences"


def serves(layer, context) -> bool:
  """Whether a TPU computes a layer's gated wo by the orders of this module."""
  return (
    on_mesh.Where(context).on_tpu
    and layer.gated_kernel == "wo"
    and layer.contraction != "plain"
  )


def feed_forward(layer, context, x: mtf.Tensor, gate: mtf.Tensor) -> mtf.Tensor:
  """The layer's `call` after G, with h laid out as the product expects.

  In training, sequences that nearly fill the lanes of the chip are padded, and
  the relu that makes h comes last: only h is then kept for the gradients,
  because dropout never multiplies by a negative number.
  """
  where, length = on_mesh.Where(context), context.length_dim
  hidden_dim, model_dim = layer.dims("wo", context.model.model_dim)
  kernel_dims = [*context.model.ensemble_dims, hidden_dim, model_dim]
  shape, h_dims = x.shape, [*x.shape.dims[:-1], hidden_dim]
  order = cost.choose(layer.contraction, h_dims, kernel_dims, gate, where)
  if order == "merged":
    length, (x, gate) = merge_sequences(length, x, gate, where)
    h_dims = [*x.shape.dims[:-1], hidden_dim]
  rearranges = order != "plain"
  trains = where.train and rearranges and where.num_shards(length) == 1
  if trains:
    length, (x, gate) = fill_rows(length, [x, gate])
    h_dims = [*x.shape.dims[:-1], hidden_dim]
  if rearranges:
    ensemble, gates, tokens = split_dims(h_dims, kernel_dims, gate)
    h_dims = h_layout(order, ensemble, gates, tokens, hidden_dim)
  multiply = functools.partial(_dense_positions_last, h_dims, where)
  if trains and layer.activations() == {"wi": mtf.relu}:
    h = relu(layer.hidden(context, x, multiply, {"wi": None}, length))
  else:
    h = layer.hidden(context, x, multiply, length_dim=length)
  y = layer.dense(
    context,
    h,
    "wo",
    lambda h, kernel: layer.gated_product(h, kernel, gate, order, where),
  )
  if trains and length != context.length_dim:
    y = mtf.slice(y, 0, context.length_dim.size, length.name)
  if order == "merged":  # the barrier keeps the next layers as they are in T5
    y = mtf.cwise(lambda y: _barrier(y)[0], [mtf.reshape(y, shape)])
  return y


def fill_rows(length: mtf.Dimension, xs) -> tuple[mtf.Dimension, list]:
  """Pads sequences with zeros to full lanes, if that is cheaper.

  It is if they become at most a third longer (docs/dev/tpu_layer.md).

  Args:
    length: of the sequences.
    xs: tensors with or without that dimension.

  Returns:
    the padded length, and the tensors
  """
  size = cost.whole_lanes(length.size)
  if size == length.size or 3 * size > 4 * length.size:
    return length, list(xs)
  padding = [0, size - length.size]
  return mtf.Dimension(length.name, size), [
    mtf.pad(x, padding, length.name) if length in x.shape.dims else x
    for x in xs
  ]


def merge_sequences(length: mtf.Dimension, x, gate, where):
  """Makes two long sequences of those of each device, or one of an odd number.

  For a single one XLA would make a turned copy of wi.

  Args:
    length: of the sequences.
    x: [..., batch, length, d_model].
    gate: G, which the tokens of a sequence share.
    where: the graph.

  Returns:
    the new length, and both tensors; the gate [..., batch, SEQUENCES, ...]
  """
  if length not in x.shape.dims or where.num_shards(length) > 1:
    return length, [x, gate]
  batch = x.shape.dims[-3]
  if batch not in gate.shape.dims:
    return length, [x, gate]
  count = where.num_shards(batch) * (2 - where.local_size([batch]) % 2)
  size = batch.size // count
  fewer = mtf.Dimension(batch.name, count)
  merged = mtf.Dimension(length.name, size * length.size)
  into = {batch: [fewer], length: [merged]}
  of_gate = {batch: [fewer, mtf.Dimension(SEQUENCES, size)]}
  return merged, [
    mtf.reshape(t, mtf.Shape(sum((new.get(d, [d]) for d in t.shape), [])))
    for t, new in ((x, into), (gate, of_gate))
  ]


def relu(x: mtf.Tensor) -> mtf.Tensor:
  """max(x, 0), computed once for both passes; its gradient uses the result."""

  def forward(x):
    (y,) = _barrier(tf.nn.relu(x))
    return y

  def backward(y, dy):
    y, dy = _barrier(y, dy)
    return tf.where(y > 0, dy, tf.zeros_like(dy))

  def gradient(op, dy):
    return [mtf.cwise(backward, [*op.outputs, dy])]

  return mtf.cwise(forward, [x], name="relu", grad_function=gradient)


def _dense_positions_last(h_dims, where, x, kernel) -> mtf.Tensor:
  """x W [N, F, T], as the product with a gate expects it.

  x is [N, T, D], W [D, F].
  """
  hidden_dim = kernel.shape.dims[-1]
  if h_dims[-1] == hidden_dim:
    return mtf.einsum([x, kernel], output_shape=h_dims)

  def forward(x, kernel):
    return tf.einsum("df,ntd->nft", kernel, x)

  def backward(x, kernel, dy):
    dx = tf.einsum("nft,df->ntd", dy, kernel)
    return dx, tf.einsum("ntd,nft->df", x, dy)

  fan_in, fan_out = (where.local_size([d]) for d in kernel.shape.dims[-2:])
  positions = where.local_size(h_dims[-1:])
  sizes = [
    [-1, positions, fan_in],
    [fan_in, fan_out],
    [-1, fan_out, positions],
  ]
  return on_mesh.operation(
    forward, backward, [x, kernel], sizes, h_dims, where, "positions_last"
  )


def split_dims(h_dims, kernel_dims, gate: mtf.Tensor):
  """As `cost.split_dims`, but only the last of T's dimensions stays T's."""
  ensemble, gates, tokens = cost.split_dims(h_dims, kernel_dims, gate)
  return ensemble, gates + tokens[:-1], tokens[-1:]


def h_layout(order: str, ensemble, gates, tokens, fan_in) -> list:
  """The dimensions of h in the order that `product` expects."""
  if order in _TOKENS_FIRST or (order == "weights" and not tokens):
    return [*ensemble, *gates, *tokens, fan_in]
  leading = [*gates, *tokens]
  return [*ensemble, *leading[:-1], fan_in, *leading[-1:]]


def positions(order: str, h_dims, fan_in) -> list:
  """The dimension of h_dims that holds the tokens of a sequence, if any."""
  if order in _TOKENS_FIRST:
    return h_dims[-2:-1]
  return [d for d in h_dims[-1:] if d != fan_in]


def shapes(order: str, s: cost.Sizes, positions: int) -> list:
  """Shapes of h, W, G and dy; `positions` are the tokens of a row."""
  last = [s.fan_in, positions]
  of_gate = [-1, positions if s.tokens == 1 else 1]
  if order == "merged" and s.tokens > 1:
    of_gate = [s.gates, -1]
  return [
    [-1, *(last[::-1] if order in _TOKENS_FIRST else last)],
    [s.fan_in, s.fan_out],
    [*of_gate, s.rows, s.cols],
    [-1, positions, s.fan_out],
  ]


def product(order: str, h, kernel, gate):
  """y = h (psi(G) * W), [N, T, M], of h [N, F, T], W [F, M] and G."""
  return _ORDERS[order][0](h, kernel, gate)


def gradients(order: str, h, kernel, gate, dy):
  """Gradients of h, W and G, from the inputs of `product` and that of y."""
  # Kept from the forward pass: the turned W of "rows" and "cols", and all that
  # "slices" made.
  if order in ("rows", "cols"):
    h, gate, dy = _barrier(h, gate, dy)
  elif order != "slices":
    h, kernel, gate, dy = _barrier(h, kernel, gate, dy)
  dh, dkernel, dgate = _ORDERS[order][1](h, kernel, gate, dy)
  # Recomputing the next factor of dh for each product is better than keeping
  # it.
  (dh,) = _barrier(tf.reshape(dh, h.shape))
  dkernel = tf.reshape(dkernel, kernel.shape)
  return dh, dkernel, tf.cast(dgate, h.dtype)


def _barrier(*xs):
  """Optimization barrier: XLA may not reuse earlier results."""
  return gen_xla_ops.xla_optimization_barrier(input=list(xs))


def _wide(x):
  """x in the type used for sums: float32 for bfloat16."""
  return tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x


def _to_rows(x, rows: int):
  """x [...] repeated for each sequence: [N, ...]."""
  return tf.broadcast_to(x[None], [rows, *x.shape.as_list()])


def _by_rows(x, rows: int):
  """[..., F, a] -> [..., R, F/R, a]"""
  *leading, fan_in, last = x.shape.as_list()
  return tf.reshape(x, [*leading, rows, fan_in // rows, last])


def _psi(gate, fan_out: int):
  """G [N, 1, R, C] with each cell repeated over its columns, [N, R, 1, M]."""
  _, _, _, cols = gate.shape.as_list()
  (psi,) = _barrier(tf.repeat(gate[:, 0], fan_out // cols, axis=2))
  return psi[:, :, None]


def _weights(h, kernel, gate):
  rows = gate.shape.as_list()[2]
  w = _by_rows(kernel, rows) * _psi(gate, kernel.shape.as_list()[1])
  return tf.einsum("nrft,nrfm->ntm", _by_rows(h, rows), w)


def _weights_gradients(h, kernel, gate, dy):
  _, _, rows, cols = gate.shape.as_list()
  fan_out = kernel.shape.as_list()[1]
  psi = _psi(gate, fan_out)
  h, w = _by_rows(h, rows), _by_rows(kernel, rows)
  # The kernel's gradient without the gate, times the kernel.
  dgate = tf.reduce_sum(_wide(tf.einsum("nrft,ntm->nrfm", h, dy) * w), 2)
  dgate = tf.reshape(dgate, [-1, 1, rows, cols, fan_out // cols])
  dgate = tf.reduce_sum(dgate, 4)
  dgate, h, dy, psi = _barrier(dgate, h, dy, psi)
  # The sum is over sequences, so they are no batch here and come second.
  dkernel = tf.einsum(
    "rfnt,rntm->rfm",
    tf.transpose(h, [1, 2, 0, 3]),
    dy[None] * tf.transpose(psi, [1, 0, 2, 3]),
  )
  dy, psi = _barrier(dy, psi)
  dh = tf.einsum("ntm,nrfm->nrft", dy, w * psi)
  return dh, dkernel, dgate


def _positions_last(gate, dy):
  """G as [N, R, C, 1, T or 1], dy as [N, C, M/C, T]."""
  cols = gate.shape.as_list()[3]
  rows, tokens, fan_out = dy.shape.as_list()
  dy = tf.transpose(dy, [0, 2, 1])
  dy = tf.reshape(dy, [rows, cols, fan_out // cols, tokens])
  return _gate_last(gate), dy


def _gate_last(gate):
  return tf.transpose(gate, [0, 2, 3, 1])[:, :, :, None]


def _positions_first(y):
  """[N, C, M/C, T] -> [N, T, M]"""
  rows, cols, cell, tokens = y.shape.as_list()
  return tf.transpose(tf.reshape(y, [rows, cols * cell, tokens]), [0, 2, 1])


def _gate_gradient(gate, dgate):
  """[N, R, C, T] -> as the gate."""
  if gate.shape.as_list()[1] == 1:
    dgate = tf.reduce_sum(dgate, 3, keepdims=True)
  return tf.transpose(dgate, [0, 3, 1, 2])


def _rows_kernel(kernel, gate):
  """W as [R, C, M/C, F/R]: a copy that fills the lanes better."""
  _, _, rows, cols = gate.shape.as_list()
  fan_in, fan_out = kernel.shape.as_list()
  (w,) = _barrier(tf.transpose(_by_rows(kernel, rows), [0, 2, 1]))
  return tf.reshape(w, [rows, cols, fan_out // cols, fan_in // rows])


def _rows(h, kernel, gate):
  n, w = h.shape.as_list()[0], _rows_kernel(kernel, gate)
  p = tf.einsum(
    "nrcmf,nrft->nrcmt", _to_rows(w, n), _by_rows(h, w.shape.as_list()[0])
  )
  y = tf.reduce_sum(_wide(p) * _wide(_gate_last(gate)), 1)
  return _positions_first(tf.cast(y, h.dtype))


def _rows_gradients(h, kernel, gate, dy):
  n, w = h.shape.as_list()[0], _rows_kernel(kernel, gate)
  fan_out = kernel.shape.as_list()[1]
  h = _by_rows(h, w.shape.as_list()[0])
  h, g, dy = _barrier(h, *_positions_last(gate, dy))
  dy = dy[:, None]
  p = tf.einsum("nrcmf,nrft->nrcmt", _to_rows(w, n), h)
  dgate = _gate_gradient(gate, tf.reduce_sum(_wide(p * dy), 3))
  dgate, g, dy = _barrier(tf.cast(dgate, h.dtype), g, dy)
  dkernel = tf.einsum("nrft,nrcmt->rcmf", h, dy * g)
  dkernel, g, dy = _barrier(dkernel, g, dy)
  dkernel = tf.reshape(dkernel, [w.shape.as_list()[0], fan_out, -1])
  # Transposed in its own type, not in the optimizer's float32.
  (dkernel,) = _barrier(tf.transpose(dkernel, [0, 2, 1]))
  dh = tf.einsum("nrcmf,nrcmt->nrft", _to_rows(w, n), dy * g)
  return dh, dkernel, dgate


def _cols_kernel(kernel, gate):
  """W as [C, M/C, R, F/R]."""
  _, _, rows, cols = gate.shape.as_list()
  fan_in, fan_out = kernel.shape.as_list()
  (w,) = _barrier(tf.transpose(kernel))
  return tf.reshape(w, [cols, fan_out // cols, rows, fan_in // rows])


def _cols(h, kernel, gate):
  n, w = h.shape.as_list()[0], _cols_kernel(kernel, gate)
  scaled = _by_rows(h, gate.shape.as_list()[2])[:, :, None] * _gate_last(gate)
  y = tf.einsum("ncmrf,nrcft->ncmt", _to_rows(w, n), scaled)
  return _positions_first(y)


def _cols_gradients(h, kernel, gate, dy):
  n, w = h.shape.as_list()[0], _cols_kernel(kernel, gate)
  h = _by_rows(h, gate.shape.as_list()[2])[:, :, None]
  h, g, dy = _barrier(h, *_positions_last(gate, dy))
  # The gradient of the scaled h, [N, R, C, F/R, T], serves both its factors.
  ds = tf.einsum("ncmrf,ncmt->nrcft", _to_rows(w, n), dy)
  dgate = _gate_gradient(gate, tf.reduce_sum(_wide(ds * h), 3))
  dgate, h, g, dy = _barrier(tf.cast(dgate, h.dtype), h, g, dy)
  dkernel = tf.einsum("nrcft,ncmt->cmrf", h * g, dy)
  dkernel, g, dy = _barrier(dkernel, g, dy)
  ds = tf.einsum("ncmrf,ncmt->nrcft", _to_rows(w, n), dy)
  dh = tf.cast(tf.reduce_sum(_wide(ds) * _wide(g), 2), h.dtype)
  dkernel = tf.reshape(dkernel, kernel.shape.as_list()[::-1])
  return dh, tf.transpose(dkernel), dgate


def _spread(cells: int, size: int, dtype):
  """[cells, size] of zeros and ones: a product with it repeats each cell.

  That is exact, and runs on the matrix unit.
  """
  return tf.constant(np.repeat(np.eye(cells), size // cells, 1), dtype)


def _row_products(h, kernel, gate):
  """h W for each grid row [N, R, T, M], and its factors.

  Returns:
    h [N, R, F/R, T], W [N, R, F/R, M], the products, psi(G) [N, R, T or 1, M],
    and the matrix that spreads a gate [C, M]
  """
  rows, cols = gate.shape.as_list()[2:]
  spread = _spread(cols, kernel.shape.as_list()[1], h.dtype)
  h = _by_rows(h, rows)
  w = _to_rows(_by_rows(kernel, rows), h.shape.as_list()[0])
  p = tf.einsum("nrft,nrfm->nrtm", h, w)
  return h, w, p, tf.einsum("ntrc,cm->nrtm", gate, spread), spread


def _slices(h, kernel, gate):
  _, _, p, psi, _ = _row_products(h, kernel, gate)
  return tf.cast(tf.reduce_sum(_wide(p) * _wide(psi), 1), h.dtype)


def _slices_gradients(h, kernel, gate, dy):
  # XLA takes the products of the forward pass.
  h, w, p, psi, spread = _row_products(h, kernel, gate)
  dy = dy[:, None]
  dgate = tf.einsum("nrtm,cm->ntrc", p * dy, spread)
  if gate.shape.as_list()[1] == 1:
    dgate = tf.reduce_sum(_wide(dgate), 1, keepdims=True)
  gated = dy * psi
  dh = tf.einsum("nrtm,nrfm->nrft", gated, w)
  return dh, tf.einsum("nrft,nrtm->rfm", h, gated), dgate


def _merged(h, kernel, gate):
  """The same as "slices", for G [N, S, R, C] of S sequences in T tokens."""
  n, sequences, rows, cols = gate.shape.as_list()
  tokens, fan_out = h.shape.as_list()[2], kernel.shape.as_list()[1]
  psi = tf.einsum("nsrc,cm->nrsm", gate, _spread(cols, fan_out, h.dtype))
  p = tf.einsum("nrft,rfm->nrtm", _by_rows(h, rows), _by_rows(kernel, rows))
  p = tf.reshape(p, [n, rows, sequences, tokens // sequences, fan_out])
  y = tf.reduce_sum(_wide(p) * _wide(psi)[:, :, :, None], 1)
  return tf.cast(tf.reshape(y, [n, tokens, fan_out]), h.dtype)


def _scaled(h, kernel, gate):
  """Scales h once, for a gate [N, 1, R, 1] of rows alone; h is [N, T, F]."""
  spread = _spread(gate.shape.as_list()[2], h.shape.as_list()[2], h.dtype)
  h *= tf.einsum("nrc,rf->ncf", gate[:, 0], spread)
  return tf.einsum("ntf,fm->ntm", h, kernel)


def _only_forward(forward):
  """An order that "auto" never trains with, and its gradients."""

  def backward(h, kernel, gate, dy):
    return tf.gradients(forward(h, kernel, gate), [h, kernel, gate], dy)

  return forward, backward


def _once_kernel(kernel, gate):
  """psi(G) * W [F, M], and psi(G) [R, 1, M], for G [1, 1, R, C]."""
  rows = gate.shape.as_list()[2]
  psi = _psi(gate, kernel.shape.as_list()[1])[0]
  (w,) = _barrier(tf.reshape(_by_rows(kernel, rows) * psi, kernel.shape))
  return w, psi


def _once(h, kernel, gate):
  return tf.einsum("ntf,fm->ntm", h, _once_kernel(kernel, gate)[0])


def _once_gradients(h, kernel, gate, dy):
  _, _, rows, cols = gate.shape.as_list()
  w, psi = _once_kernel(kernel, gate)
  dh = tf.einsum("ntm,fm->ntf", dy, w)
  (dw,) = _barrier(tf.einsum("ntf,ntm->fm", h, dy))  # in W's own layout
  dw = _by_rows(dw, rows)
  dgate = tf.reduce_sum(_wide(dw * _by_rows(kernel, rows)), 1)
  dgate = tf.reduce_sum(tf.reshape(dgate, [1, 1, rows, cols, -1]), 4)
  return dh, dw * psi, dgate


_ORDERS = {
  "weights": (_weights, _weights_gradients),
  "rows": (_rows, _rows_gradients),
  "cols": (_cols, _cols_gradients),
  "slices": (_slices, _slices_gradients),
  "once": (_once, _once_gradients),
  "merged": _only_forward(_merged),
  "scaled": _only_forward(_scaled),
}
_TOKENS_FIRST = ("once", "scaled")  # h is [N, T, F]
