"""y = h (psi(G) * W) on a CPU, for any number of examples and tokens.

`hypergrid_mtf.contraction` chooses an order of the product by sizes that are
known when a graph is built. Here they are known at run time, and so is the
choice: by the same costs, between

  rows     a partial product for each grid row, in one step or, where they are
           many, one grid row at a time
  weights  a gated W for each example, where it has many tokens

A step of decoding has one token an example, and always takes the first.
"""

import contextlib
import functools
from unittest import mock

import mesh_tensorflow as mtf
import tensorflow as tf

from hypergrid_mtf import contraction, projection

# Elements of the partial products of one step, as in hypergrid_mtf.cpu_orders.
_STEP_ELEMENTS = 1 << 20


@contextlib.contextmanager
def for_any_size():
  """Within this context, gated layers compute their products as here."""
  with mock.patch.object(projection, "gated_product", _gated_product):
    yield


def _gated_product(h, kernel, gate, **how):
  """`projection.gated_product`."""
  del how
  ensemble, gates, tokens = contraction.split_dims(
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
    return projection.plain_product(h, kernel, gate)
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
    h: [N, T, F]; without N where all examples have one gate, and without T
      where each has one token.
    kernel: W, [F, M].
    gate: G, [N, R, C], or without N, R or C.
    rows: R, 1 if the gate has none.
    cols: C, 1 if the gate has none.
    tokens: whether h has T.

  Returns:
    y, of the shape of h with M in place of F
  """
  fan_in, fan_out = kernel.shape.as_list()
  shape = tf.concat([tf.shape(h)[:-1], [fan_out]], axis=0)
  gate = tf.reshape(gate, [-1, rows, cols])
  gates = tf.shape(gate)[0]
  # A beam's step, and all that share one gate, are tokens too.
  h = tf.reshape(h, [gates, -1, fan_in])
  by_rows = tf.reshape(kernel, [rows, fan_in // rows, fan_out])
  if not tokens:
    y = _rows_at_once(h, by_rows, gate)
  else:
    count = tf.shape(h)[1]
    elements = gates * count * rows * fan_out
    per_row = contraction.CPU_NANOSECONDS["rows"][0] * rows * fan_out
    per_gate = contraction.CPU_NANOSECONDS["weights"][0] * fan_in * fan_out
    y = tf.case(
      [
        (
          tf.cast(count, tf.float32) * per_row > per_gate,
          lambda: _weights(h, by_rows, gate),
        ),
        (
          elements > _STEP_ELEMENTS,
          lambda: _row_by_row(h, by_rows, gate),
        ),
      ],
      default=lambda: _rows_at_once(h, by_rows, gate),
    )
  return tf.reshape(y, shape)


def _by_row(h, kernel):
  """h [N, T, F] as [R, N T, F/R]."""
  rows, block, _ = kernel.shape.as_list()
  return tf.transpose(tf.reshape(h, [-1, rows, block]), [1, 0, 2])


def _wide(gate, fan_out: int):
  """G [..., C] as [..., 1, M]: each cell over its columns of W."""
  cells = tf.tile(
    gate[..., None], [1] * gate.shape.rank + [fan_out // gate.shape[-1]]
  )
  return tf.reshape(cells, tf.concat([tf.shape(gate)[:-1], [1, fan_out]], 0))


def _rows_at_once(h, kernel, gate):
  rows, _, fan_out = kernel.shape.as_list()
  size = tf.shape(h)
  p = tf.matmul(_by_row(h, kernel), kernel)  # [R, N T, M]
  p = tf.reshape(p, [rows, size[0], size[1], fan_out])
  wide = _wide(tf.transpose(gate, [1, 0, 2]), fan_out)  # [R, N, 1, M]
  return tf.reduce_sum(p * wide, axis=0)


def _row_by_row(h, kernel, gate):
  fan_out = kernel.shape[-1]
  size = tf.concat([tf.shape(h)[:-1], [fan_out]], 0)
  by_row = tf.unstack(_by_row(h, kernel))
  gates = tf.unstack(_wide(tf.transpose(gate, [1, 0, 2]), fan_out))
  total = None
  for part, w, g in zip(by_row, tf.unstack(kernel), gates, strict=True):
    # One after the other, so that the parts stay in a cache.
    with tf.control_dependencies([] if total is None else [total]):
      term = tf.reshape(tf.matmul(part, w), size) * g
      total = term if total is None else total + term
  return total


def _weights(h, kernel, gate):
  rows, block, fan_out = kernel.shape.as_list()

  def one(example):
    tokens, g = example
    gated = tf.reshape(kernel * _wide(g, fan_out), [rows * block, fan_out])
    return tf.matmul(tokens, gated)

  return tf.map_fn(
    one,
    (h, gate),
    parallel_iterations=1,
    fn_output_signature=tf.TensorSpec([None, fan_out], h.dtype),
  )
