"""What a training step gives to the gated product of a TPU.

`tpu_orders` has the positions of a row in the lanes of the chip, and reads h
again in the backward pass. Rows that nearly fill the lanes are filled up here,
and the relu that makes h keeps nothing else for its gradient.
"""

from collections.abc import Sequence

import mesh_tensorflow as mtf

from hypergrid_mtf import tpu_orders

_LANES = 128


def filled(
  length: mtf.Dimension, xs: Sequence[mtf.Tensor]
) -> tuple[mtf.Dimension, list[mtf.Tensor]]:
  """Rows with positions of zeros behind theirs, where that costs less.

  It does where they are at most a third more (docs/tpu.md).

  Args:
    length: of the rows.
    xs: tensors, with that dimension or without.

  Returns:
    the length that they have then, and the tensors
  """
  size = -(-length.size // _LANES) * _LANES
  if size == length.size or 3 * size > 4 * length.size:
    return length, list(xs)
  padding = [0, size - length.size]
  return mtf.Dimension(length.name, size), [
    mtf.pad(x, padding, length.name) if length in x.shape.dims else x
    for x in xs
  ]


def relu(x: mtf.Tensor) -> mtf.Tensor:
  """max(x, 0), whose gradient is made from its result.

  Args:
    x: of any shape.

  Returns:
    an mtf.Tensor like x
  """

  def gradient(op, dy):
    return [mtf.cwise(tpu_orders.relu_gradient, [*op.outputs, dy])]

  return mtf.cwise(tpu_orders.relu, [x], name="relu", grad_function=gradient)
