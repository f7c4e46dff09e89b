"""Which metrics an evaluation computes of a task.

t5 keeps metrics of answers and of log likelihoods in one list. As SeqIO has it,
one of scores takes (targets, scores), such as `rank_classification`, and any
other takes (targets, predictions). Mesh TensorFlow calls all of them with what
its mode makes: scores in `score_eval`, answers in `eval`. While a command of
ours runs (`choose`), those that fit are called, and none for hidden labels;
what they give is printed, a line a task and metric.
"""

import collections.abc
import contextlib
import functools
import inspect
from unittest import mock

import seqio
from mesh_tensorflow.transformer import dataset as transformer_dataset
from mesh_tensorflow.transformer import utils
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, hidden_labels, progress


def of_kind(metric_fns, scored: bool) -> list:
  """The metrics that an evaluation can compute.

  Args:
    metric_fns: of one task.
    scored: whether it makes scores of targets, and not answers.

  Returns:
    those of them that take what it makes
  """
  return [f for f in metric_fns if _takes_scores(f) == scored]


def check(mixture_or_task, split: str | None) -> None:
  """Checks that `score_eval` has something to compute.

  Args:
    mixture_or_task: a seqio Mixture or Task.
    split: that is evaluated.

  Raises:
    UserError: if no task with the split has a metric of scores.
  """
  if not any(
    of_kind(task.metric_fns, scored=True)
    for task in seqio.get_subtasks(mixture_or_task)
    if split in task.splits
  ):
    raise errors.UserError(
      f"run.mode = 'score_eval' computes metrics of log likelihoods, such as "
      f"rank_classification, and no task of {mixture_or_task.name} has one: "
      "take 'eval' for its metrics, 'perplexity_eval' for the loss, or "
      "--gin_file=score_from_task.gin to have the log likelihoods written."
    )


def metrics(metric_fns, task: str, split: str, scored: bool) -> list:
  """The metrics that an evaluation computes of a task.

  Args:
    metric_fns: of the task; may be none.
    task: its name, for messages.
    split: that is evaluated.
    scored: whether it makes scores of targets, and not answers.

  Returns:
    functions; none where t5 should leave out the task
  """
  fitting = of_kind(metric_fns or [], scored)
  if scored:
    return fitting
  if metric_fns and not fitting:
    console.say(
      f"{task}: left out, its metrics are of log likelihoods; "
      "run.mode = 'score_eval' computes them"
    )
    return []
  return hidden_labels.metrics(fitting, task, split)


@contextlib.contextmanager
def choose():
  """Within this context, t5's evaluations compute the metrics that fit."""
  original_eval_model = utils.eval_model
  original_valid_tasks = seqio.evaluation.get_valid_eval_tasks
  original_predict = tpu_estimator.TPUEstimator.predict
  signature = inspect.signature(original_eval_model)
  evaluated = None  # path of the checkpoint whose answers they are

  @functools.wraps(original_predict)
  def predict(self, input_fn, *args, checkpoint_path=None, **kwargs):
    nonlocal evaluated
    evaluated = checkpoint_path
    return original_predict(
      self, input_fn, *args, checkpoint_path=checkpoint_path, **kwargs
    )

  def printed(metric_fn, task):
    @functools.wraps(metric_fn)
    def call(*args, **kwargs):
      result = metric_fn(*args, **kwargs)
      if evaluated and isinstance(result, collections.abc.Mapping):
        step = utils.get_step_from_checkpoint_path(evaluated)
        for metric, value in result.items():
          progress.print_metric(step, task, metric, value)
      return result

    return call

  def chosen(metric_fns, task, split, scored):
    fitting = metrics(metric_fns, task, split, scored)
    return [printed(f, task) for f in fitting]

  def fitted(dataset, split, scored):
    dataset = transformer_dataset.EvalDataset(*dataset)
    return dataset._replace(
      metric_fns=chosen(dataset.metric_fns, dataset.name, split, scored)
    )

  @functools.wraps(original_eval_model)
  def eval_model(*args, **kwargs):
    asked = dict(signature.bind(*args, **kwargs).arguments)
    eval_dataset_fn = asked["eval_dataset_fn"]
    scored = asked.get("eval_with_score", False)
    if eval_dataset_fn is not None:
      asked["eval_dataset_fn"] = lambda **kw: [
        fitted(d, kw["dataset_split"], scored) for d in eval_dataset_fn(**kw)
      ]
    return original_eval_model(**asked)

  @functools.wraps(original_valid_tasks)
  def valid_tasks(tasks, split):
    """The tasks that `MtfModel.eval` evaluates."""
    return original_valid_tasks(
      [
        t.replace(metric_fns=chosen(t.metric_fns, t.name, split, False))
        for t in tasks
      ],
      split,
    )

  with (
    mock.patch.object(tpu_estimator.TPUEstimator, "predict", predict),
    mock.patch.object(utils, "eval_model", eval_model),
    mock.patch.object(seqio.evaluation, "get_valid_eval_tasks", valid_tasks),
  ):
    yield


def _takes_scores(metric_fn) -> bool:
  names = list(inspect.signature(metric_fn).parameters)
  return names[1:2] == ["scores"]
