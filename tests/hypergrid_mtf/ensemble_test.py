"""An ensemble in one graph is its members computed one by one.

t5 trains ensembles by `Unitransformer.ensemble` (every variable gains a
dimension), on the same examples or, with `run.ensemble_inputs`, on examples of
each member's own; a mesh axis "ensemble" gives every member devices.
"""

import dataclasses
import functools

import numpy as np
import pytest
from scipy import special

from . import mtf_testing

MEMBERS, LENGTHS = 2, {"inputs": 8, "targets": 6}
LAYOUT = "ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model"
SMALL = "num_layers = 1"


@dataclasses.dataclass(frozen=True)
class _Case:
  """An ensemble."""

  layers: str
  own_inputs: bool = False  # each member has examples of its own
  packed: bool = False
  mesh_shape: str = ""  # "" is one CPU and no mesh
  contraction: str = "auto"  # of the ensemble; a member's is "auto"


def _features(case: _Case):
  """Token ids, [members, 4, length]; 1 for all of them without their own."""
  found = mtf_testing.random_features(LENGTHS, case.packed, (MEMBERS,))
  return found if case.own_inputs else {k: v[:1] for k, v in found.items()}


def _graph(case: _Case, members: int | None):
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
      for key, value in _features(case).items()
    }
    logits, loss = small.call(given)
    gradients = small.gradients(loss)
    fetches = {"logits": logits, "loss": loss, "gradients": gradients}
    if not case.own_inputs:  # which is how t5 decodes
      fetches["decoded"] = small.model.decode(
        given["inputs"], variable_dtype=mtf_testing.FLOAT32
      )
  return small, fetches


@functools.cache
def _one_by_one(case: _Case):
  """Weights of each member, and what each computes."""
  features = _features(case)
  member, fetches = _graph(case, None)
  weights = [member.random_weights(seed) for seed in range(MEMBERS)]
  found = []
  with member.tf_graph.as_default(), member.start(fetches) as run:
    for i, values in enumerate(weights):
      member.set_weights(values)
      found.append(run(**{k: v[i % len(v)] for k, v in features.items()}))
  return weights, found


@pytest.mark.parametrize(
  "case",
  [
    _Case("L2"),
    _Case("L2", contraction="plain"),
    _Case("LG", True, True, "ensemble:2"),
    _Case("LG", True, True, "ensemble:2", "plain"),
  ],
  ids=str,
)
def test_an_ensemble_is_its_members_one_by_one(case):
  weights, want = _one_by_one(
    dataclasses.replace(case, mesh_shape="", contraction="auto")
  )
  features = _features(case)
  stacked = {k: np.stack([w[k] for w in weights]) for k in weights[0]}
  ensemble, fetches = _graph(case, MEMBERS)
  assert {k: list(v.shape) for k, v in stacked.items()} == {
    v.name: v.shape.to_integer_list for v in ensemble.graph.trainable_variables
  }
  with ensemble.tf_graph.as_default(), ensemble.start(fetches) as run:
    ensemble.set_weights(stacked)
    if case.own_inputs:
      got = run(**features)
    else:
      one = {k: v[0] for k, v in features.items()}
      got = run(**one)
      twins = {k: np.stack([v] * MEMBERS) for k, v in weights[0].items()}
      ensemble.set_weights(twins)
      (decoded,) = run(["decoded"], **one)
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
