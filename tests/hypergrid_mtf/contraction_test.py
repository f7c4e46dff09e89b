"""The three orders against NumPy, step by step, and which one is chosen."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import contraction, cpu_orders

# (N, T, F, M, R, C): rows of the batch, packed tokens, one gate for all, one
# cell a side, one weight a cell.
SHAPES = [
  (3, 5, 24, 12, 4, 6),
  (15, 1, 24, 12, 4, 6),
  (1, 15, 24, 12, 4, 3),
  (3, 5, 24, 12, 1, 6),
  (3, 5, 24, 12, 4, 1),
  (2, 4, 24, 12, 24, 12),
]


def _numpy(h, kernel, gate, dy):
  """y, and the gradients of h, W and G."""
  n, rows, cols = gate.shape
  fan_in, fan_out = kernel.shape
  psi = gate.repeat(fan_in // rows, axis=1).repeat(fan_out // cols, axis=2)
  of_psi = np.einsum("ntf,ntm->nfm", h, dy) * kernel
  cells = (n, rows, fan_in // rows, cols, fan_out // cols)
  return (
    np.einsum("ntf,nfm->ntm", h, psi * kernel),
    np.einsum("ntm,nfm->ntf", dy, psi * kernel),
    np.einsum("ntf,ntm,nfm->fm", h, dy, psi),
    of_psi.reshape(cells).sum(axis=(2, 4)),
  )


@pytest.mark.parametrize(
  ("step_elements", "max_steps"),
  [(1 << 21, 32), (1, 1000), (1, 2), (100, 32)],
  ids=["one step", "many steps", "two steps", "some steps"],
)
def test_every_order_in_steps_of_every_size(
  step_elements, max_steps, monkeypatch
):
  monkeypatch.setattr(cpu_orders, "_STEP_ELEMENTS", step_elements)
  monkeypatch.setattr(cpu_orders, "_MAX_STEPS", max_steps)
  rng = np.random.default_rng(0)
  got, want = [], []
  with tf.Graph().as_default():
    for n, t, fan_in, fan_out, rows, cols in SHAPES:
      args = [
        rng.normal(size=s)
        for s in ((n, t, fan_in), (fan_in, fan_out), (n, rows, cols))
      ]
      dy = rng.normal(size=(n, t, fan_out))
      for order in contraction.ORDERS:
        tensors = [tf.constant(a) for a in args]
        y = cpu_orders.product(order, *tensors)
        grads = cpu_orders.gradients(order, *tensors, tf.constant(dy))
        got.append((order, (n, t), [y, *grads]))
        want.append(_numpy(*args, dy))
    with tf.Session() as sess:
      values = sess.run([tensors for _, _, tensors in got])
  for (order, shape, _), results, wanted in zip(got, values, want, strict=True):
    for result, right in zip(results, wanted, strict=True):
      np.testing.assert_allclose(
        result, right, rtol=1e-12, atol=1e-12, err_msg=f"{order} {shape}"
      )


T5_BASE = contraction.Sizes(
  gates=4, tokens=512, fan_in=3072, fan_out=768, rows=16, cols=16
)
PACKED = dict(gates=2048, tokens=1)


@pytest.mark.parametrize("on_tpu", [False, True])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
  ("changes", "orders", "want"),
  [
    ({}, contraction.ORDERS, "weights"),
    (PACKED, ("rows", "cols"), "rows"),
    # The gate is for a wi of as many rows, and the shapes are turned around.
    ({**PACKED, "fan_in": 768, "fan_out": 3072}, ("rows", "cols"), "cols"),
    # Gates of rows alone scale h; of columns alone, y.
    ({**PACKED, "cols": 1}, ("rows", "cols"), "cols"),
    ({**PACKED, "rows": 1}, ("rows", "cols"), "rows"),
    # One gate for all.
    ({"gates": 1, "tokens": 2048}, contraction.ORDERS, "weights"),
  ],
  ids=[
    "unpacked",
    "packed",
    "packed wi",
    "row",
    "col",
    "global",
  ],
)
def test_the_cheapest_order(changes, orders, want, train, on_tpu):
  sizes = dataclasses.replace(T5_BASE, **changes)
  assert contraction.cheapest(orders, sizes, train, on_tpu) == want


@pytest.mark.parametrize(("on_tpu", "want"), [(False, "rows"), (True, "cols")])
def test_the_cheapest_order_of_decoding(on_tpu, want):
  # 32 rows, a token each: W is what is copied.
  sizes = dataclasses.replace(T5_BASE, gates=32, tokens=1)
  got = contraction.cheapest(contraction.ORDERS, sizes, False, on_tpu)
  assert got == want


@pytest.mark.parametrize(
  ("changes", "want"),
  [
    # Gates of rows alone scale h; of columns alone, y (docs/tpu.md).
    ({"cols": 1}, "cols"),
    ({"cols": 1, "fan_in": 768, "fan_out": 3072}, "cols"),
    ({"rows": 1}, "plain"),
    ({"rows": 1, "fan_in": 768, "fan_out": 3072}, "weights"),
    ({**PACKED, "cols": 1}, "cols"),
    ({**PACKED, "rows": 1}, "plain"),
    ({**PACKED, "rows": 1, "fan_in": 768, "fan_out": 3072}, "plain"),
    ({**PACKED}, "rows"),
    ({}, "weights"),
  ],
)
def test_a_tpu_scales_what_a_gate_of_one_side_scales(changes, want):
  sizes = dataclasses.replace(T5_BASE, **changes)
  packed = sizes.tokens == 1
  for on_tpu in (False, True):
    orders = contraction.candidates(sizes, packed, on_tpu)
    assert ("weights" in orders) <= (not packed)
    chosen = contraction.cheapest(orders, sizes, True, on_tpu)
    assert chosen == want if on_tpu else chosen in contraction.ORDERS


def test_elements_are_those_of_the_design():
  count = {k: contraction.elements(k, T5_BASE) for k in contraction.ORDERS}
  assert count == {
    "weights": 4 * 3072 * 768,
    "rows": 2048 * 16 * 768,
    "cols": 2048 * 16 * 3072,
  }
