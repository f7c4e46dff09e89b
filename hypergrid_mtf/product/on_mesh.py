"""A gated product on a mesh: shards, slices and partial sums.

If a mesh splits the gated matrix, each device makes the gate of its own part,
from its own copy of the conditioning vectors. The gradients then need one sum
over devices, like that of the product without a gate, and the two can be added
before they are sent.
"""

import math

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf


class Where:
  """What a product must know about its graph.

  Attributes:
    train: whether a gradient will be needed.
    on_tpu: whether a TPU runs the graph, not a CPU or a GPU.
  """

  def __init__(self, context):
    self.train = context.train
    # mesh_tensorflow uses a function to place variables only on TPUs.
    self.on_tpu = callable(context.mesh.variable_placer_fn)
    self._layout = context.model.layout or ""
    self._mesh_shape = context.model.mesh_shape or ""

  def num_shards(self, dim: mtf.Dimension) -> int:
    return mtf.tensor_dim_to_mesh_dim_size(self._layout, self._mesh_shape, dim)

  def local_size(self, dims) -> int:
    """The number of elements in one device's part of these dimensions."""
    return math.prod(d.size // self.num_shards(d) for d in dims)

  def shares_mesh_axis(self, *dims: mtf.Dimension) -> bool:
    """Whether one axis of the mesh splits all of these dimensions."""
    layout = mtf.convert_to_layout_rules(self._layout)
    mesh_shape = mtf.convert_to_shape(self._mesh_shape)
    axes = {layout.tensor_dimension_to_mesh_axis(d, mesh_shape) for d in dims}
    return len(axes) == 1 and None not in axes


def shard_dims(
  fan_in: mtf.Dimension, fan_out: mtf.Dimension, where: Where
) -> list[mtf.Dimension]:
  """The additional dimensions of a gate if a mesh splits its matrix.

  They have one element per shard and the names of the matrix's sides; there are
  none if nothing is split.
  """
  return [
    mtf.Dimension(d.name, where.num_shards(d))
    for d in (fan_in, fan_out)
    if where.num_shards(d) > 1
  ]


def copies(x: mtf.Tensor, dims: list[mtf.Dimension]) -> mtf.Tensor:
  """[...] -> [*dims, ...]; the gradient is a sum over `dims`."""
  missing = [d for d in dims if d not in x.shape.dims]
  return mtf.broadcast(x, missing + x.shape.dims) if missing else x


def local_cells(
  vector: mtf.Tensor,
  grid_dim: mtf.Dimension,
  dim: mtf.Dimension,
  shards: list[mtf.Dimension],
) -> mtf.Tensor:
  """Gives each device the cells of a side that lie in its own shard.

  If there are more shards than cells, neighbours share a cell.

  Args:
    vector: [..., grid_dim].
    grid_dim: grid_rows or grid_cols.
    dim: the side of the matrix: fan-in for rows, fan-out for columns.
    shards: from `shard_dims`.

  Returns:
    [*shards, ..., cells of one shard], the last dimension named as grid_dim
  """
  vector = copies(vector, shards)
  shard = next((d for d in shards if d.name == dim.name), None)
  if shard is None:
    return vector
  cells = math.lcm(grid_dim.size, shard.size)
  local = mtf.Dimension(grid_dim.name, cells // shard.size)
  # Another name, because one tensor briefly has both dimensions.
  whole = mtf.Dimension("all_" + grid_dim.name, grid_dim.size)
  vector = mtf.replace_dimensions(vector, grid_dim, whole)
  number = mtf.range(vector.mesh, shard, tf.int32) * local.size
  number += mtf.range(vector.mesh, local, tf.int32)  # of [shard, local]
  old = mtf.floordiv(number, cells // grid_dim.size)
  which = mtf.one_hot(old, whole, dtype=vector.dtype)  # [shard, local, whole]
  dims = [d for d in vector.shape.dims if d != whole] + [local]
  return mtf.einsum([vector, which], output_shape=dims)


def reorder(x: mtf.Tensor, dims) -> mtf.Tensor:
  """Transposes x only if needed; mtf.transpose always copies."""
  shape = mtf.Shape(dims)
  if x.shape == shape:
    return x
  if set(x.shape.dims) == set(dims):
    return mtf.transpose(x, shape)
  return mtf.broadcast(x, shape)


def operation(
  forward, backward, inputs, shapes, y_dims, where: Where, name: str
) -> mtf.Tensor:
  """Runs a function with a custom gradient on each device's slices.

  Only the inputs are kept for the gradient, and each device needs only its own
  slices: the devices exchange no more than the sums that the product without a
  gate needs too. Ensemble members are computed one by one.

  Args:
    forward: takes a TensorFlow tensor for each input, returns one.
    backward: takes those and the gradient of the result, returns the gradients
      of the inputs.
    inputs: mtf tensors, the second a matrix [(ensemble,) fan_in, fan_out].
    shapes: shapes of the tensors that `backward` takes.
    y_dims: of the result.
    where: the graph.
    name: of the operation.

  Returns:
    an mtf.Tensor with the type of the first input
  """

  def gradients(op, dy):
    dims = [x.shape.dims for x in op.inputs]
    inputs = [*op.inputs, dy]
    return _slicewise(
      backward, inputs, shapes, dims, where, name=f"{name}_gradients"
    )

  (y,) = _slicewise(
    lambda *xs: [forward(*xs)],
    inputs,
    shapes,
    [y_dims],
    where,
    name=name,
    grad_function=gradients,
  )
  return y


def _slicewise(fn, inputs, shapes, output_dims, where, **kwargs):
  """`mtf.slicewise` of a function that returns a list of tensors."""
  all_dims = list(dict.fromkeys(d for x in inputs for d in x.shape.dims))
  # A partial sum gets an additional dimension, one element per device; summing
  # it is the all-reduce that the product without a gate makes.
  partial = []
  for dims in output_dims:
    names = {d.name for d in dims}
    missing = {d.name: d for d in all_dims if d.name not in names}
    partial.append(
      [
        mtf.Dimension(name, where.num_shards(d))
        for name, d in missing.items()
        if where.num_shards(d) > 1
      ]
    )

  def on_shard(*xs):
    members = math.prod(xs[1].shape.as_list()[:-2])
    each = []
    for i in range(members):
      of_one = [
        tf.reshape(tf.reshape(x, [members, -1])[i] if members > 1 else x, shape)
        for x, shape in zip(xs, shapes, strict=False)  # the last: of gradients
      ]
      each.append(fn(*of_one))
    outs = each[0]
    if members > 1:
      outs = [tf.stack(parts) for parts in zip(*each, strict=True)]
    outs = [
      tf.reshape(
        y, [1] * len(p) + [d.size // where.num_shards(d) for d in dims]
      )
      for y, p, dims in zip(outs, partial, output_dims, strict=True)
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
