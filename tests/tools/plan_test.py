"""Plans: what is read from a run, what is refused, what is computed."""

import json
import math
import os
import shlex

import gin
import pytest
from absl import flags as absl_flags

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
from hypergrid_mtf import errors
from hypergrid_mtf.run import mesh as mesh_lib
from tests import command, docs_test
from tests import program as programs
from tests.tools.conftest import CORES
from tools import plan
from tools.cost import chips, gin_run, steps
from tools.cost.tpu import client, program

NAME = "tools.plan"
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


@pytest.mark.parametrize(
  ("kind", "tera"),
  [("v2", 46), ("v3", 123), ("v4", 275), ("v5e", 197), ("v5p", 459)],
)
def test_clocks_give_the_published_peak(kind, tera):
  """cloud.google.com/tpu/docs has the peak FLOPs of a chip."""
  chip = chips.CHIPS[kind]
  peak = 2.0 * chip.units * chip.side**2 * chip.clock
  assert peak == pytest.approx(tera * 1e12, rel=0.01)


def test_a_core_has_its_share_of_the_chip():
  assert (V3_8.chips, V3_8.per_chip) == (4, 2)
  assert V3_8.hbm == 16 * 2**30
  assert V3_8.ring == 82e9


def test_a_ring_passes_the_bytes_of_each_kind():
  by_axis = {
    "all-reduce": {"model": 82e9, "model+batch": 82e9},
    "all-to-all": {"batch": 82e9},
    "collective-permute": {"batch": 82e9},
  }
  want = 2 * 1 / 2 + 2 * 7 / 8 + 3 / 4 + 1
  mesh = {"model": 2, "batch": 4}
  assert chips.send_seconds(by_axis, mesh, V3_8) == pytest.approx(want)


def _numbers(depth: int) -> dict:
  """A program of so many blocks, as the compiler would describe it."""
  return {
    "compiles": True,
    "seconds": 1.0,
    "cycles": 94_000_000 * depth,
    "parameters": 1000 + 10 * depth,
    "memory": {
      "peak": 2**30 * (1 + depth),
      "program": 2**20,
      "weights": 2**28 * depth,
      "optimizer": 2**20,
      "temporaries": 2**29,
    },
    "collectives": {"all-reduce": {"count": depth, "bytes": 10**6 * depth}},
    "by_axis": {"all-reduce": {"batch": 10**6 * depth}},
    "loops": {"mtf": 1, "other": 0},
  }


def test_two_depths_give_the_line_through_them():
  found = plan.extrapolate({d: _numbers(d) for d in (2, 4)}, 12)
  want = _numbers(12)
  del want["seconds"]
  assert found == want
  no = {"compiles": False, "refused": "RESOURCE_EXHAUSTED"}
  assert plan.extrapolate({2: _numbers(2), 4: no}, 12) == no


def test_vanilla_is_the_same_run_without_its_gates():
  files = ("models/nano.gin", "hypergrid/L2.gin", "hypergrid/encoder_only.gin")
  source = gin_run.Source(files, ("HyperGrid.grid_rows = 4", "d_ff = 64"))
  assert source.variant == "L2"
  vanilla = source.vanilla()
  assert vanilla.gin_files == ("models/nano.gin", "hypergrid/vanilla.gin")
  assert vanilla.gin_params == ("d_ff = 64",)
  assert vanilla.variant == "vanilla" and vanilla.vanilla() == vanilla


def test_a_run_is_what_main_would_train():
  run = gin_run.read(gin_run.Source(FILES, SMALL), 8)
  assert run.job.case == steps.Case("train_packed", 16, 16, 8, 3)
  assert (run.train_steps, run.depth) == (262144, 1)
  assert run.depth_binding == "num_layers"
  assert {d.name: d.size for d in run.mesh.axes} == {"batch": 8}
  warm = "run.init_checkpoint = 'gs://t5-data/base/model.ckpt-262000'"
  degree = "tpu_mesh_shape.model_parallelism = 2"
  run = gin_run.read(gin_run.Source(FILES, (*SMALL, warm, degree)), 8)
  assert run.train_steps == 144  # those before are not paid again
  assert {d.name: d.size for d in run.mesh.axes} == {"batch": 4, "model": 2}


@pytest.mark.parametrize(
  ("flags", "want"),
  [
    ([], "there is no --gin_file"),
    (
      _flags("--topology=v9:2x2"),
      "--topology=v9:2x2 does not begin with any of",
    ),
    (_flags("--depths=2"), "--depths=2 must be two numbers"),
    (_flags("--utilisation=0"), "--utilisation=0.0 must be a share"),
    (_flags("--price_per_chip_hour=-1"), "_hour=-1: -1.0 is not a non-neg"),
    (
      _flags(params=[*SMALL, "tpu_mesh_shape.model_parallelism = 3"]),
      "model_parallelism = 3 does not divide the 8 cores",
    ),
    (
      _flags(params=[*SMALL, "run.mesh_shape = 'batch:4'"]),
      "'batch:4' has 4 devices, but the topology has 8 cores",
    ),
    (
      _flags(params=[*SMALL, "tpu_mesh_shape.tpu_topology = 'v3-32'"]),
      "has 32 devices, but the topology has 8 cores",
    ),
    (_flags(params=[*SMALL, "run.batch_size = 12"]), "does not divide among"),
    (
      _flags(params=[*SMALL, "run.batch_size = ('tokens_per_batch', 8)"]),
      "is not a multiple of the length",
    ),
    (
      _flags(params=[*SMALL, "run.mode = 'infer'"]),
      "'infer' cannot be planned",
    ),
    (
      _flags(params=[*SMALL, "tpu_mesh_shape.model_parallelism = 8"]),
      "heads = 4 does not divide among the 8 devices",
    ),
  ],
)
def test_what_does_not_fit_is_one_sentence_before_a_graph(
  described_tpu, flags, want, tmp_path, monkeypatch
):
  with pytest.raises((errors.UserError, absl_flags.Error), match=want):
    programs.run(NAME, [*flags, f"--output_dir={tmp_path}"], monkeypatch)


def test_a_plan_says_first_whether_it_fits_its_hours_and_its_price(
  described_tpu, tmp_path, monkeypatch, capsys
):
  def measure(run, depth, slice_, cache):
    found = _numbers(depth)
    if "hypergrid/L2.gin" in run.job.gin_files:
      found["cycles"] *= 2
    return found

  monkeypatch.setattr(plan, "measure", measure)
  more = ("--price_per_chip_hour=2", "--depths=1,2", f"--output_dir={tmp_path}")
  params = [*SMALL, "num_layers = 3", "run.train_steps = 36000"]
  programs.run(NAME, _flags(*more, params=params), monkeypatch)
  made = json.loads((tmp_path / "plan.json").read_text())
  found = made["models"]["L2"]
  assert found["extrapolated"] == [1, 2] and found["cycles"] == 6 * 94_000_000
  step = 0.6 + 2 * 7 / 8 * 3e6 / 82e9  # 94 million cycles at 940 MHz are 0.1 s
  assert found["step_seconds"]["step"] == pytest.approx(step)
  assert found["hours"] == pytest.approx([10 * step, 10 * step / 0.4])
  assert found["price"] == pytest.approx([h * 4 * 2 for h in found["hours"]])
  assert found["fits"] and found["needs"] == 4 * 2**30 + 2**20
  out = capsys.readouterr().out
  text = (tmp_path / "plan.txt").read_text()
  assert text in out
  assert text.splitlines()[1:4] == [
    "fits   yes, 4.3 (vanilla yes, 4.3), of 17.2 GB per core",
    "hours  6.0 to 15.0 (vanilla 3.0 to 7.5), for 36,000 steps at the "
    "compiler's speed, or at 40% of it",
    "price  48 to 120 (vanilla 24 to 60), at 2 per chip and hour, 8 for all",
  ]
  (ratios,) = [line for line in text.splitlines() if "L2 / vanilla" in line]
  assert ratios.split()[3:8] == ["1", "1", "1", "1", "2"]


def test_one_run_has_one_price():
  """In the README, the page of plans and that of Cloud TPUs: flags, figures."""
  root = docs_test.ROOT
  given, priced = [], []
  for name, start in (
    ("README.md", "python -m hypergrid_mtf.main --model_dir=runs/glue "),
    ("docs/plan.md", "python -m tools.plan --gin_file=models/base.gin "),
    ("docs/cloud_tpu.md", "python -m tools.tpu run --name=l2 "),
  ):
    (line,) = {
      c for c in docs_test._commands(root / name) if c.startswith(start)
    }
    words = shlex.split(line)
    given.append([w for w in words if w.startswith("--gin_")])
    text = " ".join((root / name).read_text().split())
    priced.append((text.count("4.4 to 11.1"), text.count("36 to 89")))
  assert given[0] == given[1] == given[2]
  assert priced == [(1, 1)] * 3


def test_parameters_are_those_of_the_model(tmp_path):
  case = steps.Case("train", 8, 32, 16)
  params = ("run.init_checkpoint = None", "run.mesh_shape = ''")
  job = steps.Job(case, FILES, params)
  mesh = mesh_lib.parse("", "", "", "")
  request = program.Request(job, mesh, [[0, 0, 0, 0]])
  written = program.write(request, str(tmp_path / "program.hlo"))
  path = os.path.join(command.ROOT, "tests", "golden", "nano.json")
  with open(path) as f:
    golden = json.load(f)
  shapes = golden["vanilla"] | golden["L2"]
  assert written["parameters"] == sum(map(math.prod, shapes.values()))


@pytest.mark.tpu
def test_two_depths_say_what_the_whole_program_does(
  tpu_compiler, tmp_path, monkeypatch
):
  """Three blocks of nano, from one and two; a second plan compiles nothing."""
  tokens = (
    "utils.serialize_num_microbatches.tokens_per_microbatch_per_replica = 16"
  )
  degree = "tpu_mesh_shape.model_parallelism = 2"
  params = (*SMALL, "num_layers = 3", tokens, degree)
  run = gin_run.read(gin_run.Source(FILES, params), 8)
  folder = str(tmp_path)
  found = {d: plan.measure(run, d, V3_8, folder) for d in (1, 2)}
  whole = plan.measure(run, None, V3_8, folder)
  line = plan.extrapolate(found, 3)
  assert line["parameters"] == whole["parameters"]
  for kind in ("weights", "optimizer"):
    assert line["memory"][kind] == whole["memory"][kind]
  assert line["cycles"] == pytest.approx(whole["cycles"], rel=0.1)
  sent = [m["collectives"]["all-reduce"]["bytes"] for m in (line, whole)]
  assert sent[0] == pytest.approx(sent[1], rel=0.02)
  assert sum(whole["by_axis"]["all-reduce"].values()) == sent[1]
  assert set(whole["by_axis"]["all-reduce"]) >= {"batch", "model"}
  assert chips.estimate(whole, {"model": 2, "batch": 4}, V3_8)["fits"]
  monkeypatch.setattr(client, "_ask", None)
  assert plan.measure(run, None, V3_8, folder) == whole
