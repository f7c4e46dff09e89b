"""Computes y = h (psi(G) * W) on a CPU, for any number of examples and tokens.

`hypergrid_mtf.product` chooses an order by sizes known when the graph is built.
Here sizes are known only at run time, and the choice, by its own costs, is
between

  rows     a partial product for each grid row: of vectors, in one step, for a
           few examples of one token, else two grid rows at a time
  weights  a gated W for each example, where it has many tokens

A decoding step has one token per example, and always uses the first.
"""

import contextlib
import functools

import mesh_tensorflow as mtf
import tensorflow as tf

from hypergrid_mtf import layers
from hypergrid_mtf.product import cost, plain

# Nanoseconds per element of a partial product and of a gated W, in addition to
# the plain product: T5-base and small on 2 cores, 8 and 32 examples of 64 to
# 512 tokens, grids of 4 x 4 to 64 x 32. `cost.CPU_NANOSECONDS` are for graphs
# of fixed sizes.
_ROWS_NANOSECONDS, _WEIGHTS_NANOSECONDS = 0.6, 1.5
# For at most this many examples of one token, products of vectors are cheaper.
_FEW = 8


@contextlib.contextmanager
def for_any_size(model):
  """Within this context, gated layers use the products of this module."""
  gated = [layer for layer, _ in layers.hypergrid_layers(model)]
  for layer in gated:
    layer.gated_product = _gated_product
  try:
    yield
  finally:
    for layer in gated:
      del layer.gated_product


def _gated_product(h, kernel, gate, order, where):
  """`product.gated` for run-time sizes; ignores HyperGrid.contraction."""
  del order, where
  ensemble, gates, tokens = cost.split_dims(
    h.shape.dims, kernel.shape.dims, gate
  )
  fan_in, fan_out = kernel.shape.dims
  sides = [d for d in gate.shape.dims if d.name in ("grid_rows", "grid_cols")]
  sides.sort(key=lambda d: d.name, reverse=True)
  is_plain = (
    ensemble
    or len(gates) > 1
    or len(tokens) > 1
    or set(gate.shape.dims) != {*gates, *sides}
    or h.shape.dims != [*gates, *tokens, fan_in]
  )
  if is_plain:  # an ensemble or beams, say
    return plain(h, kernel, gate)
  if gate.shape.dims != gates + sides:
    gate = mtf.transpose(gate, mtf.Shape(gates + sides))
  cells = {d.name: d.size for d in sides}
  function = functools.partial(
    product,
    rows=cells.get("grid_rows", 1),
    cols=cells.get("grid_cols", 1),
    tokens=bool(tokens),
  )
  (y,) = mtf.slicewise(
    function,
    [h, kernel, gate],
    [mtf.Shape(gates + tokens + [fan_out])],
    [h.dtype],
    splittable_dims=gates + tokens + [fan_in, fan_out],
    name="hypergrid_product",
  )
  return y


def product(h, kernel, gate, rows: int, cols: int, tokens: bool):
  """y = h (psi(G) * W).

  Args:
    h: [N, T, F]; [T, F] if all tokens have the same gate, [N, F] if each
      example has one token.
    kernel: W, [F, M].
    gate: G, [N, R, C]; any of them may be missing.
    rows: R, 1 if the gate has none.
    cols: C, 1 if the gate has none.
    tokens: whether h has T.

  Returns:
    y, with the shape of h, but M instead of F
  """
  fan_in, fan_out = kernel.shape.as_list()
  with _before_loop(kernel):
    kernel = tf.reshape(kernel, [rows, fan_in // rows, fan_out])
  with _before_loop(gate):
    gate = tf.reshape(gate, [-1, rows, cols])
    gates = tf.shape(gate)[0]
    wide = _wide(tf.transpose(gate, [1, 0, 2]), fan_out)  # [R, N, M]
  if not tokens:
    h = tf.reshape(h, [-1, fan_in])
    return tf.cond(
      gates <= _FEW,
      lambda: _rows_at_once(h, kernel, wide),
      lambda: _row_by_row(h, kernel, wide),
    )
  shape = tf.concat([tf.shape(h)[:-1], [fan_out]], axis=0)
  # Everything that shares a gate counts as tokens.
  h = tf.reshape(h, [gates, -1, fan_in])
  per_token = _ROWS_NANOSECONDS * rows * fan_out
  per_gate = _WEIGHTS_NANOSECONDS * fan_in * fan_out
  is_long = tf.cast(tf.shape(h)[1], tf.float32) * per_token > per_gate
  y = tf.cond(
    is_long,
    lambda: _weights(h, kernel, gate),
    lambda: _row_by_row(h, kernel, wide[:, :, None]),
  )
  return tf.reshape(y, shape)


def _before_loop(tensor):
  """The graph of a tensor: outside the decoding loop, if the tensor is.

  Gates and kernels are the same in each step.
  """
  if tf.executing_eagerly():
    return contextlib.nullcontext()
  return tensor.graph.as_default()


def _wide(gate, fan_out: int):
  """G [..., C] as [..., M]: each cell repeated over its columns of W."""
  return tf.repeat(gate, fan_out // gate.shape[-1], axis=-1)


def _rows_at_once(h, kernel, wide):
  """A vector product for each example and grid row, all in one step.

  Args:
    h: [N, F].
    kernel: [R, F/R, M].
    wide: [R, N, M].

  Returns:
    [N, M]
  """
  rows, block, fan_out = kernel.shape.as_list()
  h = tf.reshape(h, [-1, rows, 1, block])
  by_row = tf.transpose(h, [1, 0, 2, 3])
  p = tf.matmul(by_row, kernel[:, None])  # [R, N, 1, M]
  p = tf.reshape(p, [rows, -1, fan_out])
  return tf.reduce_sum(p * wide, axis=0)


def _row_by_row(h, kernel, wide):
  """A product for each grid row, two of them at a time.

  Args:
    h: [N, F] or [N, T, F].
    kernel: [R, F/R, M].
    wide: [R, N, M] or [R, N, 1, M].

  Returns:
    [N, M] or [N, T, M]
  """
  rows, _, fan_out = kernel.shape.as_list()
  size = tf.concat([tf.shape(h)[:-1], [fan_out]], 0)
  parts = tf.split(tf.reshape(h, [-1, h.shape[-1]]), rows, axis=1)
  sums: list = []
  for part, w, g in zip(
    parts, tf.unstack(kernel), tf.unstack(wide), strict=True
  ):
    # One product may run in parallel with another's gate; all at once would
    # need too much memory.
    with tf.control_dependencies(sums[-2:-1]):
      p = tf.matmul(part, w)  # [N T, M]
    term = g * (p if h.shape.rank == 2 else tf.reshape(p, size))
    sums.append(sums[-1] + term if sums else term)
  return sums[-1]


def _weights(h, kernel, gate):
  rows, block, fan_out = kernel.shape.as_list()

  def one(example):
    tokens, g = example
    psi = _wide(g, fan_out)[:, None]  # [R, 1, M]
    gated = tf.reshape(kernel * psi, [rows * block, fan_out])
    return tf.matmul(tokens, gated)

  return tf.map_fn(
    one,
    (h, gate),
    parallel_iterations=1,
    fn_output_signature=tf.TensorSpec([None, fan_out], h.dtype),
  )
