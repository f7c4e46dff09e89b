"""A TPU's program on virtual CPU devices: what it computes, what it sends."""

import json

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow import simd_mesh_impl

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
from tests import program as programs
from tests.tools.conftest import CORES
from tools.cost.tpu import client, edges, hlo, sent
from tools.dev import tpu_execute

NAME = "tools.dev.tpu_execute"
LIMIT = 1e-4  # of a difference beside the largest value, in float32
NANO = ("--size=nano", "--grids=4x4", "--packed", "--inputs=16", "--targets=8")
# The mesh's devices in another order than the cores: by pairs from the end.
LOGICAL_TO_PHYSICAL = [6, 7, 4, 5, 2, 3, 0, 1]


def _every_collective(path) -> tuple[dict, np.ndarray, list[np.ndarray]]:
  """A program that has all of them: written, its argument, what it gives."""
  length, rows, columns = (
    mtf.Dimension(*d) for d in (("length", 8), ("rows", 4), ("columns", 6))
  )
  # Small, because an all-to-all of float32 is sent as bfloat16.
  value = np.random.default_rng(0).integers(-99, 99, (8, 4, 6)) * 1.0
  value = value.astype(np.float32)
  mesh = mtf.Mesh(mtf.Graph(), "mesh")
  slices = edges.Slices()
  with tf.Graph().as_default() as graph, edges.patched(CORES, slices):
    given = tf.placeholder(tf.float32, value.shape, name="x")
    x = mtf.import_fully_replicated(mesh, given, [length, rows, columns])
    # The part of a device: from 2 of the rows to 3 of the columns (all-to-all).
    y = mtf.reshape(
      x, [length, mtf.Dimension("all", 4), mtf.Dimension("part", 6)]
    )
    # From the neighbours along the length, of which a device has 2 (permute).
    y = mtf.shift(y, 3, length, wrap=False)
    total = mtf.reduce_sum(y, reduced_dim=length)  # (all-reduce)
    outputs = [  # whole on every device, by sums
      mtf.reshape(
        t, [mtf.Dimension(f"whole_{d.name}", d.size) for d in t.shape]
      )
      for t in (y, total)
    ]
    impl = simd_mesh_impl.SimdMeshImpl(
      "model:2,batch:4",
      "rows:model,part:model,length:batch",
      logical_to_physical=LOGICAL_TO_PHYSICAL,
    )
    lowering = mtf.Lowering(mesh.graph, {mesh: impl})
    results = [lowering.export_to_tf_tensor(t) for t in outputs]
    hlo.write(graph, [(given, {})], results, path)
  shifted = np.concatenate([np.zeros_like(value[:3]), value[:-3]])
  written = {
    "arguments": [{"kind": "feature", "name": "x"}],
    "results": [{"kind": "output", "name": n} for n in ("y", "total")],
    "replicas": 8,
    "cores": CORES,
    "mesh": [["model", 2], ["batch", 4]],
    "logical": np.argsort(LOGICAL_TO_PHYSICAL).tolist(),
    "loop": 1,
  }
  return written, value, [shifted, shifted.sum(0)]


PART = 2 * 4 * 3  # numbers that a device has of y
SENT = {
  "all-to-all": {"model": 2 * PART},
  # One place of the length from the next device, and one from that after it.
  "collective-permute": {"batch": 4 * PART // 2 * 2},
}


def test_what_a_program_sends_is_counted(tmp_path):
  path = str(tmp_path / "program.hlo")
  written, *_ = _every_collective(path)
  found = sent.count_by_axis(path, written)
  # The sum over the length; both results made whole along both axes, or one.
  assert found.pop("all-reduce").keys() == {"batch", "model"}
  assert found == SENT


def test_a_loop_sends_as_often_as_it_runs(tmp_path):
  path = str(tmp_path / "program.hlo")
  mesh = mtf.Mesh(mtf.Graph(), "mesh")
  with tf.Graph().as_default() as graph, edges.patched(CORES, edges.Slices()):
    given = tf.placeholder(tf.float32, [8, 4], name="x")
    x = mtf.import_fully_replicated(
      mesh, given, [mtf.Dimension("rows", 8), mtf.Dimension("columns", 4)]
    )

    def body(i, total):
      row_sum = mtf.reduce_sum(x, reduced_dim=x.shape.dims[0])
      return [i + 1, total + row_sum]

    _, total = mtf.while_loop(
      lambda i, _: mtf.less(i, 3),
      body,
      [
        mtf.zeros(mesh, [], tf.int32),
        mtf.zeros(mesh, x.shape.dims[1:], tf.float32),
      ],
    )
    impl = simd_mesh_impl.SimdMeshImpl("model:2,batch:4", "rows:batch")
    edges._number(impl)
    lowering = mtf.Lowering(mesh.graph, {mesh: impl})
    result = lowering.export_to_tf_tensor(total)
    hlo.write(graph, [(given, {})], [result], path)
  written = {
    "mesh": [["model", 2], ["batch", 4]],
    "logical": list(impl._physical_to_logical),
    "loop": 3,
  }
  assert sent.count_by_axis(path, written) == {
    "all-reduce": {"batch": 3 * 4 * 4}
  }


def test_differences_are_beside_the_largest_value():
  one = {"loss": np.float32(2.0), "a": np.array([4.0, 1.0]), "b": np.zeros(2)}
  other = {**one, "a": np.array([4.0, 1.5]), "b": np.array([0.0, 0.25])}
  found = tpu_execute.compare(one, other)
  assert found == {
    "loss": 2.0,
    "loss_error": 0.0,
    "error": 0.25,
    "worst": "b",
    "median_error": (0.5 / 4.0 + 0.25) / 2,
    "variables": 2,
    "changed": 2,
  }
  assert (
    tpu_execute.compare(one, {**one, "b": np.full(2, np.nan)})["error"] > 1e9
  )
  with pytest.raises(ValueError, match="not in both: \\['b'\\]"):
    tpu_execute.compare(one, {k: v for k, v in one.items() if k != "b"})


@pytest.mark.tpu
def test_every_collective_is_translated(tpu_compiler, tmp_path):
  """Executed, against NumPy; and compiled for a TPU."""
  path, values = str(tmp_path / "program.hlo"), str(tmp_path / "values.npz")
  written, value, want = _every_collective(path)
  np.savez(values, **{"0": np.stack([value] * 8)})
  client.execute(written, path, values)
  with np.load(values) as results:
    for i, right in enumerate(want):
      for replica in results[str(i)]:
        np.testing.assert_array_equal(replica, right)
  found = client.compile_program("v3:2x2", written, path)
  for kind, of_kind in SENT.items():
    assert found["collectives"][kind]["bytes"] == sum(of_kind.values())
  assert found["collectives"]["all-reduce"]["bytes"] > 0


def _check(records, largest=LIMIT):
  for record in records:
    assert record["loss_error"] <= LIMIT, record
    assert record["error"] <= largest, record
    assert record["median_error"] <= LIMIT, record
    assert record["spread"] <= LIMIT, record
    # The rest would say nothing.
    assert record["changed"] == record["variables"] > 50, record
    assert record["sent"].keys() == {"all-reduce"}, record


@pytest.mark.tpu
def test_a_mesh_computes_what_one_core_computes(
  tpu_compiler, tmp_path, monkeypatch, capsys
):
  """Packed L2 beside vanilla, in one microbatch and in two."""
  output = tmp_path / "execution.json"
  flags = [*NANO, "--variants=L2", "--microbatches=1,2", f"--output={output}"]
  assert programs.run(NAME, flags, monkeypatch) is None
  records = json.loads(output.read_text())
  assert [(r["model"], r["microbatches"]) for r in records] == [
    ("vanilla", 1),
    ("vanilla", 2),
    ("L2-4x4", 1),
    ("L2-4x4", 2),
  ]
  _check(records)
  assert "largest error" in capsys.readouterr().out


@pytest.mark.slow
def test_every_variant_on_a_mesh(tpu_compiler, tmp_path, monkeypatch):
  """Of `tiny`, either matrix gated (docs/dev/tpu_compiler.md)."""
  flags = ["--size=tiny", "--packed", "--gated_kernel=wo,wi"]
  output = tmp_path / "execution.json"
  flags += ["--microbatches=1,2", f"--output={output}"]
  assert programs.run(NAME, flags, monkeypatch) is None
  records = json.loads(output.read_text())
  assert len(records) == 2 * (1 + 2 * 6)
  print(tpu_execute.table_of(records).to_string(index=False))
  # Among so many hidden units one may be within rounding of zero, and then the
  # kind of CPU says on which side of relu it is.
  _check(records, largest=1e-2)
