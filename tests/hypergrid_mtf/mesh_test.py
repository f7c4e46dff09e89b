"""The same model on no mesh and split over several slices of the CPU."""

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from . import mtf_testing

LAYOUT = "batch:batch,d_ff:model,vocab:model"
BATCH, LENGTH = 4, 8


def _logits_and_gradients(variant, bindings, mesh_shape, packed):
  rng = np.random.default_rng(0)
  ids = rng.integers(2, 60, (BATCH, LENGTH)).astype(np.int32)
  segments = np.where(np.arange(LENGTH) < [[3], [4], [5], [6]], 1, 2)
  with tf.Graph().as_default():
    model = mtf_testing.small_model(variant, bindings, LAYOUT, mesh_shape)
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    names = ["batch", "length"]
    tokens = mtf_testing.import_array(mesh, ids, names)
    sequence_id = (
      mtf_testing.import_array(mesh, segments.astype(np.int32), names)
      if packed
      else None
    )
    logits, loss = model.call_simple(
      inputs=tokens,
      targets=tokens,
      compute_loss=True,
      mode=tf.estimator.ModeKeys.TRAIN,
      variable_dtype=mtf_testing.FLOAT32,
      encoder_sequence_id=sequence_id,
      decoder_sequence_id=sequence_id,
    )
    variables = [v for v in graph.trainable_variables if "DenseRelu" in v.name]
    gradients = mtf.gradients([loss], [v.outputs[0] for v in variables])
    logits = mtf.anonymize(logits)
    gradients = [mtf.anonymize(g) for g in gradients]
    shape = mtf.convert_to_shape(mesh_shape)
    lowering = mtf_testing.lower(
      graph, mesh, mesh_shape, LAYOUT, ["cpu:0"] * shape.size
    )
    fetches = [lowering.export_to_tf_tensor(t) for t in [logits, *gradients]]
    with mtf_testing.session(lowering) as sess:
      mtf_testing.randomize(sess, lowering)
      return sess.run(fetches)


@pytest.mark.parametrize(
  ("variant", "bindings", "mesh_shape", "packed"),
  [
    ("L2", "", "model:2,batch:2", True),
    ("LG", "HyperGrid.gated_kernel = 'wi'", "model:2,batch:2", False),
    ("row", "", "model:2", False),
    # Fewer cells than the mesh has shards: each cell is repeated.
    ("GL", "HyperGrid.grid_rows = 2", "model:4", True),
  ],
)
def test_a_mesh_changes_nothing(variant, bindings, mesh_shape, packed):
  bindings += "\nnum_layers = 1"
  want = _logits_and_gradients(variant, bindings, "", packed)
  got = _logits_and_gradients(variant, bindings, mesh_shape, packed)
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), rtol=1e-4)
