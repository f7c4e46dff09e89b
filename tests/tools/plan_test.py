"""Plans: what is read of a run, what is refused, what follows from numbers."""

import json
import math
import os

import gin
import pytest

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
from hypergrid_mtf import errors
from hypergrid_mtf.run import meshes
from tests import command
from tests import program as programs_
from tools.cost import benchmark_cases as cases
from tools.cost.plan import chips, estimate, programs, run
from tools.cost.tpu import client, program

NAME = "tools.plan"
CORES = [[x, y, 0, core] for x in (0, 1) for y in (0, 1) for core in (0, 1)]
V3_8 = chips.Slice("v3:2x2", CORES)
FILES = ("models/nano.gin", "hypergrid/L2.gin", "experiments/glue.gin")
SMALL = (
  "HyperGrid.grid_rows = 4",
  "HyperGrid.grid_cols = 4",
  "run.sequence_length = {'inputs': 16, 'targets': 8}",
  "run.batch_size = 16",
)


def _flags(*more, params=SMALL):
  return [
    *(f"--gin_file={path}" for path in FILES),
    *(f"--gin_param={text}" for text in params),
    *more,
  ]


@pytest.fixture(autouse=True)
def nothing_stays_bound():
  yield
  gin.clear_config()


@pytest.fixture
def described(monkeypatch):
  """A compiler that knows one topology, and is asked nothing else."""
  monkeypatch.setattr(client, "PYTHON", command.ROOT)  # is there
  monkeypatch.setattr(client, "cores", lambda topology: CORES)


@pytest.mark.parametrize(
  ("kind", "tera"),
  [("v2", 46), ("v3", 123), ("v4", 275), ("v5e", 197), ("v5p", 459)],
)
def test_clocks_give_the_published_peak(kind, tera):
  """cloud.google.com/tpu/docs has the peak FLOPs of a chip."""
  assert chips.CHIPS[kind].peak == pytest.approx(tera * 1e12, rel=0.01)


def test_a_core_has_its_share_of_the_chip():
  assert (V3_8.chips, V3_8.per_chip) == (4, 2)
  assert V3_8.hbm == 16 * 2**30
  assert V3_8.ring == 82e9


def test_a_ring_passes_the_bytes_of_each_kind():
  groups = {
    "all-reduce": {"2": 82e9, "8": 82e9},
    "all-gather": {"4": 82e9},
    "collective-permute": {"0": 82e9},
  }
  want = 2 * 1 / 2 + 2 * 7 / 8 + 3 + 1
  assert estimate.communication(groups, V3_8) == pytest.approx(want)


def _numbers(depth: int) -> dict:
  """A program of so many blocks, as the compiler would describe it."""
  return {
    "compiles": True,
    "seconds": 1.0,
    "resident": 10,
    "loop": 4,
    "cycles": 94_000_000 * depth,
    "matmul_flops": 10**12 * depth,
    "parameters": 1000 + 10 * depth,
    "memory": {
      "peak": 2**30 * (1 + depth),
      "program": 2**20,
      "weights": 2**28 * depth,
      "optimizer": 2**20,
      "temporaries": 2**29,
    },
    "collectives": {"all-reduce": {"count": depth, "bytes": 10**6 * depth}},
    "groups": {"all-reduce": {"8": 10**6 * depth}},
    "by_axis": {"all-reduce": {"batch": 10**6 * depth}},
    "loops": {"mtf": 1, "other": 0},
  }


def test_two_depths_give_the_line_through_them():
  found = programs.extrapolate({d: _numbers(d) for d in (2, 4)}, 12)
  want = _numbers(12)
  assert found.pop("extrapolated") == [2, 4]
  assert (found.pop("seconds"), found.pop("resident")) == (2.0, 10)
  del want["seconds"], want["resident"]
  assert found == want


def test_what_a_depth_refuses_is_refused():
  no = {"compiles": False, "refused": "RESOURCE_EXHAUSTED"}
  assert programs.extrapolate({2: _numbers(2), 4: no}, 12) == no


def test_time_hours_and_price_follow():
  chosen = run.Candidate("batch:8", "batch:batch", None, 16)
  inputs = estimate.Inputs(utilisation=0.5, price=2.0, steps=3600)
  lengths = {"inputs": 16, "targets": 8}
  found = estimate.of(_numbers(1), chosen, lengths, V3_8, inputs)
  step = found["step_seconds"]
  assert step["compute"] == pytest.approx(0.1)  # 94 million cycles at 940 MHz
  assert step["step"] == pytest.approx(2 * (0.1 + 2 * 7 / 8 * 1e6 / 82e9))
  assert found["tokens_per_second"] == pytest.approx(16 * 24 / step["step"])
  assert found["hours"] == pytest.approx(step["step"])
  assert found["price"] == pytest.approx(found["hours"] * 4 * 2.0)
  assert found["fits"]
  assert not estimate.of(_numbers(16), chosen, lengths, V3_8, inputs)["fits"]


def test_vanilla_is_the_same_run_without_its_gates():
  files = ("models/nano.gin", "hypergrid/L2.gin", "hypergrid/encoder_only.gin")
  asked = run.Run(files, ("HyperGrid.grid_rows = 4", "d_ff = 64"))
  assert asked.gated == "L2"
  vanilla = asked.vanilla()
  assert vanilla.gin_files == ("models/nano.gin", "hypergrid/vanilla.gin")
  assert vanilla.gin_params == ("d_ff = 64",)
  assert vanilla.gated is None


def test_facts_are_those_that_a_run_would_have():
  found = run.facts(run.Run(FILES, SMALL))
  assert found.lengths == {"inputs": 16, "targets": 8}
  assert (found.packed, found.steps, found.depth) == (True, 262144, 1)
  assert (found.degree, found.mesh, found.microbatch) == (1, None, None)
  assert found.depth_binding == "num_layers"


def test_steps_before_a_warm_start_are_not_paid_again():
  text = "run.init_checkpoint = 'gs://t5-data/base/model.ckpt-999900'"
  assert run.started_at([text]) == 999900
  assert run.started_at(["run.init_checkpoint = None"]) == 0


@pytest.mark.parametrize(
  ("flags", "want"),
  [
    ([], "there is no --gin_file"),
    (_flags("--topology=v9:2x2"), "--topology=v9:2x2 begins with none of"),
    (_flags("--degrees=3"), "--degrees=3 does not divide the 8 cores"),
    (_flags("--degrees=two"), "--degrees=two is not a positive integer"),
    (_flags("--depths=2"), "--depths=2 is not two depths"),
    (_flags("--utilisation=0"), "--utilisation=0.0 is not a share"),
    (_flags("--price=-1"), "--price=-1.0 is below zero"),
    (
      _flags(params=[*SMALL, "run.mesh_shape = 'batch:4'"]),
      "batch:4 has 4 devices, and the topology 8 cores",
    ),
    (
      _flags(params=[*SMALL, "tpu_mesh_shape.tpu_topology = 'v3-32'"]),
      "'v3-32' has 32 cores, and --topology=v3:2x2 has 8",
    ),
    (_flags(params=[*SMALL, "run.batch_size = 12"]), "does not divide among"),
    (
      _flags(params=[*SMALL, "run.batch_size = ('tokens_per_batch', 8)"]),
      "is not a batch of rows",
    ),
    (_flags(params=[*SMALL, "run.mode = 'infer'"]), "'infer' is not planned"),
    (_flags("--degrees=8"), "heads = 4 does not divide among the 8 devices"),
  ],
)
def test_what_does_not_fit_is_one_sentence_before_a_graph(
  described, flags, want, tmp_path, monkeypatch
):
  with pytest.raises(errors.UserError, match=want):
    programs_.run(NAME, [*flags, f"--output_dir={tmp_path}"], monkeypatch)


def test_without_the_compiler_a_sentence_says_how_to_make_it(monkeypatch):
  monkeypatch.setattr(client, "PYTHON", client.PYTHON / "no")
  with pytest.raises(errors.UserError, match="make tpu-compiler"):
    programs_.run(NAME, _flags(), monkeypatch)


def test_a_plan_names_the_cheapest_that_fits(
  described, tmp_path, monkeypatch, capsys
):
  """Degree 1 needs too much memory, degree 4 is slower than degree 2."""

  def measure(self, job, chosen, say):
    depth = int(job.bindings[-1].rpartition(" ")[2])
    found = _numbers(depth)
    size = chosen.mesh.partition("model:")[2] or "1"
    found["cycles"] *= {"1": 1, "2": 2, "4": 3}[size]
    if "L2" in job.run.gin_files[1]:
      found["cycles"] *= 2
    if size == "1":
      found["memory"]["peak"] += 2**34
    say("compiled")
    return found

  monkeypatch.setattr(programs.Programs, "measure", measure)
  more = ("--degrees=1,2,4,8", "--depths=1,2", f"--output_dir={tmp_path}")
  params = [*SMALL, "num_layers = 3"]
  given = _flags("--price=2", *more, params=params)
  programs_.run(NAME, given, monkeypatch)
  out = capsys.readouterr().out
  assert "L2: the cheapest that fits is batch:4,model:2" in out
  assert "extrapolated to 3 + 3 blocks from programs of 1 + 1 and 2 + 2" in out
  assert "left out: heads = 4 does not divide among the 8 devices" in out
  assert "cycles 2.000" in out
  assert "step: all-reduce batch 3.000" in out
  assert "[12/12," in out
  plan = json.loads((tmp_path / "plan.json").read_text())
  assert plan["cheapest"] == {"vanilla": 1, "L2": 1}
  assert [c["models"]["L2"]["fits"] for c in plan["candidates"]] == [0, 1, 1]
  assert plan["planner"]["resident"] > 1e8
  assert (tmp_path / "plan.png").stat().st_size > 10_000
  assert "tokens/s" in (tmp_path / "plan.txt").read_text()


def _closed_form(batch, inputs, targets, d_model, inner, d_ff, layers):
  """FLOPs of a step of T5 by its matrix products, backward twice forward.

  Ids are looked up by a product with one-hot vectors, which have no gradient.
  """
  encoder = 2 * batch * inputs * (4 * d_model * inner + 2 * d_model * d_ff)
  encoder += 4 * batch * inputs**2 * inner
  decoder = 2 * batch * targets * (4 * d_model * inner + 2 * d_model * d_ff)
  decoder += 4 * batch * targets**2 * inner
  decoder += 4 * batch * (targets + inputs) * d_model * inner
  decoder += 4 * batch * targets * inputs * inner
  vocabulary = 2 * batch * d_model * 32128
  logits, ids = vocabulary * targets, vocabulary * (inputs + targets)
  return 3 * (layers * (encoder + decoder) + logits) + 2 * ids


def test_flops_and_parameters_are_those_of_the_model(tmp_path):
  case = cases.Case("train", 8, 32, 16)
  job = run.Job(run.Run(FILES), case, ("run.mesh_shape = ''",))
  mesh = meshes.parse("", "", "", "")
  request = program.Request(job, mesh, [[0, 0, 0, 0]])
  written = program.write(request, str(tmp_path / "program.hlo"))
  want = _closed_form(8, 32, 16, d_model=16, inner=64, d_ff=64, layers=1)
  assert written["matmul_flops"] == pytest.approx(want, rel=0.002)
  path = os.path.join(command.ROOT, "tests", "golden", "nano.json")
  with open(path) as f:
    golden = json.load(f)
  shapes = golden["vanilla"] | golden["L2"]
  assert written["parameters"] == sum(map(math.prod, shapes.values()))


@pytest.mark.tpu
def test_two_depths_say_what_the_whole_program_does(tmp_path, monkeypatch):
  """Three blocks of nano, from one and two; a second plan compiles nothing."""
  if not client.PYTHON.exists():
    pytest.skip("no .venv-tpu (make test-tpu makes it)")
  params = [*SMALL, "num_layers = 3", f"{run.MICROBATCH} = 16"]
  more = ("--degrees=2", "--depths=1,2", "--whole=chosen", "--price=2")
  given = _flags(*more, f"--output_dir={tmp_path}", params=params)
  given.append("--nobeside_vanilla")
  plans = []
  for _ in range(2):
    with monkeypatch.context() as patch:
      programs_.run(NAME, given, patch)
    plans.append(json.loads((tmp_path / "plan.json").read_text()))
  first, second = plans
  (candidate,) = first["candidates"]
  whole = candidate["models"]["L2"]
  line = whole["from_two_depths"]
  assert whole["fits"] and whole["loop"] == 4
  for exact in ("parameters", "matmul_flops"):
    assert line[exact] == whole[exact]
  for kind in ("weights", "optimizer"):
    assert line["memory"][kind] == whole["memory"][kind]
  assert line["cycles"] == pytest.approx(whole["cycles"], rel=0.1)
  sent = [m["collectives"]["all-reduce"]["bytes"] for m in (line, whole)]
  assert sent[0] == pytest.approx(sent[1], rel=0.02)
  assert sum(whole["by_axis"]["all-reduce"].values()) == sent[1]
  assert set(whole["by_axis"]["all-reduce"]) >= {"batch", "model"}
  assert first["planner"]["compiled"] == second["planner"]["cached"] == 3
  assert second["planner"]["compiled"] == 0
  assert second["candidates"] == first["candidates"]
