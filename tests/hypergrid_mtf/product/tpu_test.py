"""The layer's TPU code, compiled by XLA for this CPU, against the plain order.

The orders alone: orders_test.
"""

from unittest import mock

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import layers, product
from tests.hypergrid_mtf import mtf_testing

_OF_SEQUENCES = ("batch", product.tpu.SEQUENCES)


def test_a_mesh_computes_the_plain_product():
  """Whatever dimensions h has before its last, and the gate."""
  rng = np.random.default_rng(1)
  sizes = dict(outer=2, batch=3, length=5, d_ff=8, d_model=6)
  sizes |= dict(grid_rows=4, grid_cols=2)
  with tf.Graph().as_default():
    mesh = mtf_testing.mesh(mtf.Graph(), on_tpu=True)
    fetches, cases = [], []
    for tokens, of_gate in (
      ("batch", "batch"),  # a step of decoding
      ("batch length", "batch length"),
      ("batch length", "batch"),
      ("batch length", ""),
      ("outer batch length", "outer batch"),
    ):
      names = [
        [*tokens.split(), "d_ff"],
        ["d_ff", "d_model"],
        [*of_gate.split(), "grid_rows", "grid_cols"],
      ]
      inputs = [
        mtf_testing.import_array(
          mesh, rng.normal(size=[sizes[n] for n in of]), of, tf.float32
        )
        for of in names
      ]
      x = mtf.zeros(
        mesh,
        mtf.Shape([*inputs[0].shape.dims[:2], mtf.Dimension("d_model", 6)]),
      )
      where = product.Where(mtf_testing.fake_context(x))
      for order in ("plain", *product.cost.ORDERS, "slices", "merged"):
        if order == "weights" and "length" in of_gate:
          continue
        y = product.gated(*inputs, order, where)
        fetches.append([y, *mtf.gradients([mtf.square(y)], inputs)])
        cases.append((tokens, of_gate, order))
    run = mtf_testing.run_compiled
    results = mtf_testing.evaluate(mesh, fetches, run=run)
  for case, found in zip(cases, results, strict=True):
    if case[-1] == "plain":
      want = found
    for a, b in zip(found, want, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=str(case))


def test_rows_are_filled_where_it_costs_less():
  with tf.Graph().as_default():
    mesh = mtf.Mesh(mtf.Graph(), "mesh")
    other = mtf.Dimension("batch", 2)
    for length, size in (
      *((n, n) for n in (1, 62, 95, 128, 150, 512)),
      *((96, 128), (114, 128), (200, 256), (320, 384), (513, 640)),
    ):
      dim = mtf.Dimension("length", length)
      xs = [mtf.ones(mesh, mtf.Shape(dims)) for dims in ([other, dim], [other])]
      found, (x, y) = product.tpu.fill_rows(dim, xs)
      assert found == mtf.Dimension("length", size)
      assert x.shape.dims == [other, found] and y is xs[1]


def _trained(on_tpu, length, packed, variant, contraction, bias):
  """y and the gradients of x and of all variables of a training step."""
  rng = np.random.default_rng(2)
  batch, d_model, d_ff = 2, 8, 12
  x = rng.normal(size=[batch, length, d_model])
  dy = rng.normal(size=x.shape)
  ids = np.ones([batch, length], np.int32)
  if packed:
    ids[:, length // 2 :] = 2
  # A dropout that does not depend on the order of operations.
  kept = rng.integers(0, 2, size=[batch, d_ff]) * 2.0

  def dropout(h, is_training, keep_prob, noise_shape):
    assert is_training and keep_prob == 0.5
    assert {d.name: d.size for d in noise_shape} == dict(batch=batch, d_ff=d_ff)
    noise = mtf_testing.import_array(
      h.mesh, kept, ["batch", "d_ff"], tf.float32
    )
    return h * noise

  with tf.Graph().as_default(), mock.patch.object(mtf, "dropout", dropout):
    graph = mtf.Graph()
    mesh = mtf_testing.mesh(graph, on_tpu)
    names = ["batch", "length", "d_model"]
    given, weighing = (
      mtf_testing.import_array(mesh, v, names, tf.float32) for v in (x, dy)
    )
    context = mtf_testing.fake_context(
      given,
      mode=tf.estimator.ModeKeys.TRAIN,
      sequence_id=mtf_testing.import_array(mesh, ids, names[:2]),
    )
    layer = layers.HyperGrid(
      variant=variant,
      grid_rows=4,
      grid_cols=2,
      contraction=contraction,
      hidden_size=d_ff,
      dropout_rate=0.5,
      use_bias=bias,
    )
    with tf.variable_scope("layer"):
      y = layer.call(context, given)
    assert y.shape == given.shape
    wrt = [given, *(v.outputs[0] for v in graph.trainable_variables)]
    grads = mtf.gradients([mtf.reduce_sum(y * weighing)], wrt)
    values = mtf_testing.random_params(rng, "layer/")
    run = mtf_testing.run_compiled if on_tpu else tf.Session.run
    return mtf_testing.evaluate(mesh, [y, *grads], values, run)


@pytest.mark.parametrize(
  ("variant", "contraction", "bias", "packed"),
  [
    ("L2", "auto", False, True),
    ("L2", "auto", False, False),
    ("L2", "cols", True, True),
    ("row", "auto", True, False),
    ("col", "auto", False, True),
    ("col", "auto", False, False),
  ],
)
def test_a_training_step_is_the_plain_one(variant, contraction, bias, packed):
  want = _trained(False, 100, packed, variant, "plain", bias)
  got = _trained(True, 100, packed, variant, contraction, bias)
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize(
  ("variant", "mesh_shape"), [("L2", ""), ("L2", "data:2,model:2"), ("row", "")]
)
def test_short_sequences_are_merged_where_no_gradient_is_needed(
  variant, mesh_shape
):
  rng = np.random.default_rng(3)
  x, outputs, shapes = rng.normal(size=[24, 10, 8]), [], []
  for on_tpu in (True, False):
    with tf.Graph().as_default():
      mesh = mtf_testing.mesh(mtf.Graph(), on_tpu)
      given = mtf_testing.import_array(
        mesh, x, ["batch", "length", "d_model"], tf.float32
      )
      context = mtf_testing.fake_context(given)
      of_mesh = {}
      if on_tpu and mesh_shape:
        layout = "batch:data;d_ff:model"
        of_mesh = dict(layout=layout, mesh_shape=mesh_shape)
        vars(context.model).update(of_mesh)
        of_mesh["devices"] = [""] * 4
      layer = layers.HyperGrid(
        variant=variant, grid_rows=4, grid_cols=2, hidden_size=192
      )

      def multiply(h, kernel, gate, order, where):
        dims = gate.shape.dims
        shapes.append([d.size for d in dims if d.name in _OF_SEQUENCES])
        return product.gated(h, kernel, gate, order, where)

      layer.gated_product = multiply
      with tf.variable_scope("layer"):
        y = layer.call(context, given)
      lowering = mtf_testing.lower(mesh.graph, mesh, **of_mesh)
      fetched = lowering.export_to_tf_tensor(y)
      values = mtf_testing.random_params(np.random.default_rng(4), "layer/")
      run = mtf_testing.run_compiled if on_tpu else tf.Session.run
      with mtf_testing.session(lowering) as sess:
        mtf_testing.set_masters(sess, lowering, values)
        outputs.append(run(sess, fetched))
  merged = [4, 6] if mesh_shape else [2, 12]
  assert shapes == [merged if variant == "L2" else [24], [24]]
  np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)
