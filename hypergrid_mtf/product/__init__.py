"""Computes y = h (psi(G) * W), in the best order for the device.

`gated` is the entry point: a reader of the layer may stop here. `plain` is the
equation in Mesh TensorFlow's own operations. Three more orders give the same y
without holding all intermediate values at once: `cpu` works in steps, `tpu`
keeps them on the chip. `cost` chooses an order, and `on_mesh` runs it on each
device's slices.
"""

import math

import mesh_tensorflow as mtf

from hypergrid_mtf.product import cost, cpu, on_mesh, tpu
from hypergrid_mtf.product.on_mesh import Where

__all__ = ["Where", "cost", "cpu", "gated", "on_mesh", "plain", "tpu"]


def gated(
  h: mtf.Tensor, kernel: mtf.Tensor, gate: mtf.Tensor, order: str, where: Where
) -> mtf.Tensor:
  """y = h (psi(G) * W), in one of several orders, all equal.

  Args:
    h: [..., fan_in], dimensions in any order.
    kernel: W, [(ensemble,) fan_in, fan_out].
    gate: G, [..., grid_rows, grid_cols], or without one of the two (a gate of
      only rows or only columns). Its leading dimensions are some of those of h
      and, if a mesh splits W, those of `on_mesh.shard_dims`; its cells are then
      those of one shard.
    order: one of cost.CHOICES.
    where: the graph.

  Returns:
    y, [..., fan_out]

  Raises:
    UserError: for the order "weights" if every token has its own gate.
  """
  kernel_dims = kernel.shape.dims
  order = cost.choose(order, h.shape.dims, kernel_dims, gate, where)
  if order == "plain":
    return plain(h, kernel, gate)
  orders = tpu if where.on_tpu else cpu
  ensemble, gates, tokens = orders.split_dims(h.shape.dims, kernel_dims, gate)
  fan_in, fan_out = kernel_dims[-2:]
  sides = [d for d in gate.shape.dims if d.name in ("grid_rows", "grid_cols")]
  sides.sort(key=lambda d: d.name, reverse=True)
  shards = on_mesh.shard_dims(fan_in, fan_out, where)
  h_dims = orders.h_layout(order, ensemble, gates, tokens, fan_in)
  own = [] if order == "once" else gates
  own = own + [d for d in gate.shape.dims if d.name == tpu.SEQUENCES]
  return on_mesh.operation(
    lambda *xs: orders.product(order, *xs),
    lambda *xs: orders.gradients(order, *xs),
    [
      on_mesh.reorder(h, h_dims),
      kernel,
      on_mesh.reorder(gate, ensemble + own + shards + sides),
    ],
    orders.shapes(
      order,
      cost.sizes_of(gates, tokens, kernel_dims, gate, where),
      # The tokens of a sequence, which a TPU puts in its lanes.
      where.local_size(orders.positions(order, h_dims, fan_in)),
    ),
    ensemble + gates + tokens + [fan_out],
    where,
    name="hypergrid_product",
  )


def plain(h: mtf.Tensor, kernel: mtf.Tensor, gate: mtf.Tensor) -> mtf.Tensor:
  """y = h (psi(G) * W) as written: a sum over the regions of W.

      p[r, c] = h[r] W[r, c],  y[c] = sum over r of p[r, c] G[r, c]

  where h[r], W[r, c] and y[c] are the parts of one region. psi(G) is never
  built: instead of repeating a cell, a region is multiplied by it. Arguments
  and result as in `gated`.
  """
  *ensemble, fan_in, fan_out = kernel.shape.dims
  *leading, _ = h.shape.dims
  *rows, row_cell = _grid_dims(gate, "grid_rows", fan_in)
  *cols, col_cell = _grid_dims(gate, "grid_cols", fan_out)
  # Below, rows and cols are [(shard,) grid_rows] and [(shard,) grid_cols].
  h = mtf.reshape(h, [*leading, *rows, row_cell])
  kernel = mtf.reshape(kernel, [*ensemble, *rows, row_cell, *cols, col_cell])
  p = mtf.einsum([h, kernel], [*leading, *rows, *cols, col_cell])
  y = mtf.einsum([p, gate], [*leading, *cols, col_cell])
  return mtf.reshape(y, [*leading, fan_out])


def _grid_dims(gate, side, dim):
  """One side of W as dimensions: (shard,) (grid cell,) position in the cell."""
  by_name = {d.name: d for d in gate.shape.dims}
  dims = [by_name[name] for name in (dim.name, side) if name in by_name]
  size = dim.size // math.prod(d.size for d in dims)
  return [*dims, mtf.Dimension(f"{side}_cell", size)]
