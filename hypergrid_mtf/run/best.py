"""Evaluation during training: keeps the best checkpoint, stops early.

With --evaluate each checkpoint is evaluated when it is saved, in the training
process, by t5's own evaluation. The one with the best average over the mixture
is kept in `<model_dir>/best`, which works like any model_dir, and
`<model_dir>/best.json` names its step.
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

# The evaluation's bindings that replace the training's.
_AS_GIVEN = "run.mode = 'eval'\nrun.dataset_split = 'validation'\n"
_RECORDS = (config.RECORD, vocabulary_file.NAME, records.DATA)


def read(model_dir: str) -> dict:
  """The content of best.json: "step", "average", "metrics", "evaluations".

  Returns:
    {} if nothing was evaluated; "evaluations" are [step, average] in order,
    with None for an average that is nan
  """
  return files.read_json(os.path.join(model_dir, NAME))


def average(scores: dict[str, dict[str, float]]) -> float:
  """T5's average: the mean over tasks of each task's mean metric, or nan.

  Args:
    scores: {task: {metric: value}}.
  """
  from t5_tasks import benchmarks  # imports pandas, which few runs need

  flat = {(t, m): v for t, by in scores.items() for m, v in by.items()}
  return [*benchmarks.averages(flat).values()][-1] if flat else math.nan


def is_exhausted(found: dict, patience: int | None) -> bool:
  """Whether the last `patience` evaluations did not improve on the best."""
  later = [e for e in found.get("evaluations", []) if e[0] > found["step"]]
  return patience is not None and len(later) >= patience


class EvaluateListener(tf.train.CheckpointSaverListener):
  """Evaluates each checkpoint when it is saved; keeps the best."""

  def __init__(self, run: request.Run, progress: estimator.Progress):
    self._run = run
    self._progress = progress
    self._said_how = False

  def after_save(self, session, global_step_value) -> bool:
    """Returns whether training should stop."""
    del session
    run, step = self._run, int(global_step_value)
    found = read(run.model_dir)
    known = [e for e in found.get("evaluations", []) if e[0] < step]
    if step <= run.began or len(known) < len(found.get("evaluations", [])):
      return False  # nothing was trained yet, or the training has just resumed
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
      f"the average did not improve in {run.flags.patience} evaluations "
      f"(--patience): stopping at step {step}"
    )
    return True

  def _evaluate(self, step: int) -> dict | None:
    """{task: {metric: value}} of a checkpoint; None after SIGTERM."""
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
  """Copies a checkpoint and its model's records to the folder `best`.

  It replaces the previous one only when complete.
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
