"""The orders of `cpu_orders` and `tpu_orders` as one operation of the mesh.

`mtf.slicewise` runs them on every device's own shard of h, W and G, with a
gradient that is computed from these three alone.
"""

import dataclasses
import functools
import math

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf

from hypergrid_mtf import contraction, cpu_orders, sharding, tpu_orders


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
  h_dims, kernel_dims = h.shape.dims, kernel.shape.dims
  ensemble, gates, tokens = contraction.split_dims(h_dims, kernel_dims, gate)
  fan_in, fan_out = kernel.shape.dims[-2:]
  sides = [d for d in gate.shape.dims if d.name in ("grid_rows", "grid_cols")]
  sides.sort(key=lambda d: d.name, reverse=True)
  shards = sharding.shard_dims(fan_in, fan_out, ways)
  sizes = contraction.sizes_of(h_dims, kernel_dims, gate, ways)
  if contraction.on_tpu(h.mesh) and len(tokens) > 1:  # beams, or one gate
    *others, last_dim = tokens
    count = math.prod(d.size // ways(d) for d in others)
    gates, tokens = gates + others, [last_dim]
    sizes = dataclasses.replace(
      sizes, gates=sizes.gates * count, tokens=sizes.tokens // count
    )
  h = _reorder(h, contraction.arranged(order, h_dims, kernel_dims, gate))
  gate = _reorder(gate, ensemble + gates + shards + sides)
  y_dims = ensemble + gates + tokens + [fan_out]

  on_tpu = contraction.on_tpu(h.mesh)
  orders = tpu_orders if on_tpu else cpu_orders
  shapes = _tpu_shapes if on_tpu else _cpu_shapes
  # The tokens of a row, which a TPU has in its lanes.
  *_, last = h.shape.dims
  positions = 1 if last == fan_in else last.size // ways(last)

  def forward(*args):
    return [orders.product(order, *args)]

  def backward(*args):
    return orders.gradients(order, *args)

  def run(fn, inputs, output_dims, **kwargs):
    on_shard = functools.partial(
      _on_shard,
      fn,
      shapes(sizes, positions),
      _local(output_dims, ways),
    )
    return _slicewise(on_shard, inputs, output_dims, ways, **kwargs)

  def gradients(op, dy):
    dims = [x.shape.dims for x in op.inputs]
    return run(backward, [*op.inputs, dy], dims, name="hypergrid_gradients")

  (y,) = run(
    forward,
    [h, kernel, gate],
    [y_dims],
    name="hypergrid_product",
    grad_function=gradients,
  )
  return y


def tokens_last(x: mtf.Tensor, kernel: mtf.Tensor, y_dims, ways) -> mtf.Tensor:
  """x W, without a gate, made for what `product` on a TPU does with it.

  Args:
    x: [..., fan_in].
    kernel: W, [(ensemble,) fan_in, fan_out].
    y_dims: of the result: [(ensemble,) ..., fan_out, positions].
    ways: as in `product`.

  Returns:
    an mtf.Tensor
  """
  fan_in, fan_out = (d.size // ways(d) for d in kernel.shape.dims[-2:])
  positions = y_dims[-1].size // ways(y_dims[-1])
  shapes = [
    [-1, positions, fan_in],
    [fan_in, fan_out],
    [-1, fan_out, positions],
  ]

  def run(fn, inputs, output_dims, **kwargs):
    on_shard = functools.partial(
      _on_shard, fn, shapes, _local(output_dims, ways)
    )
    return _slicewise(on_shard, inputs, output_dims, ways, **kwargs)

  def gradients(op, dy):
    return run(
      tpu_orders.tokens_last_gradients,
      [*op.inputs, dy],
      [x.shape.dims for x in op.inputs],
      name="tokens_last_gradients",
    )

  (y,) = run(
    lambda *xs: [tpu_orders.tokens_last(*xs)],
    [x, kernel],
    [y_dims],
    name="tokens_last",
    grad_function=gradients,
  )
  return y


def _local(shapes, ways):
  """Shapes of one device's slices."""
  return [[d.size // ways(d) for d in dims] for dims in shapes]


def _reorder(x: mtf.Tensor, dims) -> mtf.Tensor:
  """x with these dimensions; mtf.transpose copies even where it need not."""
  shape = mtf.Shape(dims)
  if x.shape == shape:
    return x
  if set(x.shape.dims) == set(dims):
    return mtf.transpose(x, shape)
  return mtf.broadcast(x, shape)


def _slicewise(fn, inputs, output_dims, ways, **kwargs):
  """Runs a function on every shard.

  Args:
    fn: takes the slices of h, W, G (and dy), returns a list.
    inputs: mtf Tensors h, W, G (and dy).
    output_dims: of each output, without the dimensions of partial sums.
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
      for y, p in zip(fn(*xs), partial, strict=True)
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


def _cpu_shapes(s, positions):
  """Shapes of h, W, G and dy in `cpu_orders`."""
  del positions
  return [
    [s.gates, s.tokens, s.fan_in],
    [s.fan_in, s.fan_out],
    [s.gates, s.rows, s.cols],
    [s.gates, s.tokens, s.fan_out],
  ]


def _tpu_shapes(s, positions):
  """Shapes of h, W, G and dy in `tpu_orders`."""
  return [
    [-1, s.fan_in, positions],
    [s.fan_in, s.fan_out],
    [-1, positions if s.tokens == 1 else 1, s.rows, s.cols],
    [-1, positions, s.fan_out],
  ]


def _on_shard(fn, shapes_in, shapes_out, *xs):
  """Calls an order on slices, in its shapes, member by member of an ensemble.

  Args:
    fn: takes h, W, G (and dy), returns a list.
    shapes_in: of what it takes.
    shapes_out: of the slices of its results.
    *xs: slices of h, W, G (and dy).

  Returns:
    a list of tensors
  """
  members = math.prod(xs[1].shape.as_list()[:-2])
  each = []
  for i in range(members):
    of_one = [
      tf.reshape(tf.reshape(x, [members, -1])[i] if members > 1 else x, shape)
      for x, shape in zip(xs, shapes_in, strict=False)  # dy: for gradients
    ]
    each.append(fn(*of_one))
  outs = each[0]
  if members > 1:
    outs = [tf.stack(parts) for parts in zip(*each, strict=True)]
  return [tf.reshape(y, to) for y, to in zip(outs, shapes_out, strict=True)]
