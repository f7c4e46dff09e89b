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
from collections.abc import Callable

import gin
from mesh_tensorflow.transformer import dataset as transformer_dataset

from hypergrid_mtf.run import config, console, estimator


def bind_metrics(scored: bool, progress: estimator.Progress) -> None:
  """Has the evaluation that gin describes compute the metrics that fit."""
  name = "run.eval_dataset_fn"
  gin.bind_parameter(name, datasets_fn(config.value(name), scored, progress))


def datasets_fn(
  original: Callable, scored: bool, progress: estimator.Progress
) -> Callable:
  """A `run.eval_dataset_fn` whose data sets have the metrics that fit.

  Args:
    original: the one that was bound.
    scored: whether the evaluation makes scores of targets, and not answers.
    progress: of the run; its examples are counted as their targets are read.
  """

  @functools.wraps(original)
  def datasets(*, dataset_split: str, **kwargs):
    found = original(dataset_split=dataset_split, **kwargs)
    return [
      _fitted(transformer_dataset.EvalDataset(*d), dataset_split) for d in found
    ]

  def _fitted(dataset, split):
    def postprocess(*args, **kwargs):
      progress.examples += bool(kwargs.get("is_target"))
      return dataset.postprocess_fn(*args, **kwargs)

    fitting = metrics(dataset.metric_fns, dataset.name, split, scored)
    return dataset._replace(
      postprocess_fn=postprocess,
      metric_fns=[_printed(f, dataset.name, progress) for f in fitting],
    )

  return datasets


def _printed(metric_fn, task: str, progress: estimator.Progress):
  @functools.wraps(metric_fn)
  def call(*args, **kwargs):
    result = metric_fn(*args, **kwargs)
    if isinstance(result, collections.abc.Mapping):
      for metric, value in result.items():
        progress.print_metric(task, metric, value)
    return result

  return call


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
