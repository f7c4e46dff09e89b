"""Progress bars of training and of teacher-forced evaluation.

t5 and Mesh TensorFlow do the work; this module adds hooks to two methods of
their Estimator while a command of ours runs (`show`), and changes nothing they
return. `decoding` shows the rest, `eval_metrics` prints the metrics.
"""

import contextlib
import functools
from unittest import mock

import tensorflow.compat.v1 as tf
import tqdm
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

from hypergrid_mtf.run import console


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


def print_metric(step: int, task: str, metric: str, value: float) -> None:
  """Prints the line of one metric of one task."""
  shown = str(value)
  with contextlib.suppress(TypeError, ValueError):  # not all are numbers
    shown = f"{value:.4g}"
  console.say(f"step {step}  {task}  {metric}  {shown}")


@contextlib.contextmanager
def show():
  """Within this context, training and evaluation of t5 show their progress."""
  estimator_train = tpu_estimator.TPUEstimator.train
  estimator_evaluate = tpu_estimator.TPUEstimator.evaluate

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

  with (
    mock.patch.object(tpu_estimator.TPUEstimator, "train", train),
    mock.patch.object(tpu_estimator.TPUEstimator, "evaluate", evaluate),
  ):
    yield
