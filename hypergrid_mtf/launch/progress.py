"""Progress bars on training and decoding, and one line a task and metric.

t5 and Mesh TensorFlow do the work; this module wraps five of their functions
while a command of ours runs (`show`), and changes nothing they return, the
metrics of hidden labels apart.
"""

import contextlib
import functools
import logging
from unittest import mock

import tensorflow.compat.v1 as tf
import tqdm
from mesh_tensorflow.transformer import dataset as transformer_dataset
from mesh_tensorflow.transformer import utils
from seqio import evaluation
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

from hypergrid_mtf.launch import console, hidden_labels


def bar(total: int | None, what: str, unit: str, initial: int = 0) -> tqdm.tqdm:
  """A progress bar on the terminal, sparing where output is a file.

  Args:
    total: how many there are, or None if nobody knows.
    what: the word in front.
    unit: what is counted, e.g. "step".
    initial: how many were done before.

  Returns:
    a tqdm bar; the caller closes it.
  """
  stream = console.terminal()
  return tqdm.tqdm(
    total=total,
    initial=initial,
    desc=what,
    unit=f" {unit}{'es' if unit.endswith('ch') else 's'}",
    file=stream,
    mininterval=0.5 if stream.isatty() else 20.0,
    maxinterval=5.0 if stream.isatty() else 30.0,
    dynamic_ncols=True,
  )


class TrainingBar(tf.train.SessionRunHook):
  """Step, loss, steps a second and time left of an Estimator's training."""

  def __init__(self, max_steps: int | None):
    """Creates the hook.

    Args:
      max_steps: the global step to stop at.
    """
    self._max_steps = max_steps
    self._bar = None

  def begin(self):
    self._fetches = {"step": tf.train.get_global_step()}
    losses = tf.get_collection(tf.GraphKeys.LOSSES)
    if losses:
      self._fetches["loss"] = losses[-1]

  def after_create_session(self, session, coord):
    del coord
    step = int(session.run(self._fetches["step"]))
    self._bar = bar(self._max_steps, "train", "step", initial=step)

  def before_run(self, run_context):
    del run_context
    return tf.train.SessionRunArgs(self._fetches)

  def after_run(self, run_context, run_values):
    del run_context
    # The step is read before or after its own increment: never count backwards.
    step = max(int(run_values.results["step"]), self._bar.n)
    if "loss" in run_values.results:
      self._bar.set_postfix(
        loss=f"{run_values.results['loss']:.4g}", refresh=False
      )
    self._bar.update(step - self._bar.n)

  def end(self, session):
    step = int(session.run(self._fetches["step"]))
    self._bar.update(step - self._bar.n)
    self._bar.refresh()
    self._bar.close()
    self._bar = None


class EvaluationBar(tf.train.SessionRunHook):
  """Batches done of an Estimator's teacher-forced evaluation."""

  def __init__(self, name: str | None, steps: int | None):
    """Creates the hook.

    Args:
      name: what is evaluated.
      steps: batches in all, or None for a whole data set.
    """
    self._name = name or "evaluate"
    self._steps = steps
    self._bar = None

  def after_create_session(self, session, coord):
    del session, coord
    self._bar = bar(self._steps, self._name, "batch")

  def after_run(self, run_context, run_values):
    del run_context, run_values
    if not self._steps or self._bar.n < self._steps:
      self._bar.update()

  def end(self, session):
    del session
    self._bar.close()


class _MetricLines(logging.Handler):
  """Prints what t5 and Mesh TensorFlow log for each task and metric.

  Both of t5's evaluation loops log it alike, which is the one place where they
  meet.
  """

  def emit(self, record):
    if record.msg == "%s at step %d: %.3f" and len(record.args) == 3:
      tag, step, value = record.args
      task, metric = tag.removeprefix("eval/").rsplit("/", 1)
      print_metric(step, task, metric, value)


def print_metric(step: int, task: str, metric: str, value: float) -> None:
  """Prints the line of one metric of one task."""
  with contextlib.suppress(TypeError, ValueError):  # not all are numbers
    value = f"{value:.4g}"
  console.say(f"step {step}  {task}  {metric}  {value}")


@contextlib.contextmanager
def show():
  """Within this context, training and evaluation of t5 show their progress."""
  examples = 0  # of the evaluation that is under way
  metric_lines = _MetricLines()
  estimator_train = tpu_estimator.TPUEstimator.train
  estimator_evaluate = tpu_estimator.TPUEstimator.evaluate
  original_decode = utils.decode
  original_eval_model = utils.eval_model
  original_valid_tasks = evaluation.get_valid_eval_tasks

  @functools.wraps(estimator_train)
  def train(self, input_fn, hooks=None, steps=None, max_steps=None, **kwargs):
    hooks = [*(hooks or []), TrainingBar(max_steps)]
    return estimator_train(
      self, input_fn, hooks=hooks, steps=steps, max_steps=max_steps, **kwargs
    )

  @functools.wraps(estimator_evaluate)
  def evaluate(self, input_fn, steps=None, hooks=None, name=None, **kwargs):
    hooks = [*(hooks or []), EvaluationBar(name, steps)]
    result = estimator_evaluate(
      self, input_fn, steps=steps, hooks=hooks, name=name, **kwargs
    )
    for metric, value in sorted(result.items()):
      if metric != "global_step":
        print_metric(result["global_step"], name, metric, value)
    return result

  @functools.wraps(original_decode)
  def decode(estimator, input_fn, vocabulary, checkpoint_path=None):
    outputs = original_decode(estimator, input_fn, vocabulary, checkpoint_path)
    with bar(examples or None, "decode", "example") as progress:
      for output in outputs:
        if not progress.total or progress.n < progress.total:
          progress.update()  # the last batch is padded beyond the total
        yield output

  def watched(dataset, split):
    """The data set: its targets are counted, hidden labels not scored."""
    dataset = transformer_dataset.EvalDataset(*dataset)
    metric_fns = hidden_labels.metrics(
      dataset.metric_fns or [], dataset.name, split
    )

    def postprocess(*args, **kwargs):
      nonlocal examples
      examples += bool(kwargs.get("is_target"))
      return dataset.postprocess_fn(*args, **kwargs)

    return dataset._replace(postprocess_fn=postprocess, metric_fns=metric_fns)

  @functools.wraps(original_eval_model)
  def eval_model(*args, **kwargs):
    nonlocal examples
    examples = 0
    names = original_eval_model.__code__.co_varnames
    kwargs.update(zip(names, args, strict=False))
    eval_dataset_fn = kwargs["eval_dataset_fn"]
    if eval_dataset_fn is not None:
      kwargs["eval_dataset_fn"] = lambda **kw: [
        watched(d, kw["dataset_split"]) for d in eval_dataset_fn(**kw)
      ]
    return original_eval_model(**kwargs)

  @functools.wraps(original_valid_tasks)
  def valid_tasks(tasks, split):
    """The tasks that `MtfModel.eval` evaluates, hidden labels not scored."""
    return original_valid_tasks(
      [
        t.replace(metric_fns=hidden_labels.metrics(t.metric_fns, t.name, split))
        for t in tasks
      ],
      split,
    )

  with (
    mock.patch.object(evaluation, "get_valid_eval_tasks", valid_tasks),
    mock.patch.object(tpu_estimator.TPUEstimator, "train", train),
    mock.patch.object(tpu_estimator.TPUEstimator, "evaluate", evaluate),
    mock.patch.object(utils, "decode", decode),
    mock.patch.object(utils, "eval_model", eval_model),
  ):
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    for logger in loggers:
      logger.addHandler(metric_lines)
    try:
      yield
    finally:
      for logger in loggers:
        logger.removeHandler(metric_lines)
