"""An ensemble in one graph is its members computed one by one.

t5 trains ensembles by `Unitransformer.ensemble` (every variable gains a
dimension), on the same examples or, with `run.ensemble_inputs`, on examples of
each member's own; a mesh axis "ensemble" gives every member devices.
"""

import dataclasses

import numpy as np
import pytest
from scipy import special

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


def _graph(case: _Case, members: int | None, decode: bool):
  """A model of one or several members, its fetches, and their features."""
  bindings, mesh_shape, own = [SMALL], "", []
  if members:
    bindings += [
      f"Unitransformer.ensemble = {members}",
      f"HyperGrid.contraction = '{case.contraction}'",
    ]
    mesh_shape = case.mesh_shape
    own = [members] if case.own_inputs else []
  small = mtf_testing.Model(
    case.layers, "\n".join(bindings), LAYOUT, mesh_shape
  )
  with small.tf_graph.as_default():
    given = {
      key: small.feature(key, *own, *value.shape[1:])
      for key, value in _features(case.packed, 1).items()
    }
    logits, loss = small.call(given)
    gradients = small.gradients(loss)
    fetches = {"logits": logits, "loss": loss, "gradients": gradients}
    if decode:
      fetches["decoded"] = small.model.decode(
        given["inputs"], variable_dtype=mtf_testing.FLOAT32
      )
  return small, fetches


def _weights(shapes, seed):
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(0, shape[0] ** -0.5 if len(shape) > 1 else 1, shape)
    for name, shape in shapes.items()
  }


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
  features = _features(case.packed, MEMBERS)
  each = {k: v if case.own_inputs else v[:1] for k, v in features.items()}
  tokens = [{k: v[i % len(v)] for k, v in each.items()} for i in range(MEMBERS)]
  member, fetches = _graph(case, None, decode)
  shapes = {
    v.name: v.shape.to_integer_list for v in member.graph.trainable_variables
  }
  weights = [_weights(shapes, seed) for seed in range(MEMBERS)]
  want = []
  with member.tf_graph.as_default(), member.start(fetches) as run:
    for values, features in zip(weights, tokens, strict=True):
      member.set_weights(values)
      want.append(run(**features))
  stacked = {k: np.stack([w[k] for w in weights]) for k in weights[0]}
  ensemble, fetches = _graph(case, MEMBERS, decode)
  assert {k: list(v.shape) for k, v in stacked.items()} == {
    v.name: v.shape.to_integer_list for v in ensemble.graph.trainable_variables
  }
  with ensemble.tf_graph.as_default(), ensemble.start(fetches) as run:
    ensemble.set_weights(stacked)
    got = run(**{k: v if case.own_inputs else v[0] for k, v in each.items()})
    if decode:
      twins = {k: np.stack([v] * MEMBERS) for k, v in weights[0].items()}
      ensemble.set_weights(twins)
      (decoded,) = run(["decoded"], **tokens[0])
      np.testing.assert_array_equal(decoded, want[0]["decoded"])
  np.testing.assert_allclose(
    got["loss"], sum(w["loss"] for w in want), rtol=1e-5
  )
  probabilities = np.mean(
    [special.softmax(w["logits"], axis=-1) for w in want], axis=0
  )
  np.testing.assert_allclose(
    np.exp(got["logits"]), probabilities, rtol=1e-3, atol=1e-6
  )
  for name, gradient in got["gradients"].items():
    right = np.stack([w["gradients"][name] for w in want])
    largest = np.abs(right).max()
    assert largest > 0 and np.abs(right[0] - right[1]).max() > 0, name
    assert np.abs(gradient - right).max() < 1e-4 * largest, name
