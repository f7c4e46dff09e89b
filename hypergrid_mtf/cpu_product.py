"""The orders of `cpu_orders` as one operation of Mesh TensorFlow.

`mtf.slicewise` runs them on every device's own shard of h, W and G, with a
gradient that is computed from these three alone.
"""

import math

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf

from hypergrid_mtf import contraction, cpu_orders, sharding


def product(
  order: str, h: mtf.Tensor, kernel: mtf.Tensor, gate: mtf.Tensor, ways
) -> mtf.Tensor:
  """y = h (psi(G) * W), as `projection.plain_product` computes it.

  Nothing but h, W and G is kept for the gradient, and no device needs more of
  them than its own shard: only sums that the product without a gate makes too
  cross devices.

  Args:
    order: one of contraction.ORDERS.
    h: as in `projection.gated_product`, as the others are.
    kernel: W.
    gate: G.
    ways: a function of a Dimension: into how many shards the mesh splits it.

  Returns:
    y, [..., fan_out]
  """
  ensemble, gates, tokens = contraction.split_dims(h, kernel, gate)
  fan_in, fan_out = kernel.shape.dims[-2:]
  sides = [d for d in gate.shape.dims if d.name in ("grid_rows", "grid_cols")]
  sides.sort(key=lambda d: d.name, reverse=True)
  shards = sharding.shard_dims(fan_in, fan_out, ways)
  sizes = contraction.sizes_of(h, kernel, gate, ways)
  h = _reorder(h, ensemble + gates + tokens + [fan_in])
  gate = _reorder(gate, ensemble + gates + shards + sides)
  y_dims = ensemble + gates + tokens + [fan_out]

  def forward(*args):
    return [cpu_orders.product(order, *args)]

  def backward(*args):
    return cpu_orders.gradients(order, *args)

  def gradients(op, dy):
    inputs = [*op.inputs, dy]
    dims = [x.shape.dims for x in op.inputs]
    return _slicewise(
      backward, inputs, dims, sizes, ways, name="hypergrid_gradients"
    )

  (y,) = _slicewise(
    forward,
    [h, kernel, gate],
    [y_dims],
    sizes,
    ways,
    name="hypergrid_product",
    grad_function=gradients,
  )
  return y


def _reorder(x: mtf.Tensor, dims) -> mtf.Tensor:
  """x with these dimensions; mtf.transpose copies even where it need not."""
  shape = mtf.Shape(dims)
  if x.shape == shape:
    return x
  if set(x.shape.dims) == set(dims):
    return mtf.transpose(x, shape)
  return mtf.broadcast(x, shape)


def _slicewise(fn, inputs, output_dims, sizes, ways, **kwargs):
  """Runs a function of `cpu_orders` on every shard.

  Args:
    fn: takes h, W, G (and dy) as `cpu_orders` shapes them, returns a list.
    inputs: mtf Tensors h, W, G (and dy).
    output_dims: of each output, without the dimensions of partial sums.
    sizes: a contraction.Sizes.
    ways: as in `product`.
    **kwargs: of mtf.slicewise.

  Returns:
    a list of mtf Tensors
  """
  all_dims = list(dict.fromkeys(d for x in inputs for d in x.shape.dims))
  # What a device lacks of a sum becomes a dimension, one element a device; its
  # sum is the all-reduce that the product without a gate makes.
  partial = []
  for dims in output_dims:
    names = {d.name for d in dims}
    missing = {d.name: d for d in all_dims if d.name not in names}
    partial.append(
      [
        mtf.Dimension(name, ways(d))
        for name, d in missing.items()
        if ways(d) > 1
      ]
    )

  def on_shard(*xs):
    outs = [
      tf.reshape(y, [1] * len(p) + y.shape.as_list()) if p else y
      for y, p in zip(_on_shard(fn, xs, sizes), partial, strict=True)
    ]
    return tuple(outs) if len(outs) > 1 else outs[0]

  dims = [p + d for p, d in zip(partial, output_dims, strict=True)]
  outs = mtf.slicewise(
    on_shard,
    inputs,
    [mtf.Shape(d) for d in dims],
    [x.dtype for x in inputs[: len(dims)]],
    splittable_dims=list(dict.fromkeys(all_dims + sum(dims, []))),
    **kwargs,
  )
  return [
    mtf.reduce_sum(y, output_shape=mtf.Shape(d)) if p else y
    for y, p, d in zip(outs, partial, output_dims, strict=True)
  ]


def _on_shard(fn, xs, sizes):
  """Shapes the slices as `cpu_orders` wants them, and the results back."""
  h, kernel, gate, *rest = xs
  s = sizes
  *shape, _ = h.shape.as_list()
  members = math.prod(kernel.shape.as_list()[:-2])
  flat = [
    tf.reshape(h, [members, s.gates, s.tokens, s.fan_in]),
    tf.reshape(kernel, [members, s.fan_in, s.fan_out]),
    tf.reshape(gate, [members, s.gates, s.rows, s.cols]),
    *(tf.reshape(dy, [members, s.gates, s.tokens, s.fan_out]) for dy in rest),
  ]
  if members == 1:
    outs = fn(*(tf.reshape(x, x.shape[1:]) for x in flat))
  else:
    each = [fn(*x) for x in zip(*map(tf.unstack, flat), strict=True)]
    outs = [tf.stack(parts) for parts in zip(*each, strict=True)]
  if len(outs) > 1:
    shapes = [x.shape for x in xs[: len(outs)]]
  else:
    shapes = [[*shape, s.fan_out]]
  return [tf.reshape(y, to) for y, to in zip(outs, shapes, strict=True)]
