"""Sweeps: their files, what is run, and what a stop leaves."""

import json
import os

import pytest

from hypergrid_mtf import errors
from tools import sweep

SMALL = """
# two cells
set: STEPS=4
train: --gin_file=models/micro.gin --gin_param="run.train_steps = $STEPS"
eval: --gin_file=experiments/local_eval.gin
vanilla: --gin_file=hypergrid/vanilla.gin
L2-$N for N in 4 8: --gin_file=hypergrid/L2.gin \\
  --gin_param="HyperGrid.grid_rows = $N"
single/$TASK for TASK in a b: --gin_param="MIXTURE_NAME = '$TASK'"
"""


def _parse(text=SMALL, seeds=(0, 1), **given):
  return sweep.parse(text, "x.sweep", list(seeds), given)


def test_lines_become_runs():
  runs = _parse()
  names = ["vanilla", "L2-4", "L2-8", "single/a", "single/b"]
  assert [(r.seed, r.name) for r in runs] == [
    (s, n) for s in (0, 1) for n in names
  ]
  assert [r.cell for r in runs[:5]] == [*names[:3], "single", "single"]
  assert runs[1].flags == (
    "--gin_file=models/micro.gin",
    "--gin_param=run.train_steps = 4",
    "--gin_file=hypergrid/L2.gin",
    "--gin_param=HyperGrid.grid_rows = 4",
  )
  assert runs[1].eval_flags == ("--gin_file=experiments/local_eval.gin",)
  assert "run.train_steps = 9" in _parse(STEPS="9")[0].flags[1]
  assert len({r.label for r in runs}) == len(runs)


@pytest.mark.parametrize(
  ("text", "sentence"),
  [
    ("vanilla --x=1", "line 1: .* is no line of a sweep"),
    ("a: --x=1\na: --x=2", "line 2: 'a' is there twice"),
    ("a: x=1", "'x=1' is no flag"),
    ("a: --x='1", "line 1: No closing quotation"),
    ("a: --x=$DATA", r"\$DATA is not known: give it with --set=DATA=TEXT"),
    ("set: A", "'A' is no WORD=TEXT"),
    ("# nothing", "names no model"),
  ],
)
def test_a_line_that_is_none_is_named(text, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    _parse(text)


def test_every_sweep_of_the_project_reads():
  names = sorted(os.listdir(sweep.SWEEPS))
  assert names
  for name in names:
    with open(sweep.find(name)) as f:
      runs = sweep.parse(f.read(), name, [0], dict(DATA="d", VOCABULARY="v"))
    assert {"vanilla", "L2", "LG", "GL", "GG"} <= {r.cell for r in runs}
  with pytest.raises(errors.UserError, match=names[0]):
    sweep.find("nothing.sweep")


def _places(root):
  return sweep.Places(str(root), str(root / "runs"))


def test_runs_at_a_time_share_the_cores(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6, 7})
  assert sweep.shares(1) == [[4, 5, 6, 7]]
  assert sweep.shares(2) == [[4, 5], [6, 7]]
  assert sweep.shares(5) == [[4], [5], [6], [7], [4]]


class _Recorder(sweep.Runner):
  """Runs nothing; `fails` names runs whose training fails."""

  fails = ()

  def _program(self, run, arguments, cores):
    assert cores
    if run.label in self.fails:
      raise errors.UserError(f"{run.label} stopped")
    self.ran.append((run.label, arguments))


@pytest.fixture
def recorder(monkeypatch):
  ran = []
  monkeypatch.setattr(_Recorder, "ran", ran, raising=False)
  monkeypatch.setattr(_Recorder, "fails", ())
  monkeypatch.setattr(sweep, "Runner", _Recorder)
  monkeypatch.setattr(
    sweep.results,
    "collect",
    lambda *args: dict(cell=args[1], seed=args[2], hardware={}),
  )
  return _Recorder


def test_only_what_has_no_result_is_run(tmp_path, recorder):
  runs, places = _parse(seeds=[0]), _places(tmp_path)
  recorder.fails = ("L2-8-seed0",)
  failures = sweep.run_all(runs, places, common=("--tpu=x",))
  assert failures == ["L2-8-seed0 stopped"]
  assert len(recorder.ran) == 2 * 4
  name, arguments = recorder.ran[1]
  assert name == "vanilla-seed0"
  assert arguments[0] == "--tpu=x" and arguments[2] == "--seed=0"
  assert arguments[-1] == "--gin_file=experiments/local_eval.gin"
  table = sweep.status(runs, places)
  assert list(table["seed 0"]) == ["done", "done", "begun", "done", "done"]
  # What the failed run left is kept, and it begins anew.
  (tmp_path / "runs" / "L2-8" / "seed0" / "checkpoint").write_text("x")
  recorder.ran.clear()
  recorder.fails = ()
  assert sweep.run_all(runs, places, 2) == []
  assert {name for name, _ in recorder.ran} == {"L2-8-seed0"}
  aside = tmp_path / "runs" / "L2-8" / "seed0.killed1" / "checkpoint"
  assert aside.read_text() == "x"
  assert set(sweep.status(runs, places)["seed 0"]) == {"done"}


def test_a_result_of_other_flags_is_not_taken(tmp_path, recorder):
  places = _places(tmp_path)
  sweep.run_all(_parse(seeds=[0]), places)
  with pytest.raises(errors.UserError, match="made by other flags"):
    sweep.status(_parse(seeds=[0], STEPS="5"), places)
  path = places.result(_parse(seeds=[0])[0])
  with open(path, "w") as f:
    f.write(json.dumps({"flags": 1})[:5])
  with pytest.raises(errors.UserError, match="is damaged"):
    sweep.status(_parse(seeds=[0]), places)


def test_some_cells_alone(monkeypatch):
  runs = _parse(seeds=[0, 1])
  kept = sweep.of_cells(runs, ["vanilla"])
  assert {r.cell for r in kept} == {"vanilla"} and len(kept) == 2
  assert sweep.of_cells(runs, []) == runs
  with pytest.raises(errors.UserError, match="vanilla"):
    sweep.of_cells(runs, ["nothing"])
  # Modules of one's own are found by the runs, too.
  monkeypatch.setenv("PYTHONPATH", "/mine")
  assert sweep._python_path() == f"{sweep._ROOT}:/mine"
