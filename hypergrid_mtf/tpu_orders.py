"""Orders of y = h (psi(G) * W) that suit a TPU, on TensorFlow tensors.

All give the same y as `projection.plain_product`, on what one device holds of
h, W and G. Each product is one operation, which XLA fuses with what stands
beside it: the gated weights, the partial products and the scaled copies of h
that `contraction` counts are never in memory. For that the tokens of a row are
the last dimension, the lanes of the chip, because a cell of 48 columns would
fill them badly; and what all rows share is given to each of them, for XLA
fuses a product well if all that its result has on the outside is a batch.

The optimisation barriers keep XLA from making a thing once for two products:
it would have to be kept in memory between them, or between the forward and the
backward pass. docs/tpu.md has the cost of each order, by the TPU's compiler.

Below, N is the rows of a batch and T the tokens of one. The gate is G [N, T, R,
C], with 1 in place of T where the tokens of a row share it, and in place of N
where all rows do.
"""

import tensorflow.compat.v1 as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops


def product(order: str, h, kernel, gate):
  """y = h (psi(G) * W).

  Args:
    order: one of contraction.ORDERS; "weights" for a gate that tokens share.
    h: [N, F, T].
    kernel: W, [F, M].
    gate: G, [N or 1, T or 1, R, C]; R divides F, C divides M.

  Returns:
    y, [N, T, M], of the type of h
  """
  return _PRODUCTS[order](h, kernel, _of_rows(gate, h))


def gradients(order: str, h, kernel, gate, dy):
  """Gradients of `product`, from its inputs alone.

  Args:
    order: as in `product`, as the others are.
    h: [N, F, T].
    kernel: W, [F, M].
    gate: G.
    dy: gradient of y, [N, T, M].

  Returns:
    gradients of h [N, F, T], of W [F, M] and of G
  """
  of_rows = _of_rows(gate, h)
  dh, dkernel, dgate = _GRADIENTS[order](*_apart(h, kernel, of_rows, dy))
  if gate.shape != of_rows.shape:
    dgate = tf.reduce_sum(_wide(dgate), 0, keepdims=True)
  # What dh is multiplied by next is better made for each product than kept.
  (dh,) = _apart(tf.reshape(dh, h.shape))
  dkernel = tf.reshape(dkernel, kernel.shape)
  return dh, dkernel, tf.cast(dgate, h.dtype)


def tokens_last(x, kernel):
  """A product without a gate, as the products with one want its result.

  Without a row's own kernel, which is the same for all, XLA might put the
  columns last, and then copy.

  Args:
    x: [N, T, D].
    kernel: [D, F].

  Returns:
    x kernel, [N, F, T]
  """
  return tf.einsum("ndf,ntd->nft", _to_rows(kernel, x.shape.as_list()[0]), x)


def tokens_last_gradients(x, kernel, dy):
  """Gradients of `tokens_last`.

  Args:
    x: [N, T, D].
    kernel: [D, F].
    dy: [N, F, T].

  Returns:
    gradients of x and of the kernel
  """
  dx = tf.einsum("nft,df->ntd", dy, kernel)
  return dx, tf.einsum("ntd,nft->df", x, dy)


def relu(x):
  """max(x, 0), as a product reads it: made once, for both passes.

  Args:
    x: of any shape.

  Returns:
    a tensor like x
  """
  (y,) = _apart(tf.nn.relu(x))
  return y


def relu_gradient(y, dy):
  """The gradient of `relu`, from its result.

  Args:
    y: what `relu` gave.
    dy: its gradient.

  Returns:
    the gradient of x
  """
  y, dy = _apart(y, dy)
  return tf.where(y > 0, dy, tf.zeros_like(dy))


def _apart(*xs):
  """The same tensors, of which XLA shares nothing with what was before."""
  return gen_xla_ops.xla_optimization_barrier(input=list(xs))


def _wide(x):
  """The type that sums are made in: float32 for bfloat16."""
  return tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x


def _of_rows(gate, h):
  """G of each row of the batch, which may be one for all."""
  return tf.broadcast_to(gate, [h.shape[0], *gate.shape[1:]])


def _to_rows(x, rows: int):
  """x [...], for each row of the batch: [N, ...]."""
  return tf.broadcast_to(x[None], [rows, *x.shape.as_list()])


def _by_rows(x, rows: int):
  """[..., F, a] -> [..., R, F/R, a]"""
  *leading, fan_in, last = x.shape.as_list()
  return tf.reshape(x, [*leading, rows, fan_in // rows, last])


def _psi(gate, fan_out: int):
  """G [N, 1, R, C] with each cell repeated over its columns, [N, R, 1, M]."""
  _, _, _, cols = gate.shape.as_list()
  (psi,) = _apart(tf.repeat(gate[:, 0], fan_out // cols, axis=2))
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
  # The kernel's gradient if there were no gate, times the kernel.
  dgate = tf.reduce_sum(_wide(tf.einsum("nrft,ntm->nrfm", h, dy) * w), 2)
  dgate = tf.reshape(dgate, [-1, 1, rows, cols, fan_out // cols])
  dgate = tf.reduce_sum(dgate, 4)
  dgate, h, dy, psi = _apart(dgate, h, dy, psi)
  # The rows of the batch are summed here: no batch, so they come second.
  dkernel = tf.einsum(
    "rfnt,rntm->rfm",
    tf.transpose(h, [1, 2, 0, 3]),
    dy[None] * tf.transpose(psi, [1, 0, 2, 3]),
  )
  dy, psi = _apart(dy, psi)
  dh = tf.einsum("ntm,nrfm->nrft", dy, w * psi)
  return dh, dkernel, dgate


def _tokens_last(gate, dy):
  """G as [N, R, C, 1, T or 1], dy as [N, C, M/C, T]."""
  cols = gate.shape.as_list()[3]
  rows, tokens, fan_out = dy.shape.as_list()
  dy = tf.transpose(dy, [0, 2, 1])
  dy = tf.reshape(dy, [rows, cols, fan_out // cols, tokens])
  return _gate_last(gate), dy


def _gate_last(gate):
  return tf.transpose(gate, [0, 2, 3, 1])[:, :, :, None]


def _tokens_first(y):
  """[N, C, M/C, T] -> [N, T, M]"""
  rows, cols, cell, tokens = y.shape.as_list()
  return tf.transpose(tf.reshape(y, [rows, cols * cell, tokens]), [0, 2, 1])


def _gate_gradient(gate, dgate):
  """[N, R, C, T] -> as the gate."""
  if gate.shape.as_list()[1] == 1:
    dgate = tf.reduce_sum(dgate, 3, keepdims=True)
  return tf.transpose(dgate, [0, 3, 1, 2])


def _rows_kernel(kernel, gate):
  """W as [R, C, M/C, F/R]: a copy whose last side fills the lanes better."""
  _, _, rows, cols = gate.shape.as_list()
  fan_in, fan_out = kernel.shape.as_list()
  (w,) = _apart(tf.transpose(_by_rows(kernel, rows), [0, 2, 1]))
  return tf.reshape(w, [rows, cols, fan_out // cols, fan_in // rows])


def _rows(h, kernel, gate):
  n, w = h.shape.as_list()[0], _rows_kernel(kernel, gate)
  p = tf.einsum(
    "nrcmf,nrft->nrcmt", _to_rows(w, n), _by_rows(h, w.shape.as_list()[0])
  )
  y = tf.reduce_sum(_wide(p) * _wide(_gate_last(gate)), 1)
  return _tokens_first(tf.cast(y, h.dtype))


def _rows_gradients(h, kernel, gate, dy):
  n, w = h.shape.as_list()[0], _rows_kernel(kernel, gate)
  fan_out = kernel.shape.as_list()[1]
  h = _by_rows(h, w.shape.as_list()[0])
  h, g, dy = _apart(h, *_tokens_last(gate, dy))
  dy = dy[:, None]
  p = tf.einsum("nrcmf,nrft->nrcmt", _to_rows(w, n), h)
  dgate = _gate_gradient(gate, tf.reduce_sum(_wide(p * dy), 3))
  dgate, g, dy = _apart(tf.cast(dgate, h.dtype), g, dy)
  dkernel = tf.einsum("nrft,nrcmt->rcmf", h, dy * g)
  dkernel, g, dy = _apart(dkernel, g, dy)
  dkernel = tf.reshape(dkernel, [w.shape.as_list()[0], fan_out, -1])
  # Turned as it is, and not as the float32 that the optimizer wants.
  (dkernel,) = _apart(tf.transpose(dkernel, [0, 2, 1]))
  dh = tf.einsum("nrcmf,nrcmt->nrft", _to_rows(w, n), dy * g)
  return dh, dkernel, dgate


def _cols_kernel(kernel, gate):
  """W as [C, M/C, R, F/R]."""
  _, _, rows, cols = gate.shape.as_list()
  fan_in, fan_out = kernel.shape.as_list()
  (w,) = _apart(tf.transpose(kernel))
  return tf.reshape(w, [cols, fan_out // cols, rows, fan_in // rows])


def _cols(h, kernel, gate):
  n, w = h.shape.as_list()[0], _cols_kernel(kernel, gate)
  scaled = _by_rows(h, gate.shape.as_list()[2])[:, :, None] * _gate_last(gate)
  y = tf.einsum("ncmrf,nrcft->ncmt", _to_rows(w, n), scaled)
  return _tokens_first(y)


def _cols_gradients(h, kernel, gate, dy):
  n, w = h.shape.as_list()[0], _cols_kernel(kernel, gate)
  h = _by_rows(h, gate.shape.as_list()[2])[:, :, None]
  h, g, dy = _apart(h, *_tokens_last(gate, dy))
  # The gradient of the scaled h, [N, R, C, F/R, T], serves both its factors.
  ds = tf.einsum("ncmrf,ncmt->nrcft", _to_rows(w, n), dy)
  dgate = _gate_gradient(gate, tf.reduce_sum(_wide(ds * h), 3))
  dgate, h, g, dy = _apart(tf.cast(dgate, h.dtype), h, g, dy)
  dkernel = tf.einsum("nrcft,ncmt->cmrf", h * g, dy)
  dkernel, g, dy = _apart(dkernel, g, dy)
  ds = tf.einsum("ncmrf,ncmt->nrcft", _to_rows(w, n), dy)
  dh = tf.cast(tf.reduce_sum(_wide(ds) * _wide(g), 2), h.dtype)
  dkernel = tf.reshape(dkernel, kernel.shape.as_list()[::-1])
  return dh, tf.transpose(dkernel), dgate


_PRODUCTS = {"weights": _weights, "rows": _rows, "cols": _cols}
_GRADIENTS = {
  "weights": _weights_gradients,
  "rows": _rows_gradients,
  "cols": _cols_gradients,
}
