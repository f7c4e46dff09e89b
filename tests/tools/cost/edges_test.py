"""The program's edges: which variables Mesh TensorFlow combines."""

import types
from unittest import mock

from tools.cost.tpu import edges


def test_variables_are_combined_as_in_the_model_with_all_its_blocks():
  names = ["shared/embedding", *["encoder/block_000/x/kernel"] * 9]
  for cores, repeats, limit in (
    (512, 1, 2**16),
    (512, 14, 2**16),  # 127 variables
    (512, 15, 2**27),  # 136
    (8, 100, 2**16),
  ):
    lowering = mock.Mock(
      mesh_to_impl={"mesh": types.SimpleNamespace(size=cores)}
    )
    lowering.graph.all_variables = [mock.Mock(mesh="mesh") for _ in names]
    for variable, name in zip(lowering.graph.all_variables, names, strict=True):
      variable.name = name
    edges.combine_variables(repeats, lowering)
    lowering.graph.rewrite_stack_variables.assert_called_once_with(
      mesh_to_impl=lowering.mesh_to_impl, max_combined_slice_size=limit
    )
