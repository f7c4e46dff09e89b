"""Orders for a TPU, compiled by XLA for this CPU, against NumPy in float64."""

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow as tf

from hypergrid_mtf import contraction, projection, tpu_orders

from . import mtf_testing

# N, T, F, M, R, C: unequal sizes, and grids of one row, one column, one cell.
SHAPES = [
  (3, 5, 12, 8, 4, 2),
  (2, 4, 6, 10, 1, 5),
  (1, 7, 10, 6, 5, 1),
  (2, 3, 4, 4, 1, 1),
  (4, 1, 8, 6, 8, 6),
]


def _oracle(h, kernel, gate, dy):
  """y and the gradients, as the equation says them, token by token."""
  n, fan_in, tokens = h.shape
  fan_out = kernel.shape[1]
  psi = np.repeat(gate, fan_in // gate.shape[2], axis=2)
  psi = np.repeat(psi, fan_out // gate.shape[3], axis=3)
  psi = np.broadcast_to(psi, (n, tokens, fan_in, fan_out))
  h = h.transpose(0, 2, 1)  # [N, T, F]
  y = np.einsum("ntf,ntfm,fm->ntm", h, psi, kernel)
  dh = np.einsum("ntm,ntfm,fm->nft", dy, psi, kernel)
  dkernel = np.einsum("ntf,ntfm,ntm->fm", h, psi, dy)
  dpsi = np.einsum("ntf,fm,ntm->ntfm", h, kernel, dy)
  _, shared, rows, cols = gate.shape
  dgate = dpsi.reshape(
    n, tokens, rows, fan_in // rows, cols, fan_out // cols
  ).sum((3, 5))
  if shared == 1:
    dgate = dgate.sum(1, keepdims=True)
  return y, dh, dkernel, dgate


def _cases():
  for order in contraction.ORDERS:
    for shape in SHAPES:
      yield order, shape, True
      if order != "weights" or shape[1] == 1:
        yield order, shape, False


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("order", contraction.ORDERS)
def test_orders_equal_the_oracle(order, dtype):
  rng = np.random.default_rng(0)
  for case, shape, shared in _cases():
    if case != order:
      continue
    n, t, f, m, r, c = shape
    arrays = [
      rng.normal(size=size)
      for size in ((n, f, t), (f, m), (n, 1 if shared else t, r, c), (n, t, m))
    ]
    inputs = [tf.cast(tf.constant(a, tf.float32), dtype) for a in arrays]
    # Both sides see the same rounded numbers.
    arrays = [tf.cast(x, tf.float32).numpy().astype(float) for x in inputs]

    @tf.function(jit_compile=True)
    def program(h, kernel, gate, dy):
      y = tpu_orders.product(order, h, kernel, gate)
      return y, *tpu_orders.gradients(order, h, kernel, gate, dy)

    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for got, want in zip(program(*inputs), _oracle(*arrays), strict=True):
      assert got.dtype == dtype and got.shape == want.shape
      error = np.abs(tf.cast(got, tf.float32).numpy() - want).max()
      assert error <= tolerance * np.abs(want).max(), (shape, shared)


# Names of the dimensions of h before its last, and of those of the gate.
@pytest.mark.parametrize(
  "tokens, of_gate",
  [
    ("batch", "batch"),  # a step of decoding
    ("batch length", "batch length"),
    ("batch length", "batch"),
    ("batch length", ""),
    ("outer batch length", "outer batch"),
  ],
)
def test_the_mesh_of_a_tpu_computes_the_plain_product(tokens, of_gate):
  rng = np.random.default_rng(1)
  sizes = dict(outer=2, batch=3, length=5, d_ff=8, d_model=6)
  sizes |= dict(grid_rows=4, grid_cols=2)
  names = [
    [*tokens.split(), "d_ff"],
    ["d_ff", "d_model"],
    [*of_gate.split(), "grid_rows", "grid_cols"],
  ]
  with tf.Graph().as_default():
    placer = mtf.utils.BalancedVariablePlacer(["/device:CPU:0"], [0])
    mesh = mtf.Mesh(mtf.Graph(), "mesh", placer)  # the mark of a TPU
    inputs = [
      mtf_testing.import_array(
        mesh, rng.normal(size=[sizes[n] for n in of]), of, tf.float32
      )
      for of in names
    ]
    packed = "length" in of_gate
    orders = ["plain", *contraction.ORDERS]
    results = []
    for order in orders:
      if order == "weights" and packed:
        continue
      y = projection.gated_product(*inputs, order)
      results.append([y, *mtf.gradients([mtf.square(y)], inputs)])
    lowering = mtf_testing.lower(mesh.graph, mesh)
    fetches = [[lowering.export_to_tf_tensor(t) for t in r] for r in results]
    with tf.compat.v1.Session() as sess:
      plain, *others = mtf_testing.run_compiled(sess, fetches)
  for other in others:
    for got, want in zip(other, plain, strict=True):
      np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
