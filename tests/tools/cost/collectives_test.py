"""Counts of what is sent, against the operations of the lowered graph."""

import dataclasses
import json

import mesh_tensorflow as mtf
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from tests import program
from tools.cost import collectives, counting_mesh, flops, models

FLOAT32, BFLOAT16 = 4, 2
# One layer of one size, so that a step lowers in seconds.
SMALL = collectives.Step(
  size="micro",
  mesh_shape="model:2,batch:2",
  batch=8,
  inputs=16,
  targets=8,
  packed=False,
  bindings=("num_layers = 1",),
)


def _lower(build, mesh_shape="model:4,batch:2", layout="x:model,y:batch"):
  """Lowers one tensor on a counting mesh.

  Args:
    build: a function of an mtf.Mesh, returning an mtf.Tensor.
    mesh_shape: as in Step.
    layout: as in Step.

  Returns:
    (CountingMeshImpl, mtf.Lowering)
  """
  with tf.Graph().as_default():
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    out = build(mesh)
    impl = counting_mesh.CountingMeshImpl(mesh_shape, layout)
    lowering = mtf.Lowering(graph, {mesh: impl})
    lowering.tensors[out].to_laid_out_tensor()  # a lazy sum is made now
    return impl, lowering


def _ones(mesh, dtype=tf.float32, **dims):
  shape = mtf.Shape([mtf.Dimension(n, s) for n, s in dims.items()])
  return mtf.ones(mesh, shape, dtype)


def _sum_over(name, dtype):
  def build(mesh):
    x = _ones(mesh, dtype, x=8, y=6, z=5)
    return mtf.reduce_sum(x, reduced_dim=x.shape.get_dim_by_name(name))

  return build


@pytest.mark.parametrize(
  ("build", "want"),
  [
    # A device keeps y: 3 of 6, and z: 5.
    (_sum_over("x", tf.float32), {("allreduce", "model"): [1, 15 * FLOAT32]}),
    (_sum_over("x", tf.bfloat16), {("allreduce", "model"): [1, 15 * BFLOAT16]}),
    # Integers are sent as float32.
    (_sum_over("x", tf.int32), {("allreduce", "model"): [1, 15 * FLOAT32]}),
    (_sum_over("y", tf.float32), {("allreduce", "batch"): [1, 10 * FLOAT32]}),
    (_sum_over("z", tf.float32), {}),
    (
      lambda m: mtf.reduce_sum(_ones(m, x=8, y=6)),
      {("allreduce", "model+batch"): [1, FLOAT32]},
    ),
    # A maximum gathers one value of each of the four devices.
    (
      lambda m: mtf.reduce_max(
        _ones(m, x=8, z=5), reduced_dim=mtf.Dimension("x", 8)
      ),
      {("reduce", "model"): [1, 4 * 5 * FLOAT32]},
    ),
    (
      lambda m: mtf.rename_dimension(_ones(m, x=8, z=5), "x", "w"),
      {("allconcat", "model"): [1, 8 * 5 * FLOAT32]},
    ),
    # A sum over one axis that was put off until the other is concatenated.
    (
      lambda m: mtf.rename_dimension(
        mtf.reduce_sum(_ones(m, x=8, y=6), reduced_dim=mtf.Dimension("y", 6)),
        "x",
        "w",
      ),
      {
        ("allreduce", "batch"): [1, 2 * FLOAT32],
        ("allconcat", "model"): [1, 8 * FLOAT32],
      },
    ),
    # The implementation sends float32 as bfloat16 here.
    (
      lambda m: mtf.reshape(
        _ones(m, x=8, z=8), [mtf.Dimension("w", 8), mtf.Dimension("x", 8)]
      ),
      {("alltoall", "model"): [1, 2 * 8 * BFLOAT16]},
    ),
    (
      lambda m: mtf.shift(
        _ones(m, x=8, z=5), 2, mtf.Dimension("x", 8), wrap=True
      ),
      {("permute", "model"): [1, 2 * 5 * FLOAT32]},
    ),
    # Random numbers are made the same wherever a tensor is replicated.
    (
      lambda m: mtf.random_uniform(m, [mtf.Dimension("x", 8)]),
      {("random", "batch"): [1, 2 * FLOAT32]},
    ),
  ],
)
def test_every_kind_is_counted_in_bytes_as_sent(build, want):
  impl, _ = _lower(build)
  assert impl.sent == want


def test_a_large_group_sends_bfloat16_as_float32():
  def build(mesh):
    x = _ones(mesh, tf.bfloat16, x=16, z=5)
    return mtf.reduce_sum(x, reduced_dim=mtf.Dimension("x", 16))

  impl, _ = _lower(build, "model:16")
  assert impl.sent == {("allreduce", "model"): [1, 5 * FLOAT32]}


def test_an_axis_of_one_device_sends_nothing():
  impl, _ = _lower(_sum_over("x", tf.float32), "model:1,batch:2")
  assert impl.sent == {}


def test_what_mesh_tensorflow_counts_itself_is_elements_of_all_devices():
  impl, lowering = _lower(_sum_over("x", tf.bfloat16))
  counted = dict(lowering.counters)["allreduce/[0]/reduce_op"]
  assert counted * BFLOAT16 == impl.sent["allreduce", "model"][1] * impl.size


@pytest.fixture(scope="module")
def steps():
  """Counts of one small step: {name: from `count`}."""
  whole = ("num_layers = 1", _microbatches(None))
  split = ("num_layers = 1", _microbatches(32))  # 2 of the 4 rows of a device
  cases = {
    "vanilla": ("vanilla", dict(bindings=whole)),
    "L2": ("L2", dict(bindings=whole)),
    "packed": ("L2", dict(bindings=whole, packed=True)),
    "split": ("vanilla", dict(bindings=split)),
    "no mesh": ("vanilla", dict(bindings=whole, mesh_shape="all:1")),
  }
  return {
    name: collectives.count(
      dataclasses.replace(SMALL, **changes), models.Setting(variant)
    )
    for name, (variant, changes) in cases.items()
  }


def _microbatches(tokens):
  name = "utils.serialize_num_microbatches.tokens_per_microbatch_per_replica"
  return f"{name} = {tokens}"


def _sent(result, kind, axis):
  found = {(c["kind"], c["axis"]): c for c in result["collectives"]}
  return found[kind, axis]


def _between_replicas(result):
  """Bytes of sums over the batch axis, alone or with the other."""
  return sum(
    c["bytes"]
    for c in result["collectives"]
    if c["kind"] == "allreduce" and "batch" in c["axis"]
  )


def test_a_step_sums_activations_and_gradients(steps):
  d_model, targets, rows = 64, SMALL.targets, SMALL.batch // 2
  activation = rows * d_model * FLOAT32
  # Forward: embedding (each stack), attentions, feed-forward; backward as many,
  # and less for what is summed before it is sent.
  most = 2 * (3 * SMALL.inputs + 4 * targets) * activation
  found = _sent(steps["vanilla"], "allreduce", "model")["bytes"]
  assert 0.7 * most < found < 1.3 * most
  parameters = 2 * (4 * d_model * 64 // 2) + d_model * 256
  assert _sent(steps["vanilla"], "allreduce", "batch")["bytes"] > (
    parameters * FLOAT32
  )
  assert steps["no mesh"]["collectives"] == []


def test_hypergrid_sends_its_gradients_too(steps):
  vanilla, gated = steps["vanilla"], steps["L2"]
  # Where `wo` is split, a map's gradient is a sum over both axes at once.
  more = _between_replicas(gated) - _between_replicas(vanilla)
  # Two maps of [d_model, 16] in each of two layers, and little else.
  maps = 2 * 2 * 64 * 16 * FLOAT32
  assert maps <= more < 2 * maps
  frame = collectives.compare_with_vanilla(
    {"vanilla": vanilla, "L2": gated, "packed": steps["packed"]}
  )
  assert frame.loc["vanilla", "allreduce %"] == 0
  assert frame.loc["L2", "allreduce %"] > 0
  assert list(collectives.to_text(frame).iloc[:, 0]) == list(frame.index)


def test_a_loop_counts_as_often_as_it_runs(steps):
  whole, split = steps["vanilla"], steps["split"]
  assert (whole["microbatches"], split["microbatches"]) == (1, 2)
  # The choice of a microbatch is a small product too.
  assert split["matmul_flops"] == pytest.approx(whole["matmul_flops"], rel=1e-3)
  a = _sent(whole, "allreduce", "model")["bytes"]
  b = _sent(split, "allreduce", "model")["bytes"]
  assert a <= b < 1.05 * a  # the same activations, and some scalars twice
  devices = 4
  assert steps["no mesh"]["matmul_flops"] <= devices * whole["matmul_flops"]
  assert whole["matmul_flops"] < steps["no mesh"]["matmul_flops"]


def test_matrix_products_are_counted():
  def build(mesh):
    a, b = _ones(mesh, x=8, y=6), _ones(mesh, x=8, z=5)
    return mtf.einsum([a, b], reduced_dims=[mtf.Dimension("x", 8)])

  impl, lowering = _lower(build)
  graph = lowering.tensors[lowering.graph.operations[-1].outputs[0]]
  operations = graph.to_laid_out_tensor().one_slice.graph.get_operations()
  total = sum(flops.of_operation(op) for op in operations)
  assert total == 2 * (8 // 4) * (6 // 2) * 5


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      dict(mesh_shape="model:2,batch"),
      "--mesh_shape=model:2,batch is not a mesh: give AXIS:SIZE",
    ),
    (dict(mesh_shape="model=2"), "--mesh_shape=model=2 is not a mesh"),
    (dict(mesh_shape="model:0"), "is not a mesh"),
    (dict(mesh_shape="model:2,model:2"), "is not a mesh"),
    (dict(mesh_shape=""), "--mesh_shape= is empty"),
    (dict(layout="batch"), "--layout=batch is not a layout"),
    (
      dict(mesh_shape="modle:2"),
      "names the axis modle, so its 2 devices would all do the same work .did "
      "you mean model",
    ),
    (
      dict(mesh_shape="ensemble:2"),
      "--mesh_shape=ensemble:2: the axis ensemble splits nothing",
    ),
    (
      dict(layout="d_ff:model,d_ff:batch"),
      "splits d_ff over two axes of the mesh",
    ),
    (
      dict(layout="d_ff:model,d_model:model,batch:batch"),
      "splits both .* of .*/kernel .* over the axis model",
    ),
    (
      dict(batch=7),
      "--batch=7 does not divide among the 2 devices of the axis batch "
      ".--mesh_shape=model:2,batch:2.: give a multiple of 2",
    ),
    (dict(mesh_shape="model:8"), "heads = 4 .* 8 .* axis model"),
    (
      dict(
        bindings=(
          "serialize_num_microbatches.tokens_per_microbatch_per_replica = 'x'",
        )
      ),
      "tokens_per_microbatch_per_replica = 'x' is not a number",
    ),
    (dict(inputs=0), "--inputs=0 is not a size"),
    (dict(size="giant"), "--size=giant is unknown"),
    (dict(bindings=("num_layers",)), '--gin_param="num_layers" is wrong'),
  ],
)
def test_a_step_that_cannot_be_is_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    collectives.check(dataclasses.replace(SMALL, **changes), models.Setting())


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(variants=["L3"]), "--variants=L3"),
    (dict(variants=["L2"], grids=["16"]), "--grids=16 is not a grid"),
    (dict(variants=["L2"], stacks=["left"]), "--stacks=left"),
  ],
)
def test_unknown_models_are_refused(arguments, message):
  with pytest.raises(errors.UserError, match=message):
    models.settings(**arguments)


def test_a_grid_that_does_not_divide_is_refused():
  setting = models.Setting("L2", 5, 16)
  with pytest.raises(errors.UserError, match="grid_rows = 5 .* d_ff = 256"):
    collectives.check(SMALL, setting)


def test_every_combination_has_a_name_of_its_own():
  compared = models.settings(
    ["vanilla", "L2", "row"],
    grids=["4x4", "8x8"],
    stacks=["both", "decoder"],
    kernels=["wo", "wi"],
  )
  names = [m.words for m in compared]
  assert names[0] == "vanilla" and len(set(names)) == len(names) == 17
  assert "row wi 8x8 decoder only" in names


def test_the_command_prints_a_table_and_writes_json(
  tmp_path, monkeypatch, capsys
):
  output = tmp_path / "sent.json"
  flags = "--size=micro --mesh_shape=model:2 --batch=2 --inputs=8 --targets=4"
  flags = [*flags.split(), "--gin_param=num_layers = 1", "--variants=L2"]

  def run(*more):
    program.run("tools.collectives", [*flags, *more], monkeypatch)
    return capsys.readouterr().out

  said = run(f"--output={output}")
  assert said.splitlines()[2].split()[0] == "L2"
  written = json.loads(output.read_text())
  assert list(written["models"]) == ["vanilla", "L2"]
  assert written["step"]["mesh_shape"] == "model:2"
  with pytest.raises(errors.UserError, match="grid_rows = 3"):
    run("--grids=3x3")
