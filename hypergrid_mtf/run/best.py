"""Evaluation while training: the best checkpoint, and when to stop.

With --evaluate each checkpoint is evaluated in the training's own process as
soon as it is saved, by t5's own evaluation. The best by the average of the
mixture is kept in `<model_dir>/best`, a folder that every reader of a trained
model takes, and `<model_dir>/best.json` says which it is.
"""

import collections
import contextlib
import math
import os
import time

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import (
  config,
  console,
  estimator,
  eval_config,
  files,
  records,
  repair,
  request,
  vocabulary_file,
)

FOLDER, NAME = "best", "best.json"

# Of the evaluation, where gin has that of the training.
_AS_GIVEN = "run.mode = 'eval'\nrun.dataset_split = 'validation'\n"
_RECORDS = (config.RECORD, vocabulary_file.NAME, records.DATA)


def read(model_dir: str) -> dict:
  """What best.json says: "step", "average", "metrics" and "evaluations".

  Returns:
    {} where nothing was evaluated; "evaluations" are [step, average], in order;
    an average that is not a number is None
  """
  return files.read_json(os.path.join(model_dir, NAME))


def average(scores: dict[str, dict[str, float]]) -> float:
  """T5's mean over tasks of the mean of a task's metrics; nan for none.

  Args:
    scores: {task: {metric: value}}.
  """
  from t5_tasks import benchmarks  # pandas, which few runs need

  flat = {(t, m): v for t, by in scores.items() for m, v in by.items()}
  return [*benchmarks.averages(flat).values()][-1] if flat else math.nan


def is_exhausted(found: dict, patience: int | None) -> bool:
  """Whether the last evaluations were all worse than the best one."""
  later = [e for e in found.get("evaluations", []) if e[0] > found["step"]]
  return patience is not None and len(later) >= patience


class EvaluateListener(tf.train.CheckpointSaverListener):
  """Evaluates each checkpoint when it is saved; keeps the best."""

  def __init__(self, run: request.Run, progress: estimator.Progress):
    self._run = run
    self._progress = progress
    self._said_how = False

  def after_save(self, session, global_step_value) -> bool:
    """Returns whether training should stop here."""
    del session
    run, step = self._run, int(global_step_value)
    found = read(run.model_dir)
    known = [e for e in found.get("evaluations", []) if e[0] < step]
    if step <= run.began or len(known) < len(found.get("evaluations", [])):
      return False  # nothing was trained, or it is a training that resumes
    since = time.monotonic()
    scores = self._evaluate(step)
    self._progress.evaluated += time.monotonic() - since
    if scores is None:
      return False
    value = average(scores)
    evaluations = [*known, [step, value]]
    before = found.get("average")  # None for nan
    is_best = not known or before is None or value > before
    if is_best:
      keep(run.model_dir, step)
      found = dict(step=step, average=value, metrics=scores)
    found["evaluations"] = evaluations
    files.write_json(os.path.join(run.model_dir, NAME), found)
    best = "the best so far"
    if not is_best:
      best = f"best: {before:.4g} at step {found['step']}"
    console.say(f"step {step}  average  {value:.4g}  ({best})")
    if not is_exhausted(found, run.flags.patience):
      return False
    console.say(
      f"no better average in {run.flags.patience} evaluations (--patience): "
      f"ending at step {step}"
    )
    return True

  def _evaluate(self, step: int) -> dict | None:
    """{task: {metric: value}} of a checkpoint; None if SIGTERM came."""
    run, progress = self._run, self._progress
    progress.metrics.clear()
    progress.examples = 0
    if not self._said_how:
      eval_config.write(run.eval_folder("validation"), _AS_GIVEN)
      self._said_how = True
    try:
      utils.run(
        **{
          name: run.flags[name].value
          for name in ("tpu_job_name", "tpu", "gcp_project", "tpu_zone")
        },
        model_dir=run.model_dir,
        mode="eval",
        dataset_split="validation",
        eval_checkpoint_step=step,
      )
    except estimator.Stopped:
      return None
    scores: dict[str, dict[str, float]] = collections.defaultdict(dict)
    for row in progress.metrics:
      with contextlib.suppress(TypeError, ValueError):  # not all are numbers
        scores[row["task"]][row["metric"]] = float(row["value"])
    return dict(scores)


def keep(model_dir: str, step: int) -> None:
  """Copies a checkpoint, and what describes its model, to the folder best.

  It takes the place of the one before it when it is whole.
  """
  folder = os.path.join(model_dir, FOLDER)
  part = f"{folder}.part"
  if tf.io.gfile.isdir(part):
    tf.io.gfile.rmtree(part)
  tf.io.gfile.makedirs(part)
  own = tf.io.gfile.glob(f"{checkpoints.path_of(model_dir, step)}.*")
  others = [os.path.join(model_dir, name) for name in _RECORDS]
  for path in [*own, *filter(tf.io.gfile.exists, others)]:
    tf.io.gfile.copy(path, os.path.join(part, os.path.basename(path)))
  repair.name_latest(part, step)
  if tf.io.gfile.isdir(folder):
    tf.io.gfile.rmtree(folder)
  tf.io.gfile.rename(part, folder)
