"""Checks of a run against the folder it goes on in."""

import types

from hypergrid_mtf import layers
from tests.hypergrid_mtf import mtf_testing


def test_the_layers_of_both_stacks_are_found():
  model = mtf_testing.small_model("L2")
  assert len(layers.hypergrid_layers(model)) == 4
  student = types.SimpleNamespace(student=model)
  assert len(layers.hypergrid_layers(student)) == 4
  assert not layers.hypergrid_layers(mtf_testing.small_model("vanilla"))
