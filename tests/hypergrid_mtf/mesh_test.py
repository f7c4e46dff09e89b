"""A training step is the same on meshes, in microbatches and in bfloat16.

One model, batch and weights, as a plain graph and: over several slices of the
CPU, in microbatches, with recomputed gradients, in bfloat16.
"""

import dataclasses
import functools
import types

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow import optimize
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints, trained
from tools.cost import models

from . import mtf_testing

# t5's own; see transformer/gin/defaults.gin.
LAYOUT = "batch:batch,d_ff:model,heads:model,vocab:model"
INPUTS, TARGETS = 8, 6
# Four heads, so that four ways divide them.
SMALL = "num_layers = 1\nnum_heads = 4\nd_kv = 4"
WI = "HyperGrid.gated_kernel = 'wi'"
COARSE = "HyperGrid.grid_rows = 2\nHyperGrid.grid_cols = 2"
TASK_TOKEN = "HyperGrid.condition_on = 'task_token'"
# The gradient of a ReLU jumps where rounding moves its input past zero.
PEER = "num_tasks.count = 3\nDenseReluDense.activation = 'gelu'"
RECOMPUTE = "transformer.LayerStack.recompute_grads = True"


@dataclasses.dataclass(frozen=True)
class _Case:
  """A training step."""

  variant: str = "L2"
  bindings: str = ""  # one a line
  packed: bool = False
  mesh_shape: str = ""  # "" is one CPU and no mesh
  tokens: int | None = None  # of a microbatch on each replica
  bfloat16: bool = False  # activations
  steps: int = 0  # of Adafactor; 0 only takes gradients


@functools.cache
def _run(case: _Case):
  """The results of a step, as NumPy arrays.

  Returns:
    losses before each step, gradients at the start, updates (changes by all
    steps), the number of microbatches, and the types of gates, variables and
    their gradients
  """
  small = mtf_testing.Model(
    case.variant,
    f"{SMALL}\n{case.bindings}\nutils.serialize_num_microbatches."
    f"tokens_per_microbatch_per_replica = {case.tokens}",
    LAYOUT,
    case.mesh_shape,
    dtype=mtf_testing.BFLOAT16 if case.bfloat16 else mtf_testing.FLOAT32,
  )
  lengths = {"inputs": INPUTS, "targets": TARGETS}
  features = mtf_testing.random_features(
    lengths, case.packed, tasks=3 if "/" in case.variant else 0
  )
  batch_dim = mtf.Dimension("batch", len(features["inputs"]))
  microbatches = utils.serialize_num_microbatches(
    batch_dim,
    lengths,
    mtf.convert_to_shape(case.mesh_shape),
    mtf.convert_to_layout_rules(LAYOUT),
  )

  def loss_fn(given):
    return {"loss": small.call(given, num_microbatches=microbatches)[1]}

  with small.tf_graph.as_default():
    gates = []
    for _, layer in trained.gated_layers(small.model):

      def make_and_keep(context, x, make=layer.make_gate):
        gates.append(make(context, x))
        return gates[-1]

      layer.make_gate = make_and_keep
    given = {k: small.feature(k, *v.shape) for k, v in features.items()}
    if microbatches > 1:
      gradients, outputs = mtf.serialize_training_step(
        given, loss_fn, batch_dim, microbatches
      )
      names = [v.name for v in small.graph.trainable_variables]
      gradients = dict(zip(names, gradients, strict=True))
    else:
      outputs = loss_fn(given)
      gradients = small.gradients(outputs["loss"])
    variables = list(small.graph.trainable_variables)
    updates = []
    if case.steps:
      optimizer = optimize.AdafactorOptimizer(learning_rate=0.01)
      updates = optimizer.apply_grads(list(gradients.values()), variables)
    masters = {v.name: v.get_master() for v in variables}
    dtypes = (
      {g.dtype for g in gates},
      {v.dtype.base_dtype for v in masters.values()},
      {v.outputs[0].dtype for v in variables},
    )
    losses, changes = [], {}
    fetches = {"loss": outputs["loss"], "gradients": gradients}
    with small.start(fetches) as run:
      lowering, sess = small.lowering, small.session
      train = tf.group([lowering.lowered_operation(u) for u in updates])
      feed = {f"{name}:0": value for name, value in features.items()}
      before = sess.run(masters)
      result = run(**features)
      losses.append(result["loss"])
      for _ in range(case.steps):
        sess.run(train, feed)
        losses += run(["loss"], **features)
      if case.steps:
        sess.run(lowering.copy_slices_to_masters())
        after = sess.run(masters)
        changes = {name: after[name] - before[name] for name in before}
  return types.SimpleNamespace(
    losses=losses,
    gradients=result["gradients"],
    updates=changes,
    microbatches=microbatches,
    dtypes=dtypes,
  )


def _assert_close(got, want, tolerance):
  """Largest difference relative to the largest element, for every variable."""
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
  assert any(map(checkpoints.OWN_SCOPES.search, want.gradients))
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
    (PACKED, "batch:2", ""),
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
    (_Case("col", WI), "model:2", _order("plain")),
    (_Case("LG", WI), "model:2", _order("cols")),
    # Gradients taken of a second forward pass.
    (PACKED, "", f"\n{RECOMPUTE}"),
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


# Between them, every kind of variable and every mesh.
@pytest.mark.parametrize(
  ("peer", "packed", "mesh_shape", "further"),
  [
    ("ia3", True, "model:2,batch:2", ""),
    ("adapter", False, "model:4", ""),
    ("hyperformer", True, "batch:4", f"\n{RECOMPUTE}"),
    ("hyperprompt_global", True, "model:2,batch:2", f"\n{RECOMPUTE}"),
    ("hyperprompt_sep", False, "model:4", ""),
    *(
      pytest.param(peer, packed, mesh_shape, "", marks=pytest.mark.slow)
      for peer in models.PEERS
      for packed in (False, True)
      for mesh_shape in ("batch:4", "model:4", "model:2,batch:2")
    ),
  ],
)
def test_a_mesh_changes_no_peer(peer, packed, mesh_shape, further):
  case = _Case(f"peers/{peer}", PEER, packed)
  _assert_same_step(case, mesh_shape=mesh_shape, bindings=PEER + further)


@pytest.mark.parametrize(
  "case", [PACKED, _Case("peers/ia3", PEER, True, steps=1)]
)
def test_microbatches_change_nothing(case):
  """Gradients are summed over microbatches, and Adafactor steps once."""
  got = _assert_same_step(case, mesh_shape="batch:2", tokens=INPUTS)
  assert got.microbatches == 2
  _assert_close(got.updates, _run(case).updates, 1e-3)


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
