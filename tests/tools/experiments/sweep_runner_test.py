"""Sweeps: their files, what is run, and what a stop leaves."""

import dataclasses
import json
import os
import shutil
import signal
import types

import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, lock
from tests import command, program, testing
from tests.tools.experiments.sweep_file_test import parse
from tools import environment, sweep
from tools.experiments import sweep_file, sweep_runner


def _places(root):
  return sweep_runner.Places(str(root), str(root / "runs"))


def test_runs_at_a_time_share_the_cores(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6, 7})
  assert sweep_runner.split_cores(1) == [[4, 5, 6, 7]]
  assert sweep_runner.split_cores(2) == [[4, 5], [6, 7]]
  assert sweep_runner.split_cores(5) == [[4], [5], [6], [7], [4]]


class _Recorder(sweep_runner.Runner):
  """Runs nothing; `fails` names runs whose training fails.

  `fails_to_evaluate` names those whose evaluation does.
  """

  fails = ()
  fails_to_evaluate = ()

  def _program(self, run, arguments, cores):
    assert cores
    folder = self._places.model(run)
    evaluates = "--gin_file=experiments/local_eval.gin" in arguments
    self.ran.append((run.label, arguments))
    if run.label in (self.fails_to_evaluate if evaluates else self.fails):
      raise errors.UserError(f"{run.label} stopped")
    if evaluates:
      os.makedirs(os.path.join(folder, "validation_eval"))
    else:
      shutil.copytree(self.checkpoint, folder, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  folder = tmp_path_factory.mktemp("checkpoint")
  testing.write_checkpoint(folder, {"shared/embedding": (8, 4)}, steps=(4,))
  return folder


@pytest.fixture
def recorder(monkeypatch, checkpoint):
  ran = []
  monkeypatch.setattr(_Recorder, "checkpoint", checkpoint, raising=False)
  monkeypatch.setattr(_Recorder, "fails_to_evaluate", ())
  monkeypatch.setattr(_Recorder, "ran", ran, raising=False)
  monkeypatch.setattr(_Recorder, "fails", ())
  monkeypatch.setattr(sweep_runner, "Runner", _Recorder)

  def collect(model_dir, cell, seed, split):
    return dict(cell=cell, seed=seed, hardware={}, metrics={})

  monkeypatch.setattr(sweep_runner.result, "collect", collect)
  monkeypatch.setattr(
    sweep_runner,
    "check",
    lambda jobs, *_: {job.name: "validation" for job in jobs},
  )
  return _Recorder


def test_only_what_has_no_result_is_run(tmp_path, recorder):
  runs, places = parse(seeds=[0]), _places(tmp_path)
  recorder.fails = ("L2-8-seed0",)
  failures = sweep_runner.run_all(runs, places, common=("--tpu=x",))
  assert failures == ["L2-8-seed0 stopped"]
  assert len(recorder.ran) == 2 * 4 + 1
  name, arguments = recorder.ran[1]
  assert name == "vanilla-seed0"
  assert arguments[0] == "--tpu=x" and arguments[2] == "--seed=0"
  assert arguments[-1] == "--gin_file=experiments/local_eval.gin"
  table = sweep_runner.status(runs, places)
  assert list(table["seed 0"]) == ["done", "done", "begun", "done", "done"]
  # What the failed run left is kept, and it begins anew.
  (tmp_path / "runs" / "L2-8" / "seed0" / "checkpoint").write_text("x")
  recorder.ran.clear()
  recorder.fails = ()
  assert sweep_runner.run_all(runs, places, 2) == []
  assert {name for name, _ in recorder.ran} == {"L2-8-seed0"}
  aside = tmp_path / "runs" / "L2-8" / "seed0.killed1" / "checkpoint"
  assert aside.read_text() == "x"
  assert set(sweep_runner.status(runs, places)["seed 0"]) == {"done"}


def test_a_result_of_other_flags_is_not_taken(tmp_path, recorder):
  places = _places(tmp_path)
  sweep_runner.run_all(parse(seeds=[0]), places)
  with pytest.raises(errors.UserError, match="made with other flags"):
    sweep_runner.status(parse(seeds=[0], STEPS="5"), places)
  path = places.result(parse(seeds=[0])[0])
  with open(path, "w") as f:
    f.write(json.dumps({"flags": 1})[:5])
  with pytest.raises(errors.UserError, match="is damaged"):
    sweep_runner.status(parse(seeds=[0]), places)


def test_a_finished_training_is_evaluated_again_and_not_trained_again(
  tmp_path, recorder
):
  runs, places = parse(seeds=[0])[:2], _places(tmp_path)
  recorder.fails_to_evaluate = ("vanilla-seed0",)
  assert sweep_runner.run_all(runs, places) == ["vanilla-seed0 stopped"]
  assert list(sweep_runner.status(runs, places)["seed 0"]) == [
    "trained",
    "done",
  ]
  folder = tmp_path / "runs" / "vanilla" / "seed0"
  before = (folder / "model.ckpt-4.index").stat().st_ino
  (folder / "validation_eval").mkdir()  # of a killed evaluation
  recorder.ran.clear()
  recorder.fails_to_evaluate = ()
  assert sweep_runner.run_all(runs, places) == []
  ((name, arguments),) = recorder.ran
  assert name == "vanilla-seed0"
  assert arguments[-1] == "--gin_file=experiments/local_eval.gin"
  assert (folder / "model.ckpt-4.index").stat().st_ino == before
  assert (folder / "validation_eval.killed1").is_dir()
  assert not (tmp_path / "runs" / "vanilla" / "seed0.killed1").exists()
  with open(places.result(runs[0])) as f:
    result = json.load(f)
  assert {"tensorflow", "t5"} <= result["versions"].keys()
  assert result["hardware"]["cores"] >= 1 and result["wall_seconds"] >= 0


@pytest.mark.parametrize("what", ["flags", "checkpoint", "marker"])
def test_a_training_that_is_another_or_not_whole_begins_anew(
  tmp_path, recorder, what
):
  (run, *_), places = parse(seeds=[0]), _places(tmp_path)
  recorder.fails_to_evaluate = (run.label,)
  sweep_runner.run_all([run], places)
  folder = tmp_path / "runs" / "vanilla" / "seed0"
  if what == "flags":
    (run, *_) = parse(seeds=[0], STEPS="5")
  elif what == "checkpoint":
    for path in [*folder.glob("model.ckpt*"), folder / "checkpoint"]:
      path.unlink()
  else:
    (folder / "trained.json").write_text("{")
  assert list(sweep_runner.status([run], places)["seed 0"]) == ["begun"]
  recorder.ran.clear()
  recorder.fails_to_evaluate = ()
  assert sweep_runner.run_all([run], places) == []
  assert len(recorder.ran) == 2
  assert (tmp_path / "runs" / "vanilla" / "seed0.killed1").is_dir()


def test_what_a_training_refuses_is_said_before_the_first(
  tmp_path, monkeypatch
):
  """A job refused after others is checked again in a separate process."""

  def run(words, **given):
    return command.program(*words[2:], stdin=given["input"])

  monkeypatch.setattr(sweep_runner.subprocess, "run", run)
  text = """
train: --gin_file=models/nano.gin --gin_file=experiments/embedded.gin
eval: --gin_file=experiments/local_eval.gin
vanilla: --gin_file=hypergrid/vanilla.gin
single/copy: --gin_file=hypergrid/vanilla.gin --vocabulary=bytes \\
  --gin_param="MIXTURE_NAME = 'embedded_copy_v1'"
bad: --gin_file=hypergrid/L2.gin --gin_param="HyperGrid.grid_rows = 5"
"""
  *good, bad = sweep_file.parse(text, "x", [0], {})
  splits = {"vanilla": "validation", "single/copy": "validation"}
  places = _places(tmp_path)
  assert sweep_runner.check(good, places) == splits
  with pytest.raises(errors.UserError, match="^bad: .*grid_rows"):
    sweep_runner.check([good[0], bad], places)
  assert not list(tmp_path.iterdir())


def test_another_split_is_another_result(tmp_path, recorder):
  (run, *_), places = parse(seeds=[0]), _places(tmp_path)
  sweep_runner.run_all([run], places)
  split = "--gin_param=run.dataset_split = 'test'"
  other = dataclasses.replace(run, eval_flags=(*run.eval_flags, split))
  with pytest.raises(errors.UserError, match="made with other flags"):
    sweep_runner.run_all([other], places)
  recorder.ran.clear()
  elsewhere = sweep_runner.Places(str(tmp_path / "test"), places.models_dir)
  folder = tmp_path / "runs" / "vanilla" / "seed0" / "validation_eval"
  folder.rename(f"{folder}.away")
  assert sweep_runner.run_all([other], elsewhere) == []
  ((_, arguments),) = recorder.ran
  assert arguments[-1] == split
  assert os.path.exists(elsewhere.result(other))


def test_modules_of_ones_own_are_found_by_the_runs(monkeypatch):
  monkeypatch.setenv("PYTHONPATH", "/mine")
  assert environment.of_child()["PYTHONPATH"] == f"{environment.ROOT}:/mine"


def test_results_are_local(monkeypatch):
  given = types.SimpleNamespace(set=[], seeds=["0"], output_dir="gs://b/x")
  monkeypatch.setattr(sweep, "FLAGS", given)
  with pytest.raises(
    errors.UserError, match="=gs://b/x is for .* --models_dir"
  ):
    sweep.main([])


def test_the_status_of_a_sweep(tmp_path, monkeypatch, capsys):
  given = "--sweep=embedded.sweep", "--seeds=0,1", f"--output_dir={tmp_path}"
  program.run("tools.sweep", [*given, "--status"], monkeypatch)
  assert "to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["output_dir", "models_dir"])
def test_the_second_sweep_on_a_folder_is_refused(name, tmp_path, monkeypatch):
  given = [
    "--sweep=embedded.sweep",
    f"--output_dir={tmp_path}/output_dir",
    f"--models_dir={tmp_path}/models_dir",
  ]
  (tmp_path / name).mkdir()
  with (
    lock.hold(str(tmp_path / name), "the first"),
    pytest.raises(errors.UserError, match=f"--{name}={tmp_path}/{name} is in"),
  ):
    program.run("tools.sweep", given, monkeypatch)


def test_sigterm_ends_a_sweep_with_the_status_of_it(tmp_path, monkeypatch):
  before = signal.getsignal(signal.SIGTERM)
  monkeypatch.setattr(console, "log_to", lambda folder: "")
  monkeypatch.setattr(
    sweep_runner, "run_all", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
  )
  given = ["--sweep=embedded.sweep", f"--output_dir={tmp_path}"]
  with pytest.raises(SystemExit) as e:
    program.run("tools.sweep", given, monkeypatch)
  assert e.value.code == 143
  assert signal.getsignal(signal.SIGTERM) == before
