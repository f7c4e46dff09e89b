"""`RunEstimator`: the TPUEstimator that does the work of a run.

It shows progress, prints metrics, counts truncated answers, seeds the weights,
and on SIGTERM saves and stops a training. `install` makes Mesh TensorFlow use
it.
"""

import contextlib
import dataclasses
import functools
import os
import time
import types
from typing import Any
from unittest import mock

import numpy as np
import tensorflow.compat.v1 as tf
import tqdm
from mesh_tensorflow.transformer import utils
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import config as gin_config
from hypergrid_mtf.run import console, files

_PAD, _EOS = 0, 1  # as in `clean_decodes`


@dataclasses.dataclass
class Progress:
  """The state of a run, during it and afterwards.

  Attributes:
    seed: of the initial weights; None for TensorFlow's own.
    examples: how many are decoded or scored; 0 if unknown.
    checkpoint: path of the checkpoint being read.
    stop_asked: whether SIGTERM came.
    stopped_at: the step at which SIGTERM stopped a training early.
    evaluated: seconds that a training spent in its evaluations.
    listeners: listeners for the checkpoints that a training saves.
    folder: where metrics are written as CSV; None for nowhere.
    metrics: {"step", "task", "metric", "value"} for each printed metric.
    export: the folder of an exported SavedModel.
    export_size: the most strings that it accepts at once.
  """

  seed: int | None = None
  examples: int = 0
  checkpoint: str | None = None
  stop_asked: bool = False
  stopped_at: int | None = None
  folder: str | None = None
  evaluated: float = 0.0
  listeners: list = dataclasses.field(default_factory=list)
  metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  export: str | None = None
  export_size: int = 0
  # {graph: name of its decoded ids [batch, length]}
  decodes: dict[tf.Graph, str] = dataclasses.field(default_factory=dict)

  @property
  def step(self) -> int:
    """The step of the checkpoint being read."""
    return utils.get_step_from_checkpoint_path(self.checkpoint)

  def print_metric(
    self, task: str, metric: str, value, step=None, why: str = ""
  ) -> None:
    """Prints one metric of one task."""
    shown = str(value)
    with contextlib.suppress(TypeError, ValueError):  # not all are numbers
      shown = f"{value:.4g}"
    if step is None:
      step = self.step
    row = dict(step=int(step), task=task, metric=metric, value=value)
    self.metrics.append(row)
    if self.folder:
      path = os.path.join(self.folder, "metrics.csv")
      files.append_csv(path, row | {"value": shown})
    console.say(f"step {step}  {task}  {metric}  {shown}{why}")

  def where(self, results: str) -> str:
    """Where to find the results of a run, as the end of a line.

    Args:
      results: a folder, a pattern of files, or "".
    """
    if self.export:
      strings = "string" if self.export_size == 1 else "strings"
      return (
        f", see {self.export}, which takes at most {self.export_size} {strings}"
        " at once (the batch size)"
      )
    if tf.io.gfile.isdir(results):
      return f", see {results}"
    found = tf.io.gfile.glob(results) if results else []
    return f", see {', '.join(sorted(found))}" if found else ""


class Stopped(Exception):
  """SIGTERM arrived while a training was evaluating."""


class RunEstimator(tpu_estimator.TPUEstimator):
  """A TPUEstimator with progress, counts and an orderly stop."""

  def __init__(self, progress: Progress, config, predict_batch_size, **kwargs):
    self._progress = progress
    self._predict_size = predict_batch_size
    if progress.seed is not None:
      # config.replace() would copy the resolver of a TPU's cluster.
      config._tf_random_seed = progress.seed
    super().__init__(
      config=config, predict_batch_size=predict_batch_size, **kwargs
    )

  def _assert_members_are_not_overridden(self):
    """Disables Estimator's ban on overriding its methods."""

  def train(self, input_fn, hooks=None, steps=None, max_steps=None, **kwargs):
    progress = self._progress
    bar = TrainingBar(max_steps, self.model_dir, progress)
    ours = [bar, StopHook(progress, max_steps)]
    with console.sigterm_calls():
      return super().train(
        input_fn,
        [*(hooks or []), *ours],
        steps,
        max_steps,
        saving_listeners=progress.listeners,
        **kwargs,
      )

  def evaluate(self, input_fn, steps=None, hooks=None, name=None, **kwargs):
    self._progress.checkpoint = kwargs.get("checkpoint_path")
    hooks = [*(hooks or []), EvaluationBar(name, steps)]
    result = super().evaluate(input_fn, steps, hooks, name=name, **kwargs)
    for metric, value in sorted(result.items()):
      if metric != "global_step":
        step = result["global_step"]
        self._progress.print_metric(name, metric, value, step)
    return result

  def predict(
    self, input_fn, *args, hooks=None, checkpoint_path=None, **kwargs
  ):
    progress = self._progress
    progress.checkpoint = checkpoint_path
    cut = CutAnswers(progress.decodes)
    total = progress.examples or None
    results = super().predict(
      input_fn,
      *args,
      hooks=[*(hooks or []), cut],
      checkpoint_path=checkpoint_path,
      **kwargs,
    )
    decodes = False
    with console.progress_bar(total, "decode", "example") as bar:
      for result in results:
        if progress.stop_asked:
          results.close()  # leaves its graph before the enclosing ones
          raise Stopped
        decodes = "outputs" in result
        if not total or bar.n < total:
          bar.update()  # the last batch is padded
        yield result
    sentence = cut.to_text(total, checkpoint_path) if decodes else None
    if sentence:
      console.say(sentence)

  def export_saved_model(self, *args, **kwargs):
    self._progress.checkpoint = kwargs.get("checkpoint_path")
    folder = super().export_saved_model(*args, **kwargs)
    self._progress.export = tf.compat.as_text(folder)
    self._progress.export_size = self._predict_size
    return folder


@contextlib.contextmanager
def install(progress: Progress):
  """Within this context, Mesh TensorFlow's estimators are RunEstimators.

  Args:
    progress: updated while they work.
  """
  clean_decodes = utils.clean_decodes

  @functools.wraps(clean_decodes)
  def note_ids(*args, **kwargs):
    ids = clean_decodes(*args, **kwargs)
    # They cannot be fetched from inside a TPU's loop.
    if ids.op._get_control_flow_context() is None:
      progress.decodes[ids.graph] = ids.name  # the answers are cleaned last
    return ids

  # Not patched in its own module, where the class itself uses the name.
  seen_by_mesh = types.SimpleNamespace(
    TPUEstimator=functools.partial(RunEstimator, progress),
    TPUEstimatorSpec=tpu_estimator.TPUEstimatorSpec,
  )
  with (
    mock.patch.object(utils, "tpu_estimator", seen_by_mesh),
    mock.patch.object(utils, "clean_decodes", note_ids),
  ):
    yield


class TrainingBar(tf.train.SessionRunHook):
  """Shows the progress of a training, and writes its losses as CSV."""

  def __init__(self, max_steps: int | None, model_dir: str, progress: Progress):
    self._progress = progress
    self._max_steps = max_steps
    self._model_dir = model_dir
    self._csv = os.path.join(model_dir, "train.csv")
    self._every = min(100, max(1, (max_steps or 0) // 100))  # steps per row
    self._row: dict[str, Any] = {}  # the last step's

  def begin(self):
    self._fetches = {"step": tf.train.get_global_step()}
    losses = tf.get_collection(tf.GraphKeys.LOSSES)
    if losses:
      self._fetches["loss"] = losses[-1]

  def after_create_session(self, session, coord):
    del coord
    step = int(session.run(self._fetches["step"]))
    self._bar = console.progress_bar(self._max_steps, "train", "step", step)
    self._written, self._began = step, (step, time.monotonic())
    files.cut_csv(self._csv, step)

  def before_run(self, run_context):
    del run_context
    return tf.train.SessionRunArgs(self._fetches)

  def after_run(self, run_context, run_values):
    del run_context
    # The step may be read before or after its increment: never count backwards.
    step = max(int(run_values.results["step"]), self._bar.n)
    if "loss" in run_values.results:
      loss = f"{run_values.results['loss']:.4g}"
      self._bar.set_postfix(loss=loss, refresh=False)
      self._row = {"step": step, "loss": loss}
      if step >= self._written + self._every:
        self._write_row()
    self._bar.update(step - self._bar.n)

  def end(self, session):
    step = int(session.run(self._fetches["step"]))
    self._bar.update(step - self._bar.n)
    self._bar.refresh()
    self._bar.close()
    began, since = self._began
    if step == began or not self._row:
      return
    if step > self._written:
      self._row["step"] = step
      self._write_row()
    evaluated, interval = self._progress.evaluated, tqdm.tqdm.format_interval
    seconds = time.monotonic() - since - evaluated
    path = tf.train.latest_checkpoint(self._model_dir)
    more = f" and evaluated for {interval(evaluated)}" if evaluated else ""
    console.say(
      f"trained {step - began} steps in {interval(seconds)}{more} "
      f"({(step - began) / seconds:.3g} steps per second): loss "
      f"{self._row['loss']}, {checkpoints.count_parameters(path):,} parameters"
    )

  def _write_row(self):
    self._written = self._row["step"]
    files.append_csv(self._csv, self._row)


class EvaluationBar(tf.train.SessionRunHook):
  """Shows the progress of a teacher-forced evaluation, in batches."""

  def __init__(self, name: str | None, steps: int | None):
    self._name = name or "evaluate"
    self._steps = steps

  def after_create_session(self, session, coord):
    del session, coord
    self._bar = console.progress_bar(self._steps, self._name, "batch")

  def after_run(self, run_context, run_values):
    del run_context, run_values
    if not self._steps or self._bar.n < self._steps:
      self._bar.update()

  def end(self, session):
    del session
    self._bar.close()


class StopHook(tf.train.SessionRunHook):
  """Stops training after the step in which SIGTERM arrived.

  Preemptible machines send SIGTERM seconds or minutes before they stop. Ending
  the session in an orderly way makes Mesh TensorFlow's saver save.
  """

  def __init__(self, progress: Progress, max_steps: int | None):
    self._progress = progress
    self._max_steps = max_steps
    self._listens = False

  def begin(self):
    self._step = tf.train.get_global_step()

  def after_run(self, run_context, run_values):
    del run_values
    if not self._listens:
      # Not earlier: before the first step there is nothing to save, and a
      # signal that arrives while it waits for data would have to wait too.
      self._listens = True
      console.on_sigterm(self._ask)
    if self._progress.stop_asked:
      run_context.request_stop()

  def _ask(self, number, frame):
    del number, frame
    if not self._progress.stop_asked:
      self._progress.stop_asked = True
      console.terminal().write("\nSIGTERM: saving and ending\n")

  def end(self, session):
    step = int(session.run(self._step))
    if self._progress.stop_asked and step < (self._max_steps or np.inf):
      self._progress.stopped_at = step


class CutAnswers(tf.train.SessionRunHook):
  """Counts the decoded answers that were cut at the length limit."""

  def __init__(self, decodes: dict[tf.Graph, str]):
    """Creates the hook.

    Args:
      decodes: `Progress.decodes`. For a graph that is not in it, as on a TPU,
        nothing is counted.
    """
    self._decodes = decodes
    self._ids = None
    self.limit = None
    self.cut: list[bool] = []  # one per answer

  def begin(self):
    graph = tf.get_default_graph()
    name = self._decodes.pop(graph, None)
    self._ids = graph.get_tensor_by_name(name) if name else None

  def before_run(self, run_context):
    del run_context
    if self._ids is not None:
      return tf.train.SessionRunArgs(self._ids)

  def after_run(self, run_context, run_values):
    del run_context
    if self._ids is not None:
      ids = run_values.results
      self.limit = ids.shape[-1]
      self.cut += [bool(row[-1] not in (_PAD, _EOS)) for row in ids]

  def to_text(self, answers: int | None, checkpoint: str | None) -> str | None:
    """A sentence about the number of cut answers, or None if there are none.

    Args:
      answers: number of answers; any after these only fill the last batch.
      checkpoint: path of the checkpoint that gave them.
    """
    cut = self.cut[:answers]
    if not any(cut):
      return None
    step = f" of step {checkpoint.rsplit('-', 1)[-1]}" if checkpoint else ""
    limit = "Bitransformer.decode.max_decode_length"
    if gin_config.value(limit) is None:
      limit = f"the length of the inputs; {limit} sets another limit"
    return (
      f"{sum(cut)} of {len(cut)} answers{step} were cut at {self.limit} tokens "
      f"({limit})"
    )
