"""The TPU's compiler: its input and its answers."""

import json
import re

import pytest
from google.protobuf import text_format
from tensorflow.compiler.xla.service import hlo_pb2

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
from hypergrid_mtf import errors
from tests import program as programs
from tools.cost.tpu import client, compiled

NAME = "tools.tpu_compile"
NANO = (
  "--size=nano",
  "--variant=L2",
  "--grid=4x4",
  "--packed",
  "--inputs=16",
  "--targets=8",
)
POD = ("--topology=v3:2x2", "--mesh_shape=model:2,batch:4")
# Two microbatches of 16 tokens.
TWO = "utils.serialize_num_microbatches.tokens_per_microbatch_per_replica = 16"

# What the compiler writes, less all else: a loop that runs twice, a fusion.
TEXT = r"""
entry_computation_id: 4
computations { id: 1 instructions { opcode: "convolution" } }
computations { id: 2
  instructions { id: 1 opcode: "fusion" called_computation_ids: 1
    shape { element_type: BF16 dimensions: 8 dimensions: 2 }
    metadata { op_name: "while_loop/hypergrid/einsum" }
    backend_config: "{\"estimated_cycles\":\"100\"}" }
  instructions { id: 2 opcode: "copy"
    shape { element_type: F32 dimensions: 4 }
    backend_config: "{\"estimated_cycles\":\"7\"}" }
  instructions { id: 3 opcode: "all-reduce-start"
    shape { element_type: TUPLE tuple_shapes { element_type: PRED } }
    operand_ids: 1 operand_ids: 2 called_computation_ids: 1 }
  instructions { id: 4 opcode: "all-reduce-done" operand_ids: 3 }
}
computations { id: 3 instructions { opcode: "compare" } }
computations { id: 4
  instructions { id: 5 opcode: "while"
    called_computation_ids: 2 called_computation_ids: 3
    metadata { op_name: "while_loop/while" } }
  instructions { id: 6 opcode: "copy"
    backend_config: "{\"estimated_cycles\":\"5\"}" }
}
"""


def test_what_a_loop_does_counts_as_often_as_it_runs():
  module = text_format.Parse(TEXT, hlo_pb2.HloModuleProto())
  found = compiled.costs(module, loop=2)
  assert found["instructions"] == 3
  assert found["cycles"] == 2 * (100 + 7) + 5
  assert found["cycles_by_kind"] == {"matrix product": 200, "copy": 19}
  assert found["cycles_by_scope"] == {"hypergrid": 200, "other": 19}
  assert found["loop_cycles"] == 100 + 7
  # 16 numbers of two bytes and 4 of four, twice.
  assert found["collectives"] == {"all-reduce": {"count": 2, "bytes": 96}}
  assert found["loops"] == {"mtf": 1, "other": 0}


@pytest.mark.tpu
def test_a_topology_that_does_not_exist(tpu_compiler):
  with pytest.raises(errors.UserError, match="--topology=v9:2x2 is unknown"):
    client.cores("v9:2x2")


@pytest.mark.tpu
def test_a_packed_step_of_microbatches_compiles_for_eight_cores(
  tpu_compiler, tmp_path, monkeypatch, capsys
):
  output = tmp_path / "estimate.json"
  flags = [*NANO, *POD, f"--gin_param={TWO}", f"--output={output}"]
  programs.run(NAME, flags, monkeypatch)
  said = capsys.readouterr().out
  report = json.loads(output.read_text())
  cycles = report["estimate"]["cycles"]
  assert re.search(rf"^million cycles +{cycles / 1e6:.3f}$", said, re.M)
  assert report["program"]["replicas"] == 8
  assert report["program"]["loop"] == 2
  found = report["estimate"]
  assert found["compiles"] and found["loops"]["mtf"] == 1
  assert 0 < found["cycles_by_scope"]["hypergrid"] < found["cycles"]
  # The compiler sends them together, but neither more nor less of them.
  assert found["collectives"].keys() == report["sent"].keys() == {"all-reduce"}
  wanted = sum(report["sent"]["all-reduce"].values())
  assert found["collectives"]["all-reduce"]["bytes"] == wanted
  # Updated variables take the place of the old ones.
  assert found["memory"]["aliased"] > 0.9 * found["memory"]["outputs"]


def test_hypergrid_sends_little_more_and_nothing_else(
  described_tpu, monkeypatch, tmp_path, capsys
):
  """Of one step, which is not compiled: what goes along which axis."""
  output = tmp_path / "sent.json"
  flags = ["--size=micro", "--variant=L2", "--inputs=16", "--targets=8"]
  flags += ["--gin_param=num_layers = 1", "--activation_dtype=float32"]
  flags += [*POD, "--nocompile", "--beside_vanilla", f"--output={output}"]
  programs.run(NAME, flags, monkeypatch)
  said = capsys.readouterr().out
  report = json.loads(output.read_text())
  (gated,), (vanilla,) = (
    r["sent"].values() for r in (report, report["vanilla"])
  )
  assert gated.keys() >= vanilla.keys() >= {"model", "batch"}
  along = gated["model"], vanilla["model"], gated["model"] / vanilla["model"]
  (row,) = [ln for ln in said.splitlines() if "all-reduce along model " in ln]
  assert [float(n) for n in row.split()[-3:]] == pytest.approx(
    [along[0] / 1e6, along[1] / 1e6, along[2]], abs=1e-3
  )
  float32, d_model = 4, 64
  # Forward: embedding (each stack), attentions, feed-forward; backward as many,
  # and less for what is summed before it is sent.
  activation = 8 // 4 * d_model * float32
  most = 2 * (3 * 16 + 4 * 8) * activation
  assert 0.7 * most < vanilla["model"] < 1.3 * most
  parameters = 2 * (4 * d_model * 64 // 2) + d_model * 256
  assert vanilla["batch"] > parameters * float32
  # Two maps of [d_model, 16] in each of two layers, and little else.
  maps = 2 * 2 * d_model * 16 * float32
  more = sum(gated.values()) - sum(vanilla.values())
  assert maps <= more < 3 * maps


@pytest.mark.tpu
@pytest.mark.parametrize(
  ("step", "beam", "loops"), [("decode", 4, 1), ("score", 1, 0), ("eval", 1, 0)]
)
def test_other_steps_compile_too(
  tpu_compiler, step, beam, loops, tmp_path, monkeypatch, capsys
):
  """A loop that decodes is Mesh TensorFlow's, a pass of it one token."""
  output = tmp_path / "estimate.json"
  flags = [f for f in NANO if f != "--packed"]
  beams = f"--gin_param=Bitransformer.decode.beam_size = {beam}"
  flags += [*POD, f"--step={step}", beams, f"--output={output}"]
  if beam > 1:
    flags.append("--beside_vanilla")
  programs.run(NAME, flags, monkeypatch)
  report = json.loads(output.read_text())
  found = report["estimate"]
  if beam > 1:
    vanilla = report["vanilla"]["estimate"]
    assert 0 < vanilla["loop_cycles"] < found["loop_cycles"]
    ratio = found["loop_cycles"] / vanilla["loop_cycles"]
    said = capsys.readouterr().out
    assert re.search(rf"a pass of mtf's loop.* {ratio:.3f}$", said, re.M)
  assert found["compiles"] and found["loops"]["mtf"] == loops
  assert report["program"]["loop"] == (8 if loops else 1)
  once, outside = found["loop_cycles"], found["cycles"]
  outside -= report["program"]["loop"] * once
  assert outside > 0 and (once > 0) == bool(loops)
