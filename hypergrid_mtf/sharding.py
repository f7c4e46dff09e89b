"""Gates of a matrix that a mesh splits: each device makes those of its shard.

Where nothing is split, the functions give back what they are given.
"""

import functools
import math

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf


def ways(context):
  """A function of a Dimension: into how many shards the mesh splits it.

  Args:
    context: a transformer.Context.

  Returns:
    a function
  """
  return functools.partial(
    mtf.tensor_dim_to_mesh_dim_size,
    context.model.layout or "",
    context.model.mesh_shape or "",
  )


def shard_dims(
  fan_in: mtf.Dimension, fan_out: mtf.Dimension, ways
) -> list[mtf.Dimension]:
  """The dimensions that a gate gains where a mesh splits its matrix.

  Each device then has a gate of its own, for its own part of the matrix. It is
  made from the device's own copy of what all have (`copies`), so that what
  comes back from the devices is one sum, of the kind that the plain product
  makes, and can be added to that before either is sent.

  Args:
    fan_in: of the gated matrix.
    fan_out: of the gated matrix.
    ways: a function of a Dimension: into how many shards the mesh splits it.

  Returns:
    dimensions of one element a shard, named as the side of the matrix; empty
    where nothing is split
  """
  return [
    mtf.Dimension(d.name, ways(d)) for d in (fan_in, fan_out) if ways(d) > 1
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
  """Gives each device those cells of a side that lie in its own shard.

  Where there are more shards than cells, neighbours share a cell.

  Args:
    vector: [..., grid_dim].
    grid_dim: grid_rows or grid_cols.
    dim: the side of the matrix: fan-in for rows, fan-out for columns.
    shards: from `shard_dims`.

  Returns:
    [*shards, ..., cells of one shard], the last dimension of grid_dim's name
  """
  vector = copies(vector, shards)
  shard = next((d for d in shards if d.name == dim.name), None)
  if shard is None:
    return vector
  cells = math.lcm(grid_dim.size, shard.size)
  local = mtf.Dimension(grid_dim.name, cells // shard.size)
  # Another name, for the two are in one tensor for a moment.
  whole = mtf.Dimension("all_" + grid_dim.name, grid_dim.size)
  vector = mtf.replace_dimensions(vector, grid_dim, whole)
  number = mtf.range(vector.mesh, shard, tf.int32) * local.size
  number += mtf.range(vector.mesh, local, tf.int32)  # of [shard, local]
  old = mtf.floordiv(number, cells // grid_dim.size)
  which = mtf.one_hot(old, whole, dtype=vector.dtype)  # [shard, local, whole]
  dims = [d for d in vector.shape.dims if d != whole] + [local]
  return mtf.einsum([vector, which], output_shape=dims)
