"""A model in a session that takes real steps of t5.

`utils.run` makes the Estimator from the gin files, and its model function makes
the graph, with Adafactor and everything else of a run on a CPU. Only the input
pipeline and checkpoint writing are left out.
"""

import re

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from tensorflow.python.client import timeline
from tensorflow_estimator.python.estimator import run_config

from hypergrid_mtf.run import files
from tools.cost import steps


class Model:
  """A model in a session, ready to step.

  Attributes:
    num_ops: operations of its graph.
    num_parameters: of the model.
  """

  def __init__(self, job: steps.Job):
    """Builds the graph and initializes the variables at random.

    Raises:
      UserError: for bindings that do not describe a model.
    """
    job.bind()
    estimator = steps.make_estimator(job.case)
    graph = tf.Graph()
    with graph.as_default():
      tf.set_random_seed(1)
      # As in training; one made by tf.train would not be a resource variable.
      estimator._create_global_step(graph)
      mode = steps.MODES[job.case.name]
      features = _feature_variables(job.case)
      spec = estimator.model_fn(features, None, mode, estimator.config)
      self._fetches = _fetches(spec, mode)
      self.num_ops = len(graph.get_operations())
      self.num_parameters = sum(
        v.shape.num_elements()
        for v in tf.global_variables()
        if v is not tf.train.get_global_step()
        and not re.search(r"_slot_\w+$", v.op.name)
      )
      self._session = _open_session(estimator, spec)

  def run(self) -> dict:
    """Takes one step.

    Returns:
      what the Estimator fetches: `loss`, or `outputs` (token ids) when decoding
    """
    return self._session.run(self._fetches)

  def trace(self, path: str) -> None:
    """Takes one step, and writes its trace for chrome://tracing or Perfetto."""
    metadata = tf.RunMetadata()
    self._session.run(
      self._fetches,
      options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
      run_metadata=metadata,
    )
    trace = timeline.Timeline(metadata.step_stats)
    files.write(path, trace.generate_chrome_trace_format(show_memory=False))

  def close(self) -> None:
    """Ends the session."""
    self._session.close()


def _feature_variables(case: steps.Case) -> dict[str, tf.Tensor]:
  """The features as variables; with constants TensorFlow would fold the masks.

  They are local, so optimizers and savers ignore them.
  """
  return {
    name: tf.get_variable(
      f"benchmark/{name}",
      initializer=ids,
      trainable=False,
      collections=[tf.GraphKeys.LOCAL_VARIABLES],
    ).read_value()
    for name, ids in steps.make_features(case).items()
  }


def _fetches(spec, mode) -> dict:
  """What the Estimator fetches in a step of this mode."""
  if mode == tf.estimator.ModeKeys.TRAIN:
    return dict(train_op=spec.train_op, loss=spec.loss)
  if mode == tf.estimator.ModeKeys.EVAL:
    updates = [update for _, update in spec.eval_metric_ops.values()]
    return dict(updates=tf.group(*updates), loss=spec.loss)
  return spec.predictions


def _open_session(estimator, spec):
  """A session as opened by the Estimator, without hooks that write files."""
  hooks = [
    hook
    for hook in (
      *spec.training_hooks,
      *spec.training_chief_hooks,
      *spec.evaluation_hooks,
      *spec.prediction_hooks,
    )
    if isinstance(hook, mtf.MtfRestoreHook)
  ]
  creator = tf.train.ChiefSessionCreator(
    spec.scaffold or tf.train.Scaffold(),
    config=estimator.config.session_config
    or run_config.get_default_session_config(),
  )
  return tf.train.MonitoredSession(creator, hooks=hooks)
