"""An Estimator's training that is asked to end, and goes on later."""

import os
import signal

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow_estimator.python.estimator.tpu import (
  tpu_config,
  tpu_estimator,
)

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import data_order, stopping

STEPS = 8


class _Terminate(tf.train.SessionRunHook):
  """Sends SIGTERM to this process during a step."""

  def __init__(self, run):
    self._run = run
    self._runs = 0

  def before_run(self, run_context):
    self._runs += 1
    if self._runs == self._run:
      os.kill(os.getpid(), signal.SIGTERM)


def _input_fn(params):
  del params
  return tf.data.Dataset.range(100).shuffle(100, seed=1).repeat()


def _model_fn(features, labels, mode, params):
  """Keeps what it was fed: the sum of batch times step."""
  del labels, params
  step = tf.train.get_global_step()
  seen = tf.get_variable("seen", initializer=tf.zeros([], tf.int64))
  value = (tf.identity(step) + 1) * features
  with tf.control_dependencies([value]):
    train = tf.group(tf.assign_add(seen, value), tf.assign_add(step, 1))
  return tf.estimator.EstimatorSpec(mode, loss=tf.constant(0.0), train_op=train)


def _train(folder, hooks=()):
  estimator = tpu_estimator.TPUEstimator(
    _model_fn,
    config=tpu_config.RunConfig(model_dir=str(folder)),
    use_tpu=False,
    train_batch_size=1,
  )
  estimator.train(_input_fn, hooks=list(hooks), max_steps=STEPS)
  latest = checkpoints.latest_checkpoint(str(folder))
  seen = tf.train.load_checkpoint(latest).get_tensor("seen")
  return checkpoints.step_of(latest), seen


def test_a_training_ends_at_sigterm_and_goes_on_where_it_was(tmp_path, capsys):
  before = signal.getsignal(signal.SIGTERM)
  with stopping.on_sigterm() as stop:
    step, _ = _train(tmp_path / "run", [_Terminate(3)])
  assert (step, stop.asked, stop.step) == (3, True, 3)
  assert signal.getsignal(signal.SIGTERM) == before
  with data_order.going_on(0), stopping.on_sigterm() as stop:
    step, seen = _train(tmp_path / "run")
  assert (step, stop.asked, stop.step) == (STEPS, False, None)
  assert "skipping the 3 batches" in capsys.readouterr().out
  with stopping.on_sigterm() as stop:
    once = _train(tmp_path / "once", [_Terminate(STEPS)])
  assert once == (STEPS, seen)
  assert stop.asked and stop.step is None  # it had come to its end anyway
  np.testing.assert_equal(_train(tmp_path / "once")[1], seen)
