"""Which metrics an evaluation computes of a task, and where labels are hidden.

t5 keeps metrics of answers and of log likelihoods in one list. As SeqIO has it,
one of scores takes (targets, scores), such as `rank_classification`, and any
other takes (targets, predictions). Mesh TensorFlow calls all of them with what
its mode makes: scores in `score_eval`, answers in `eval`. Of test splits whose
labels only the benchmark's server knows, TFDS gives -1: t5 passes that to the
metrics, some of which then stop the evaluation before the other tasks are
decoded; and it decodes no task without metrics, such as the diagnostic sets.
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
  """Has the evaluation that gin describes compute the metrics that fit."""
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
  """A `run.eval_dataset_fn` whose data sets have the metrics that fit.

  Args:
    original: the one that was bound.
    scored: whether the evaluation makes scores of targets, and not answers.
    progress: of the run; its examples are counted as their targets are read.
    folder: where examples and what was made of them go; None for nowhere.
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
  """The examples of a task: how many were cut, and what was made of them."""

  def __init__(self, task: str, lengths, scored: bool, folder: str | None):
    """Begins with none.

    Args:
      task: its name; of one that SeqIO does not know, no cuts are counted.
      lengths: run.sequence_length; None for no cuts.
      scored: whether targets are cut too; answers are compared with whole ones.
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
    self._inputs: list[dict] = []  # of each example
    self._total = 0
    self._written: set[int] = set()  # steps

  def add(self, example) -> None:
    """Takes an example as t5 reads it: cut, padded, with its texts."""
    self._total += 1
    for key, feature in self._features.items():
      text = example.get(f"{key}_pretokenized")
      if text is not None and example[key][-1]:  # else it ends in padding
        ids = feature.vocabulary.encode(tf.compat.as_text(text))
        self._cut[key] += len(ids) + feature.add_eos > self._lengths[key]
    if self._folder:
      self._inputs.append(
        {k: v for k, v in example.items() if not getattr(v, "ndim", 0)}
      )

  def say_cuts(self) -> None:
    """Prints the counts that are not 0, once."""
    for key, count in self._cut.items():
      if count:
        console.say(
          f"{self._task}: {count} of {self._total} {key} were cut at "
          f"{self._lengths[key]} tokens (run.sequence_length)"
        )
    self._cut = {}

  def write(self, step: int, targets, made) -> None:
    """Writes TASK-STEP.jsonl, once a step, as seqio.Evaluator does.

    Args:
      step: of the checkpoint.
      targets: as the task's postprocessor gives them.
      made: of each, the prediction or the score.
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
  """Also of whatever else a postprocessor of the user's gives: its text."""

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
  """Why a metric has no value, for the end of its line; "" if it has."""
  if not isinstance(value, float | np.floating) or not np.isnan(value):
    return ""
  for what, found in (("answers", made), ("labels", targets)):
    if len(set(map(str, found))) == 1:
      return f"  (all {what} are equal)"
  return ""


def metrics(metric_fns, task: str, split: str, scored: bool) -> list[Callable]:
  """The metrics that an evaluation computes of a task.

  Args:
    metric_fns: of the task; may be none.
    task: its name, for messages.
    split: that is evaluated.
    scored: whether it makes scores of targets, and not answers.

  Returns:
    functions; none where t5 should leave out the task
  """
  metric_fns = metric_fns or []
  fitting = [f for f in metric_fns if _takes_scores(f) == scored]
  if scored:
    return fitting
  if metric_fns and not fitting:
    console.say(
      f"{task}: left out, its metrics are of log likelihoods; "
      "run.mode = 'score_eval' computes them"
    )
  elif not metric_fns and split == "test":

    def no_metric(targets, predictions):
      del targets, predictions
      console.say(f"{task}: has no metric, so answers but no scores")
      return {}

    return [no_metric]
  return _skipped_where_hidden(fitting, task)


def _takes_scores(metric_fn) -> bool:
  return list(inspect.signature(metric_fn).parameters)[1:2] == ["scores"]


def _skipped_where_hidden(metric_fns, task: str) -> list[Callable]:
  """As many functions, which return {} for hidden labels, and say so once."""
  said = False

  def wrap(metric_fn):
    @functools.wraps(metric_fn)
    def call(targets, predictions):
      nonlocal said
      if not are_hidden(targets):
        return metric_fn(targets, predictions)
      if not said:
        console.say(f"{task}: labels are not public, so answers but no scores")
      said = True
      return {}

    return call

  return [wrap(f) for f in metric_fns]


def are_hidden(targets) -> bool:
  """Whether no example has a label.

  Args:
    targets: as the task's postprocessor gives them: -1 or an empty list stand
      for no label, in a dictionary of MultiRC and ReCoRD under "value".
  """

  def hidden(target):
    if isinstance(target, dict):
      target = target.get("value")
    if isinstance(target, list | tuple):
      return not target
    return not isinstance(target, str) and target == -1

  return len(targets) > 0 and all(map(hidden, targets))
