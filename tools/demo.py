r"""Vanilla T5 and HyperGrid on the embedded mixture, at the same budget.

  python -m tools.demo --output_dir=runs/demo

Trains and evaluates both with `hypergrid_mtf.main`, as a user would, then
writes a comparison (`comparison.md`) and a picture of the gates (`gates.png`).
"""

import os
import shlex
import shutil
import subprocess
import sys
import time

from absl import flags

from hypergrid_mtf.run import console

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flags.DEFINE_string("output_dir", "runs/demo", "Where to write.")
  flags.DEFINE_integer(
    "steps", 1000, "Training steps of each model.", lower_bound=1
  )


console.read_flags(__name__, define_flags)

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools import environment, tables
from tools.experiments import render, statistics

MODELS = ("vanilla", "L2")


def _run(module: str, *arguments: str) -> None:
  """Runs one of our programs, showing the command and its output."""
  console.say(f"\n$ python -m {module} {shlex.join(arguments)}")
  done = subprocess.run(
    [sys.executable, "-m", module, *arguments],
    env=environment.of_child(),
    stderr=console.terminal(),
    check=False,
  )
  if done.returncode:
    raise errors.UserError(
      f"{module} stopped with exit status {done.returncode}; see its output "
      "above."
    )


def train_and_evaluate(model: str, model_dir: str, steps: int) -> None:
  """Trains a model anew, replacing its folder, and evaluates it."""
  shutil.rmtree(model_dir, ignore_errors=True)
  config = (
    f"--model_dir={model_dir}",
    "--gin_file=models/nano.gin",
    f"--gin_file=hypergrid/{model}.gin",
    "--gin_file=experiments/embedded.gin",
  )
  _run(
    "hypergrid_mtf.main",
    *config,
    "--seed=0",
    f"--gin_param=run.train_steps = {steps}",
    f"--gin_param=run.save_checkpoints_steps = {steps}",
  )
  _run("hypergrid_mtf.main", *config, "--gin_file=experiments/local_eval.gin")


def main(argv) -> None:
  """Runs the demonstration."""
  del argv
  start = time.time()
  root = FLAGS.output_dir
  runs = {model: os.path.join(root, model) for model in MODELS}
  for model, model_dir in runs.items():
    train_and_evaluate(model, model_dir, FLAGS.steps)
  picture = os.path.join(root, "gates.png")
  _run("tools.gates", f"--model_dir={runs['L2']}", f"--output={picture}")
  found = tables.collect([f"{m}={d}" for m, d in runs.items()], "validation")
  scores = {"last": statistics.scores(found, "last")}
  made = render.tables(found, scores, "vanilla", "single")
  text = (
    f"Exact match (%) on the validation set of each embedded task, after "
    f"{FLAGS.steps} steps.\n\n{render.to_markdown(made['scores_last'])}\n\n"
    f"{render.to_markdown(made['cost'])}\n\n"
    "One seed is a demonstration, not evidence: another seed can turn it "
    "around.\n"
  )
  table = os.path.join(root, "comparison.md")
  files.write(table, text)
  console.say(f"\n{text}\nwrote {table} and {picture}")
  console.say(f"the demonstration took {time.time() - start:.0f} s")


if __name__ == "__main__":
  console.run(main)
