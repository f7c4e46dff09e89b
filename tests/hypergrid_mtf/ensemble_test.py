"""An ensemble in one graph is its members computed one by one.

t5 trains ensembles by `Unitransformer.ensemble` (every variable gains a
dimension), on the same examples or, with `run.ensemble_inputs`, on examples of
each member's own; a mesh axis "ensemble" gives every member devices.
"""

import dataclasses

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from . import mtf_testing

MEMBERS, BATCH, INPUTS, TARGETS = 2, 4, 8, 6
LAYOUT = "ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model"
SMALL = "num_layers = 1"


@dataclasses.dataclass(frozen=True)
class _Case:
  """An ensemble.

  Attributes:
    layers: a file of operative_configs/hypergrid.
    own_inputs: each member has examples of its own.
    packed: two examples a row.
    mesh_shape: "" is one CPU and no mesh.
    contraction: of the ensemble; a member's is "auto".
  """

  layers: str
  own_inputs: bool = False
  packed: bool = False
  mesh_shape: str = ""
  contraction: str = "auto"


def _features(packed, members):
  """Token ids, [members, BATCH, length]."""
  rng = np.random.default_rng(0)
  features = {}
  for key, length in (("inputs", INPUTS), ("targets", TARGETS)):
    shape = (members, BATCH, length)
    ids = rng.integers(2, 60, shape)
    ends = np.array([length, length - 1, length - 2, length])[:, None]
    real = np.broadcast_to(np.arange(length) < ends, shape)
    features[key] = ids * real
    if packed:
      second = np.arange(length) >= np.array([2, 3, 1, 3])[:, None]
      features[f"{key}_segmentation"] = real * (1 + second)
      positions = second.cumsum(1) - 1
      features[f"{key}_position"] = real * np.where(
        second, positions, np.arange(length)
      )
  return {k: v.astype(np.int32) for k, v in features.items()}


class _Graph:
  """A model of one or several members: what it gives for weights and tokens."""

  def __init__(self, case: _Case, members: int | None, decode: bool):
    bindings = [SMALL]
    own = []
    if members:
      bindings += [
        f"Unitransformer.ensemble = {members}",
        f"HyperGrid.contraction = '{case.contraction}'",
      ]
      own = [members] if case.own_inputs else []
    mesh_shape = case.mesh_shape if members else ""
    self._graph = tf.Graph()
    with self._graph.as_default():
      model = mtf_testing.small_model(
        case.layers, "\n".join(bindings), LAYOUT, mesh_shape
      )
      graph = mtf.Graph()
      mesh = mtf.Mesh(graph, "mesh")
      self._tokens, given = {}, {}
      for key, value in _features(case.packed, 1).items():
        sizes = [*own, *value.shape[1:]]
        names = ["ensemble", "batch", "length"][-len(sizes) :]
        shape = mtf.Shape(list(map(mtf.Dimension, names, sizes)))
        self._tokens[key] = tf.placeholder(tf.int32, sizes)
        given[key] = mtf.import_fully_replicated(mesh, self._tokens[key], shape)
      logits, loss = model.call_simple(
        inputs=given["inputs"],
        targets=given["targets"],
        compute_loss=True,
        mode=tf.estimator.ModeKeys.TRAIN,
        variable_dtype=mtf_testing.FLOAT32,
        encoder_sequence_id=given.get("inputs_segmentation"),
        decoder_sequence_id=given.get("targets_segmentation"),
        encoder_position=given.get("inputs_position"),
        decoder_position=given.get("targets_position"),
      )
      variables = graph.trainable_variables
      gradients = mtf.gradients([loss], [v.outputs[0] for v in variables])
      fetches = {
        "logits": mtf.anonymize(logits),
        "loss": loss,
        "gradients": {
          v.name: g for v, g in zip(variables, gradients, strict=True)
        },
      }
      if decode:
        fetches["decoded"] = mtf.anonymize(
          model.decode(given["inputs"], variable_dtype=mtf_testing.FLOAT32)
        )
      size = mtf.convert_to_shape(mesh_shape).size
      self._lowering = mtf_testing.lower(
        graph, mesh, mesh_shape, LAYOUT, [""] * size
      )
      self._fetches = tf.nest.map_structure(
        self._lowering.export_to_tf_tensor, fetches
      )
      self.shapes = {v.name: v.shape.to_integer_list for v in variables}
      self._session = mtf_testing.session(
        self._lowering, mtf_testing.quick_options()
      )

  def __call__(self, weights, tokens):
    with self._graph.as_default(), self._session.as_default() as sess:
      mtf_testing.set_masters(sess, self._lowering, weights)
      feed = {self._tokens[key]: value for key, value in tokens.items()}
      return sess.run(self._fetches, feed)


def _weights(shapes, seed):
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(0, shape[0] ** -0.5 if len(shape) > 1 else 1, shape)
    for name, shape in shapes.items()
  }


def _log_softmax(x):
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize(
  "case",
  [
    _Case("L2"),
    _Case("LG", own_inputs=True, packed=True, mesh_shape="ensemble:2"),
    _Case("L2", contraction="plain"),
    _Case(
      "LG",
      own_inputs=True,
      packed=True,
      mesh_shape="ensemble:2",
      contraction="plain",
    ),
  ],
  ids=str,
)
def test_an_ensemble_is_its_members_one_by_one(case):
  decode = not case.own_inputs  # which is how t5 decodes
  member = _Graph(case, None, decode)
  ensemble = _Graph(case, MEMBERS, decode)
  weights = [_weights(member.shapes, seed) for seed in range(MEMBERS)]
  stacked = {k: np.stack([w[k] for w in weights]) for k in weights[0]}
  assert ensemble.shapes == {k: list(v.shape) for k, v in stacked.items()}
  features = _features(case.packed, MEMBERS)
  each = {k: v if case.own_inputs else v[:1] for k, v in features.items()}
  tokens = [{k: v[i % len(v)] for k, v in each.items()} for i in range(MEMBERS)]
  want = [member(w, t) for w, t in zip(weights, tokens, strict=True)]
  got = ensemble(
    stacked, {k: v if case.own_inputs else v[0] for k, v in each.items()}
  )
  np.testing.assert_allclose(
    got["loss"], sum(w["loss"] for w in want), rtol=1e-5
  )
  probabilities = np.mean(
    [np.exp(_log_softmax(w["logits"])) for w in want], axis=0
  )
  np.testing.assert_allclose(
    np.exp(got["logits"]), probabilities, rtol=1e-3, atol=1e-6
  )
  for name, gradient in got["gradients"].items():
    right = np.stack([w["gradients"][name] for w in want])
    largest = np.abs(right).max()
    assert largest > 0 and np.abs(right[0] - right[1]).max() > 0, name
    assert np.abs(gradient - right).max() < 1e-4 * largest, name
  if decode:
    twins = {k: np.stack([v] * MEMBERS) for k, v in weights[0].items()}
    decoded = ensemble(twins, tokens[0])["decoded"]
    np.testing.assert_array_equal(decoded, want[0]["decoded"])
