"""The orders for a CPU and for a TPU against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from tensorflow.python.eager import context as eager

from hypergrid_mtf.product import cost, cpu, tpu
from tests.hypergrid_mtf import mtf_testing

# N, T, F, M, R, C: rows of the batch, packed tokens, one gate for all, one cell
# a side, one weight a cell, and sizes of which no two are equal.
SHAPES = [
  (3, 5, 24, 12, 4, 6),
  (15, 1, 24, 12, 4, 6),
  (1, 7, 24, 12, 4, 3),
  (3, 5, 24, 12, 1, 6),
  (3, 5, 10, 6, 5, 1),
  (2, 3, 4, 4, 1, 1),
  (2, 4, 24, 12, 24, 12),
]


def _equation(h, kernel, gate, dy):
  """y, and the gradients of h, W and G [N, T or 1, R, C]."""
  n, tokens, fan_in = h.shape
  fan_out = kernel.shape[1]
  _, shared, rows, cols = gate.shape
  psi = gate.repeat(fan_in // rows, axis=2).repeat(fan_out // cols, axis=3)
  psi = np.broadcast_to(psi, (n, tokens, fan_in, fan_out))
  dgate = np.einsum("ntf,fm,ntm->ntfm", h, kernel, dy).reshape(
    n, tokens, rows, fan_in // rows, cols, fan_out // cols
  )
  dgate = dgate.sum((3, 5))
  return (
    np.einsum("ntf,ntfm,fm->ntm", h, psi, kernel),
    np.einsum("ntm,ntfm,fm->ntf", dy, psi, kernel),
    np.einsum("ntf,ntfm,ntm->fm", h, psi, dy),
    dgate.sum(1, keepdims=True) if shared == 1 else dgate,
  )


def _random(*shapes):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize(
  ("step_elements", "max_steps"),
  [(1 << 21, 32), (1, 1000), (1, 2), (100, 32)],
  ids=["one step", "many steps", "two steps", "some steps"],
)
def test_a_cpu_in_steps_of_every_size(step_elements, max_steps, monkeypatch):
  monkeypatch.setattr(cpu, "_STEP_ELEMENTS", step_elements)
  monkeypatch.setattr(cpu, "_MAX_STEPS", max_steps)
  got, want = [], []
  options = mtf_testing.quick_options()
  with tf.Graph().as_default(), tf.Session(config=options) as sess:
    for n, t, f, m, r, c in SHAPES:
      h, w, g, dy = _random((n, t, f), (f, m), (n, r, c), (n, t, m))
      y, dh, dw, dg = _equation(h, w, g[:, None], dy)
      for order in cost.ORDERS:
        tensors = list(map(tf.constant, (h, w, g)))
        found = cpu.gradients(order, *tensors, tf.constant(dy))
        got.append([cpu.product(order, *tensors), *found])
        want.append((order, (n, t), [y, dh, dw, dg[:, 0]]))
    got = sess.run(got)
  for values, (order, shape, wanted) in zip(got, want, strict=True):
    for value, right in zip(values, wanted, strict=True):
      np.testing.assert_allclose(
        value, right, rtol=1e-12, atol=1e-12, err_msg=f"{order} {shape}"
      )


@pytest.mark.parametrize(
  ("dtype", "shapes"), [("float32", SHAPES[2:6]), ("bfloat16", SHAPES[:2])]
)
def test_a_tpu_compiled_for_this_cpu(dtype, shapes):
  for n, t, f, m, r, c in shapes:
    for of in {1, t}:  # tokens share a gate, or each has its own
      orders = ["weights"] if of == 1 else []
      orders += ["rows", "cols", "slices", "merged"]

      @tf2.function(jit_compile=True)
      def program(*xs, orders=orders):
        return [
          [tpu.product(order, *xs[:3]), *tpu.gradients(order, *xs)]
          for order in orders
        ]

      with eager.eager_mode():
        arrays = _random((n, t, f), (f, m), (n, of, r, c), (n, t, m))
        tensors = [tf.cast(tf.constant(a, tf.float32), dtype) for a in arrays]
        # Both sides see the same rounded numbers.
        arrays = [tf.cast(x, tf.float32).numpy().astype(float) for x in tensors]
        tensors[0] = tf.transpose(tensors[0], [0, 2, 1])
        results = program(*tensors)
        for got in results:
          got[1] = tf.transpose(got[1], [0, 2, 1])
          assert all(x.dtype == dtype for x in got)
        values = [[tf.cast(x, tf.float32).numpy() for x in g] for g in results]
      want = _equation(*arrays)
      tolerance = 1e-5 if dtype == "float32" else 2e-2
      for order, found in zip(orders, values, strict=True):
        for value, right in zip(found, want, strict=True):
          assert value.shape == right.shape
          error = np.abs(value - right).max()
          assert error <= tolerance * np.abs(right).max(), (order, n, t, of)
