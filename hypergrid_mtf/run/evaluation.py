"""Chooses the metrics of an evaluation, and skips those of hidden labels.

t5 keeps metrics of answers and of log-likelihoods in one list. By SeqIO's
convention, score metrics such as `rank_classification` take (targets, scores),
all others (targets, predictions). Mesh TensorFlow calls all of them with the
output of its mode: scores in `score_eval`, answers in `eval`. For test splits
with hidden labels TFDS gives -1: t5 passes this to the metrics, some of which
then stop the evaluation before the other tasks are decoded; and t5 does not
decode tasks without metrics, such as the diagnostic sets.
"""

import collections.abc
import functools
import inspect
import json
import os
from collections.abc import Callable

import gin
import numpy as np
import seqio
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import dataset as transformer_dataset

from hypergrid_mtf.run import config, console, estimator, files, request


def bind_metrics(run: request.Run, progress: estimator.Progress) -> None:
  """Makes the configured evaluation compute the metrics that fit."""
  name = "run.eval_dataset_fn"
  scored = run.mode == "score_eval"
  folder: str | None = run.eval_folder(run.split or "validation")
  progress.folder = folder
  if not config.value("run.output_eval_examples", True):
    folder = None
  function = datasets_fn(config.value(name), scored, progress, folder)
  gin.bind_parameter(name, function)


def datasets_fn(
  original: Callable,
  scored: bool,
  progress: estimator.Progress,
  folder: str | None = None,
) -> Callable:
  """Returns a `run.eval_dataset_fn` whose data sets have the metrics that fit.

  Args:
    original: the bound function.
    scored: whether the evaluation scores targets instead of decoding answers.
    progress: of the run; counts examples as their targets are read.
    folder: where examples and their results are written; None for nowhere.
  """

  @functools.wraps(original)
  def datasets(*, dataset_split: str, sequence_length, **kwargs):
    found = original(
      dataset_split=dataset_split, sequence_length=sequence_length, **kwargs
    )
    return [
      _fitted(transformer_dataset.EvalDataset(*d), dataset_split, seen)
      for d in found
      for seen in [Seen(d[0], sequence_length, scored, folder)]
    ]

  def _fitted(dataset, split, seen):
    def postprocess(*args, **kwargs):
      if kwargs.get("is_target"):
        progress.examples += 1
        seen.add(kwargs.get("example", {}))
      return dataset.postprocess_fn(*args, **kwargs)

    fitting = metrics(dataset.metric_fns, dataset.name, split, scored)
    return dataset._replace(
      postprocess_fn=postprocess,
      metric_fns=[_printed(f, dataset.name, progress, seen) for f in fitting],
    )

  return datasets


class Seen:
  """The examples of a task: how many were cut, and their results."""

  def __init__(self, task: str, lengths, scored: bool, folder: str | None):
    """Starts empty.

    Args:
      task: its name; cuts are not counted for a task that SeqIO does not know.
      lengths: run.sequence_length; None for no cuts.
      scored: whether targets are cut too; answers are compared with uncut
        targets.
      folder: where they are written; None for nowhere.
    """
    self._task = task
    known = task in seqio.TaskRegistry.names() and lengths
    features = seqio.TaskRegistry.get(task).output_features if known else {}
    keys = ("inputs", "targets") if scored else ("inputs",)
    self._features = {k: f for k, f in features.items() if k in keys}
    self._cut = dict.fromkeys(self._features, 0)
    self._lengths = lengths
    self._made = "score" if scored else "prediction"
    self._folder = folder
    self._inputs: list[dict] = []  # one per example
    self._total = 0
    self._written: set[int] = set()  # steps

  def add(self, example) -> None:
    """Adds an example as t5 reads it: cut, padded, with its texts."""
    self._total += 1
    for key, feature in self._features.items():
      text = example.get(f"{key}_pretokenized")
      if text is not None and example[key][-1]:  # otherwise it ends in padding
        ids = feature.vocabulary.encode(tf.compat.as_text(text))
        self._cut[key] += len(ids) + feature.add_eos > self._lengths[key]
    if self._folder:
      self._inputs.append(
        {k: v for k, v in example.items() if not getattr(v, "ndim", 0)}
      )

  def say_cuts(self) -> None:
    """Prints the nonzero counts, once."""
    for key, count in self._cut.items():
      if count:
        console.say(
          f"{self._task}: {count} of {self._total} {key} were cut at "
          f"{self._lengths[key]} tokens (run.sequence_length)"
        )
    self._cut = {}

  def write(self, step: int, targets, made) -> None:
    """Writes TASK-STEP.jsonl, once per step, as seqio.Evaluator does.

    Args:
      step: of the checkpoint.
      targets: as the task's postprocessor returns them.
      made: the prediction or score of each.
    """
    if not self._folder or step in self._written:
      return
    self._written.add(step)
    lines = [
      json.dumps(
        {"input": example, "target": target, self._made: value},
        cls=_Encoder,
        ensure_ascii=False,
      )
      for example, target, value in zip(
        self._inputs, targets, made, strict=False
      )
    ]
    path = os.path.join(self._folder, f"{self._task}-{step:06}.jsonl")
    files.write(path, "\n".join([*lines, ""]))


class _Encoder(seqio.loggers.TensorAndNumpyEncoder):
  """Writes any other result of a user's postprocessor as text."""

  def default(self, obj):
    try:
      return super().default(obj)
    except TypeError:
      return str(obj)


def _printed(metric_fn, task: str, progress: estimator.Progress, seen: Seen):
  @functools.wraps(metric_fn)
  def call(targets, made):
    seen.say_cuts()
    seen.write(progress.step, targets, made)
    result = metric_fn(targets, made)
    if isinstance(result, collections.abc.Mapping):
      for metric, value in result.items():
        why = _why_nan(value, targets, made)
        progress.print_metric(task, metric, value, why=why)
    return result

  return call


def _why_nan(value, targets, made) -> str:
  """Why a metric is nan, as the end of its line; "" if it is not."""
  if not isinstance(value, float | np.floating) or not np.isnan(value):
    return ""
  for what, found in (("answers", made), ("labels", targets)):
    if len(set(map(str, found))) == 1:
      return f"  (all {what} are equal)"
  return ""


def metrics(metric_fns, task: str, split: str, scored: bool) -> list[Callable]:
  """The metrics that an evaluation computes for a task.

  Args:
    metric_fns: metrics of the task; may be empty.
    task: its name, for messages.
    split: the evaluated split.
    scored: whether it scores targets instead of decoding answers.

  Returns:
    functions; empty if t5 should skip the task
  """
  metric_fns = metric_fns or []
  fitting = [f for f in metric_fns if _takes_scores(f) == scored]
  if scored:
    return fitting
  if metric_fns and not fitting:
    console.say(
      f"{task}: skipped, because its metrics are of log-likelihoods; run.mode "
      "= 'score_eval' computes them"
    )
  elif not metric_fns and split == "test":

    def no_metric(targets, predictions):
      del targets, predictions
      console.say(f"{task}: has no metric; only answers are written")
      return {}

    return [no_metric]
  return _skipped_where_hidden(fitting, task)


def _takes_scores(metric_fn) -> bool:
  return list(inspect.signature(metric_fn).parameters)[1:2] == ["scores"]


def _skipped_where_hidden(metric_fns, task: str) -> list[Callable]:
  """Wraps metrics to return {} for hidden labels, with one message."""
  said = False

  def wrap(metric_fn):
    @functools.wraps(metric_fn)
    def call(targets, predictions):
      nonlocal said
      if not are_hidden(targets):
        return metric_fn(targets, predictions)
      if not said:
        console.say(f"{task}: labels are not public; only answers are written")
      said = True
      return {}

    return call

  return [wrap(f) for f in metric_fns]


def are_hidden(targets) -> bool:
  """Whether the labels of all examples are hidden.

  Args:
    targets: as the task's postprocessor returns them: -1 or an empty list means
      no label; in the dictionaries of MultiRC and ReCoRD it is under "value".
  """

  def hidden(target):
    if isinstance(target, dict):
      target = target.get("value")
    if isinstance(target, list | tuple):
      return not target
    return not isinstance(target, str) and target == -1

  return len(targets) > 0 and all(map(hidden, targets))
