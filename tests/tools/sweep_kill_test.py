"""A sweep that is killed and restarted gives the same results.

Minutes, not seconds: `make kill-test`.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.tools.experiments import made_up
from tools.experiments import render, result

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = r"""
train: --gin_file=models/micro.gin --gin_file=experiments/embedded.gin \
  --gin_param="dropout_rate = 0.1" \
  --gin_param="run.train_steps = 60" \
  --gin_param="run.save_checkpoints_steps = 20"
eval: --gin_file=experiments/local_eval.gin \
  --gin_param="eval_checkpoint_step = 'all'"
vanilla: --gin_file=hypergrid/vanilla.gin
L2: --gin_file=hypergrid/L2.gin
"""
PATIENCE = 600  # seconds


def _sweep(path, output_dir, *more):
  command = [sys.executable, "-m", "tools.sweep", f"--sweep={path}"]
  command += [f"--output_dir={output_dir}", "--seeds=3", *more]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )


def _wait_for(there, child):
  end = time.time() + PATIENCE
  while not there():
    assert child.poll() is None, "the sweep ended before it could be killed"
    assert time.time() < end, "nothing was trained"
    time.sleep(0.2)


def _kill(child):
  os.kill(child.pid, signal.SIGKILL)
  child.wait()


def _texts(results):
  found, skipped = result.load(str(results))
  assert not skipped
  made = render.tables(found, made_up.scores(found), "vanilla", "single")
  return {k: v.to_csv() for k, v in made.items() if k != "cost"}


def _numbers(results):
  keys = ("metrics", "data", "config_hash", "protocol")
  found, _ = result.load(str(results))
  return {r["name"]: {k: r[k] for k in keys} for r in found}


def _answers(output_dir):
  """{file of predictions: its bytes} of all models."""
  runs = output_dir / "runs"
  return {
    path.relative_to(runs): path.read_bytes()
    for path in runs.glob("*/seed3/validation_eval/*_predictions")
  }


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_a_killed_sweep_gives_the_same_table(tmp_path, options):
  sweep = tmp_path / "x.sweep"
  sweep.write_text(SWEEP)
  unharmed = tmp_path / "unharmed"
  assert _sweep(sweep, unharmed).wait(PATIENCE) == 0

  killed = tmp_path / "killed"
  runs = killed / "runs"
  child = _sweep(sweep, killed)
  _wait_for(
    lambda: (runs / "vanilla/seed3/model.ckpt-20.index").exists(), child
  )
  _kill(child)  # in the middle of a training
  assert not list(killed.glob("results/*"))
  child = _sweep(sweep, killed, *options)
  _wait_for(lambda: (runs / "L2/seed3/validation_eval").is_dir(), child)
  _kill(child)  # in the middle of an evaluation
  assert len(list((killed / "results").iterdir())) == 1
  assert _sweep(sweep, killed, *options).wait(PATIENCE) == 0

  numbers = _numbers(killed / "results")
  assert numbers.keys() == {"vanilla", "L2"}
  for run in numbers.values():
    for metrics in run["metrics"].values():
      assert list(metrics["accuracy"]) == ["20", "40", "60"]
  if not options:
    assert numbers == _numbers(unharmed / "results")
    assert _answers(killed) == _answers(unharmed) != {}
    assert _texts(killed / "results") == _texts(unharmed / "results")
    assert (runs / "vanilla/seed3.killed1/model.ckpt-20.index").exists()
