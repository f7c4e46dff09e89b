"""The choice of the order."""

import dataclasses
import math
import types

import mesh_tensorflow as mtf

from hypergrid_mtf.product import cost
from tests.hypergrid_mtf import mtf_testing

T5_BASE = cost.Sizes(
  gates=4, tokens=512, fan_in=3072, fan_out=768, rows=16, cols=16
)
PACKED = dict(gates=2048, tokens=1)
# A gated wi has as many rows, and the shapes are turned around.
WI = dict(fan_in=768, fan_out=3072)


def test_the_cheapest_order_in_training_and_evaluation():
  for changes, want in (
    ({}, "weights"),
    (PACKED, "rows"),
    ({**PACKED, **WI}, "cols"),
    # Gates of rows alone scale h; of columns alone, y.
    ({**PACKED, "cols": 1}, "cols"),
    ({**PACKED, "rows": 1}, "rows"),
    ({"gates": 1, "tokens": 2048}, "weights"),  # one gate for all
  ):
    sizes = dataclasses.replace(T5_BASE, **changes)
    orders = [o for o in cost.ORDERS if o != "weights" or sizes.tokens > 1]
    for train in (False, True):
      for on_tpu in (False, True):
        assert cost.cheapest(orders, sizes, train, on_tpu) == want, changes


def test_the_cheapest_order_of_decoding():
  # A token each: W is what is copied, until the products are larger.
  for gates, rows, of_cpu, of_tpu in (
    (32, 8, "rows", "slices"),
    (32, 16, "rows", "cols"),  # of 192, no whole lanes
    (384, 8, "rows", "slices"),
    (385, 8, "rows", "cols"),
  ):
    sizes = dataclasses.replace(T5_BASE, gates=gates, tokens=1, rows=rows)
    for on_tpu, want in ((False, of_cpu), (True, of_tpu)):
      orders = cost.candidates(sizes, packed=False, train=False, on_tpu=on_tpu)
      assert cost.cheapest(orders, sizes, False, on_tpu) == want, gates


def test_a_tpus_forward_pass_merges_short_sequences():
  for tokens, want in (
    (16, "merged"),
    (64, "merged"),
    (96, "weights"),
    (512, "weights"),
  ):
    sizes = dataclasses.replace(T5_BASE, gates=4096 // tokens, tokens=tokens)
    orders = cost.candidates(sizes, packed=False, train=False, on_tpu=True)
    assert cost.cheapest(orders, sizes, False, on_tpu=True) == want, tokens
    rows_alone = dataclasses.replace(sizes, cols=1)
    assert cost.candidates(rows_alone, False, False, True) == ["scaled"]
    assert cost.candidates(rows_alone, False, True, True) == ["cols"]


def test_a_tpu_scales_what_a_gate_of_one_side_scales():
  for changes, want in (
    ({"cols": 1}, "cols"),
    ({"cols": 1, **WI}, "cols"),
    ({"rows": 1}, "plain"),
    ({"rows": 1, **WI}, "weights"),
    ({**PACKED, "cols": 1}, "cols"),
    ({**PACKED, "rows": 1}, "plain"),
    ({**PACKED, "rows": 1, **WI}, "plain"),
    (PACKED, "rows"),
    ({}, "weights"),
  ):
    sizes = dataclasses.replace(T5_BASE, **changes)
    packed = sizes.tokens == 1
    for on_tpu in (False, True):
      orders = cost.candidates(sizes, packed, True, on_tpu)
      assert ("weights" in orders) <= (not packed)
      chosen = cost.cheapest(orders, sizes, True, on_tpu)
      assert chosen == want if on_tpu else chosen in cost.ORDERS, changes


def test_a_tpus_decoder_gates_wo_for_each_sequence():
  sizes = dataclasses.replace(T5_BASE, gates=8, tokens=114)
  orders = cost.candidates(sizes, packed=False, train=True, on_tpu=True)
  assert cost.cheapest(orders, sizes, True, on_tpu=True) == "weights"


def test_a_tpu_takes_slices_where_what_they_keep_is_no_larger_than_h():
  shard = dataclasses.replace(T5_BASE, fan_in=8192, fan_out=1024, rows=2)
  base = dataclasses.replace(T5_BASE, gates=4096, tokens=1, rows=4)
  for sizes, train, on_tpu, want in (
    (dataclasses.replace(shard, gates=1024, tokens=1), True, True, "slices"),
    (dataclasses.replace(shard, gates=1024, tokens=1), False, True, "slices"),
    (dataclasses.replace(shard, gates=1024, tokens=1), True, False, "rows"),
    (dataclasses.replace(shard, gates=2, tokens=512), True, True, "slices"),
    (dataclasses.replace(shard, gates=2, tokens=512), False, True, "weights"),
    (base, True, True, "slices"),
    (dataclasses.replace(base, gates=8, tokens=512), True, True, "slices"),
    (dataclasses.replace(base, rows=8), True, True, "rows"),
    (dataclasses.replace(base, rows=16), True, True, "rows"),
  ):
    orders = cost.candidates(sizes, sizes.tokens == 1, train, on_tpu)
    assert cost.cheapest(orders, sizes, train, on_tpu) == want, sizes


def test_elements_are_those_of_the_table():
  count = {k: cost.elements(k, T5_BASE) for k in cost.CHOICES if k != "auto"}
  assert count == {
    "plain": 2048 * 16 * 768,
    "weights": 4 * 3072 * 768,
    "rows": 2048 * 16 * 768,
    "cols": 2048 * 16 * 3072,
    "slices": 2048 * 16 * 768,
  }


def test_a_tpu_gates_the_kernel_once_if_all_examples_share_the_gate():
  where = types.SimpleNamespace(
    on_tpu=True,
    train=True,
    local_size=lambda dims: math.prod(d.size for d in dims),
  )
  mesh = mtf_testing.mesh(mtf.Graph())
  batch, length = mtf.Dimension("batch", 8), mtf.Dimension("length", 512)
  kernel = [mtf.Dimension("d_ff", 3072), mtf.Dimension("d_model", 768)]
  grid = [mtf.Dimension("grid_rows", 16), mtf.Dimension("grid_cols", 16)]
  for tokens, own, want in (
    ([batch, length], [], "once"),
    ([batch], [], "weights"),  # a decoding step
    ([batch, length], [batch], "weights"),
    ([batch, length], [batch, length], "rows"),
  ):
    gate = mtf.zeros(mesh, mtf.Shape([*own, *grid]))
    h_dims = [*tokens, kernel[0]]
    assert cost.choose("auto", h_dims, kernel, gate, where) == want, own
