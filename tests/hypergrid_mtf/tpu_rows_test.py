"""What a TPU's training step does around the product, against the plain one."""

from unittest import mock

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import layers, tpu_rows
from tests.hypergrid_mtf import mtf_testing


@pytest.mark.parametrize(
  ("length", "size"),
  [(1, 1), (62, 62), (95, 95), (96, 128), (114, 128), (128, 128), (150, 150)]
  + [(200, 256), (320, 384), (512, 512), (513, 640), (1000, 1024)],
)
def test_rows_are_filled_where_it_costs_less(length, size):
  assert 3 * size <= 4 * length or size == length
  with tf.Graph().as_default():
    mesh = mtf.Mesh(mtf.Graph(), "mesh")
    dim, other = mtf.Dimension("length", length), mtf.Dimension("batch", 2)
    xs = [mtf.ones(mesh, mtf.Shape(dims)) for dims in ([other, dim], [other])]
    found, (x, y) = tpu_rows.filled(dim, xs)
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
      mesh,
      given,
      given.shape.dims[-1],
      mode=tf.estimator.ModeKeys.TRAIN,
      variable_dtype=mtf_testing.FLOAT32,
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
    lowering = mtf_testing.lower(graph, mesh)
    fetches = [lowering.export_to_tf_tensor(t) for t in (y, *grads)]
    with mtf_testing.session(lowering) as sess:
      params = mtf_testing.random_params(rng, "layer/")
      mtf_testing.set_masters(sess, lowering, params)
      if on_tpu:
        return mtf_testing.run_compiled(sess, fetches)
      return sess.run(fetches)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
  ("variant", "contraction", "bias"),
  [
    ("L2", "auto", False),
    ("L2", "cols", True),
    ("row", "auto", True),
    ("col", "auto", False),
  ],
)
def test_a_training_step_is_the_plain_one(packed, variant, contraction, bias):
  want = _trained(False, 100, packed, variant, "plain", bias)
  got = _trained(True, 100, packed, variant, contraction, bias)
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
