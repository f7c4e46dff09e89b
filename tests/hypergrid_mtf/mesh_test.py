"""The same training step however it is spread, split, repeated or rounded.

One model, batch and weights, as a plain graph and: over several slices of the
CPU, in microbatches, with recomputed gradients, in bfloat16.
"""

import dataclasses
import functools
import zlib

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow import optimize
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import layers

from . import mtf_testing

# t5's own; see transformer/gin/defaults.gin.
LAYOUT = "batch:batch,d_ff:model,heads:model,vocab:model"
BATCH, INPUTS, TARGETS = 4, 8, 6
# Four heads, so that four ways divide them.
SMALL = "num_layers = 1\nnum_heads = 4\nd_kv = 4"
WI = "HyperGrid.gated_kernel = 'wi'"
COARSE = "HyperGrid.grid_rows = 2\nHyperGrid.grid_cols = 2"
TASK_TOKEN = "HyperGrid.condition_on = 'task_token'"
RECOMPUTE = "transformer.LayerStack.recompute_grads = True"


@dataclasses.dataclass(frozen=True)
class _Case:
  """A training step.

  Attributes:
    variant: a file of operative_configs/hypergrid.
    bindings: gin bindings, one a line.
    packed: two examples a row.
    mesh_shape: "" is one CPU and no mesh.
    tokens: of a microbatch on each replica; None is the whole batch.
    bfloat16: activations.
    steps: of Adafactor; 0 only takes gradients.
  """

  variant: str = "L2"
  bindings: str = ""
  packed: bool = False
  mesh_shape: str = ""
  tokens: int | None = None
  bfloat16: bool = False
  steps: int = 0


@dataclasses.dataclass
class _Result:
  """What a step gave, as NumPy.

  Attributes:
    losses: before each step, or one.
    gradients: {variable: gradient} at the start.
    updates: {variable: change by all steps}.
    microbatches: how many there were.
    dtypes: of activations (gates), variables and their gradients.
  """

  losses: list
  gradients: dict
  updates: dict
  microbatches: int
  dtypes: tuple


def _features(packed):
  """Token ids, [BATCH, length], with padding at the end of most rows."""
  rng = np.random.default_rng(0)
  features = {}
  for key, length in (("inputs", INPUTS), ("targets", TARGETS)):
    ids = rng.integers(2, 60, (BATCH, length))
    at = np.arange(length)
    ends = np.array([[length], [length - 1], [length - 2], [length]])
    starts = np.array([[2], [3], [1], [4]])  # of the second example
    features[key] = np.where(at < ends, ids, 0)
    if packed:
      second = at >= starts
      segments = np.where(at < ends, 1 + second, 0)
      positions = np.where(second, at - starts, at) * (segments > 0)
      features[f"{key}_segmentation"] = segments
      features[f"{key}_position"] = positions
  return features


@functools.cache
def _run(case: _Case) -> _Result:
  variable_dtype = (
    mtf_testing.BFLOAT16 if case.bfloat16 else mtf_testing.FLOAT32
  )
  with tf.Graph().as_default():
    model = mtf_testing.small_model(
      case.variant,
      f"{SMALL}\n{case.bindings}\nutils.serialize_num_microbatches."
      f"tokens_per_microbatch_per_replica = {case.tokens}",
      LAYOUT,
      case.mesh_shape,
    )
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    features = {
      key: mtf_testing.import_array(
        mesh, value.astype(np.int32), ["batch", "length"]
      )
      for key, value in _features(case.packed).items()
    }
    batch_dim = mtf.Dimension("batch", BATCH)
    mesh_shape = mtf.convert_to_shape(case.mesh_shape)
    microbatches = utils.serialize_num_microbatches(
      batch_dim,
      {"inputs": INPUTS, "targets": TARGETS},
      mesh_shape,
      mtf.convert_to_layout_rules(LAYOUT),
    )

    def loss_fn(given):
      _, loss = model.call_simple(
        inputs=given["inputs"],
        targets=given["targets"],
        compute_loss=True,
        mode=tf.estimator.ModeKeys.TRAIN,
        variable_dtype=variable_dtype,
        encoder_sequence_id=given.get("inputs_segmentation"),
        decoder_sequence_id=given.get("targets_segmentation"),
        encoder_position=given.get("inputs_position"),
        decoder_position=given.get("targets_position"),
        num_microbatches=microbatches,
      )
      return {"loss": loss}

    if microbatches > 1:
      gradients, outputs = mtf.serialize_training_step(
        features, loss_fn, batch_dim, microbatches
      )
    else:
      outputs = loss_fn(features)
      gradients = mtf.gradients(
        [outputs["loss"]], [v.outputs[0] for v in graph.trainable_variables]
      )
    variables = list(graph.trainable_variables)
    updates = []
    if case.steps:
      optimizer = optimize.AdafactorOptimizer(learning_rate=0.01)
      updates = optimizer.apply_grads(gradients, variables)
    lowering = mtf_testing.lower(
      graph, mesh, mesh_shape, LAYOUT, ["cpu:0"] * mesh_shape.size
    )
    fetches = {
      "loss": tf.cast(
        lowering.export_to_tf_tensor(outputs["loss"]), tf.float32
      ),
      "gradients": {
        v.name: tf.cast(lowering.export_to_tf_tensor(g), tf.float32)
        for v, g in zip(variables, gradients, strict=True)
      },
    }
    train = tf.group([lowering.lowered_operation(u) for u in updates])
    copy_back = lowering.copy_slices_to_masters()
    masters = {v.name: v.get_master() for v in variables}
    gates = [layer.last_gate for layer, _ in layers.hypergrid_layers(model)]
    dtypes = (
      {g.dtype for g in gates},
      {v.dtype.base_dtype for v in masters.values()},
      {v.outputs[0].dtype for v in variables},
    )
    losses, changes = [], {}
    with _session(lowering, masters) as sess:
      before = sess.run(masters)
      result = sess.run(fetches)
      losses.append(result["loss"])
      for _ in range(case.steps):
        sess.run(train)
        losses.append(sess.run(fetches["loss"]))
      if case.steps:
        sess.run(copy_back)
        after = sess.run(masters)
        changes = {name: after[name] - before[name] for name in before}
  return _Result(losses, result["gradients"], changes, microbatches, dtypes)


def _session(lowering, masters):
  """A session with random weights, the same for the same names and shapes.

  All in one run and without TensorFlow's rewriting: most of the time of such
  small graphs would go there.
  """
  sess = tf.Session(config=mtf_testing.quick_options())
  values = {}
  for name, master in masters.items():
    shape = master.shape.as_list()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    value = rng.normal(0, 1, shape)
    if name.endswith(("kernel", "/q", "/k", "/v", "/o")):
      value *= shape[0] ** -0.5
    if name.endswith("scale"):
      value = 1 + 0.1 * value
    values[master.initializer.inputs[1]] = value
  sess.run(tf.global_variables_initializer(), values)
  sess.run(lowering.copy_masters_to_slices())
  return sess


def _assert_close(got, want, tolerance):
  """Largest difference beside the largest element, for every variable."""
  assert set(got) == set(want)
  for name, b in want.items():
    largest = np.abs(b).max()
    assert largest > 0, f"nothing reaches {name}"
    error = np.abs(got[name] - b).max() / largest
    assert error < tolerance, f"{name}: {error}"


def _assert_same_step(case, **changes):
  """The loss and every gradient of a case do not change with `changes`."""
  want = _run(case)
  got = _run(dataclasses.replace(case, **changes))
  np.testing.assert_allclose(got.losses[0], want.losses[0], rtol=1e-5)
  parts = {n.split("/")[0] for n in want.gradients}
  assert parts == {"shared", "encoder", "decoder"}
  assert any("/hypergrid/" in n for n in want.gradients)
  _assert_close(got.gradients, want.gradients, 1e-5)
  return got


def _order(contraction):
  return f"\nHyperGrid.contraction = '{contraction}'"


PLAIN = _Case()
PACKED = _Case(packed=True, steps=1)


# Each graph takes seconds, so a mesh and an order change together.
@pytest.mark.parametrize(
  ("case", "mesh_shape", "further"),
  [
    (PACKED, "batch:4", ""),
    (PACKED, "model:2,batch:2", ""),
    (PLAIN, "model:4", ""),
    pytest.param(
      PLAIN, "model:2,batch:2", _order("weights"), marks=pytest.mark.slow
    ),
    pytest.param(
      PACKED, "model:2,batch:2", _order("plain"), marks=pytest.mark.slow
    ),
    pytest.param(PLAIN, "batch:4", _order("plain"), marks=pytest.mark.slow),
    # Fewer cells than the mesh has shards.
    (_Case("GL", COARSE, packed=True), "model:4", ""),
    pytest.param(
      _Case("GL", COARSE, packed=True),
      "model:4",
      _order("plain"),
      marks=pytest.mark.slow,
    ),
    (_Case("col", WI), "model:4", _order("plain")),
    (_Case("LG", WI), "model:2", _order("cols")),
    # Gradients taken of a second forward pass (on no mesh: model_test).
    (
      _Case("row", TASK_TOKEN, packed=True),
      "model:2",
      f"{_order('rows')}\n{RECOMPUTE}",
    ),
  ],
)
def test_a_mesh_changes_nothing(case, mesh_shape, further):
  bindings = case.bindings + further
  _assert_same_step(case, mesh_shape=mesh_shape, bindings=bindings, steps=0)


def test_microbatches_change_nothing():
  """Gradients are summed over microbatches, and Adafactor steps once."""
  got = _assert_same_step(PACKED, mesh_shape="batch:2", tokens=INPUTS)
  assert got.microbatches == 2
  _assert_close(got.updates, _run(PACKED).updates, 1e-3)


def test_bfloat16_activations_train_float32_variables():
  exact = _run(PACKED)
  rounded = _run(_Case(packed=True, steps=3, bfloat16=True))
  assert exact.dtypes == ({tf.float32},) * 3
  assert rounded.dtypes == ({tf.bfloat16}, {tf.float32}, {tf.bfloat16})
  assert np.isfinite(rounded.losses).all()
  assert rounded.losses[-1] < rounded.losses[0]
  np.testing.assert_allclose(rounded.losses[0], exact.losses[0], rtol=0.02)
  for name, want in exact.gradients.items():
    got = rounded.gradients[name]
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert error < 0.1, f"{name}: {error}"
  # What is added to a float32 variable is not rounded to bfloat16.
  for name, change in rounded.updates.items():
    assert np.abs(change).max() > 0, name
