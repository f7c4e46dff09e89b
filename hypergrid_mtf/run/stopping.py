"""SIGTERM during training: it is saved at the step it is at, and ends.

Machines that are taken away (preempted, scheduled off) send it some seconds or
minutes before. The exit status is 143, as for a program that dies of it: the
training did not come to its end, so what follows it in a script must not run.
"""

import contextlib
import functools
import signal
import threading
from unittest import mock

import tensorflow.compat.v1 as tf
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

from hypergrid_mtf.run import console

STATUS = 128 + signal.SIGTERM


class Stop:
  """Whether a training was asked to end before its last step, and where."""

  asked = False
  step: int | None = None


class StopHook(tf.train.SessionRunHook):
  """Ends training after the step at which SIGTERM came.

  Ending a session the orderly way makes mesh_tensorflow's saver save.
  """

  def __init__(self, stop: Stop, max_steps: int | None):
    """Creates the hook.

    Args:
      stop: filled in.
      max_steps: the global step at which training ends anyway.
    """
    self._stop = stop
    self._max_steps = max_steps
    self._listens = False

  def begin(self):
    self._step = tf.train.get_global_step()

  def after_run(self, run_context, run_values):
    del run_values
    if not self._listens:
      # Not earlier: until now there is nothing to save, and a signal that
      # comes while the first step waits for its data would have to wait too.
      self._listens = True
      _listen(self._stop)
    if self._stop.asked:
      run_context.request_stop()

  def end(self, session):
    step = int(session.run(self._step))
    if self._stop.asked and (not self._max_steps or step < self._max_steps):
      self._stop.step = step


def _listen(stop: Stop) -> None:
  def note(number, frame):
    del number, frame
    if not stop.asked:
      stop.asked = True
      console.terminal().write("\nSIGTERM: saving and ending\n")

  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, note)


@contextlib.contextmanager
def sigterm_calls(function=None):
  """Puts back what SIGTERM did before, at the end of this context.

  Args:
    function: that it calls within, as of `signal.signal`.
  """
  if threading.current_thread() is not threading.main_thread():
    yield  # Python gives signals to its main thread alone
    return
  before = signal.getsignal(signal.SIGTERM)
  try:
    if function:
      signal.signal(signal.SIGTERM, function)
    yield
  finally:
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def on_sigterm():
  """Within this context, trainings of t5 end well at SIGTERM.

  Yields:
    a Stop, whose `step` is None while no training was cut short
  """
  stop = Stop()
  original = tpu_estimator.TPUEstimator.train

  @functools.wraps(original)
  def train(self, input_fn, hooks=None, steps=None, max_steps=None, **kwargs):
    hooks = [*(hooks or []), StopHook(stop, max_steps)]
    return original(
      self, input_fn, hooks=hooks, steps=steps, max_steps=max_steps, **kwargs
    )

  with (
    sigterm_calls(),
    mock.patch.object(tpu_estimator.TPUEstimator, "train", train),
  ):
    yield stop
