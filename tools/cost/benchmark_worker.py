"""The process of the benchmark that holds one model and steps when told.

`tools.benchmark` starts it, one process a model, so that each has a peak memory
of its own. The step is t5's: `utils.run` makes the Estimator from the gin
files, and the Estimator's model function makes the graph, with Adafactor and
all else that a run on a CPU has. Only the input pipeline and the writing of
checkpoints are left out.
"""

import collections
import ctypes
import dataclasses
import json
import os
import re
import signal
import sys
import time
import traceback
import types
from unittest import mock

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils
from tensorflow_estimator.python.estimator import run_config

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_model
from tools import environment
from tools.cost import benchmark_cases as cases
from tools.cost import models

MODES = {
  "train": tf.estimator.ModeKeys.TRAIN,
  "train_packed": tf.estimator.ModeKeys.TRAIN,
  "eval": tf.estimator.ModeKeys.EVAL,
  "decode": tf.estimator.ModeKeys.PREDICT,
  "score": tf.estimator.ModeKeys.PREDICT,
}
# No decode_tf: turning ids into text is not work of the model.
_VOCABULARY = types.SimpleNamespace(vocab_size=models.VOCAB_SIZE)
_NO_MODEL_DIR = os.path.join(os.devnull, "model")  # the Estimator wants a name
_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Job:
  """What a worker is to hold.

  Attributes:
    size: a file of operative_configs/models.
    case: the step.
    setting: the model.
    activation_dtype: "float32", as t5 runs on a CPU, or "bfloat16".
    gin_params: the user's own bindings; they come last.
  """

  size: str
  case: cases.Case
  setting: models.Setting
  activation_dtype: str = "float32"
  gin_params: tuple[str, ...] = ()

  def to_json(self) -> str:
    return json.dumps(dataclasses.asdict(self))

  def bind(self) -> None:
    """Makes gin's configuration that of the job."""
    bind(self)

  @staticmethod
  def from_json(text: str) -> "Job":
    fields = json.loads(text)
    fields["case"] = cases.Case(**fields["case"])
    fields["setting"] = models.Setting(**fields["setting"])
    fields["gin_params"] = tuple(fields["gin_params"])
    return Job(**fields)


def bind(job: Job) -> None:
  """Makes gin's configuration that of the job, as a run on a CPU has it.

  Args:
    job: size, setting and bindings.

  Raises:
    UserError: for a binding that gin refuses.
  """
  files = [
    f"models/{job.size}.gin",
    *job.setting.gin_files,
    "learning_rate_schedules/constant_0_001.gin",  # t5's fine-tuning
  ]
  bindings = [
    # What t5's main, and ours, bind where there is no TPU.
    'utils.get_variable_dtype.slice_dtype = "float32"',
    f'utils.get_variable_dtype.activation_dtype = "{job.activation_dtype}"',
    'run.mesh_shape = "model:1,batch:1"',
    'run.mesh_devices = ["cpu:0"]',
    *job.setting.gin_params,
    "Bitransformer.decode.beam_size = 1",
    "Bitransformer.decode.temperature = 0.0",
    f"Bitransformer.decode.max_decode_length = {job.case.targets}",
    # Decoding ends when every row holds this token: without one, it takes all
    # its steps, so that all models do the same work.
    "Unitransformer.sample_autoregressive.stop_at_token = None",
  ]
  gin_model.bind(files, [*bindings, *job.gin_params], trains=True)


def check(job: Job):
  """Builds the model, without a graph, and checks its HyperGrid layers.

  Args:
    job: what a worker would hold.

  Returns:
    a transformer.Bitransformer

  Raises:
    UserError: for bindings that do not describe a model.
  """
  bind(job)
  return gin_model.build(models.VOCAB_SIZE)


class Model:
  """One model in a session, ready to step."""

  def __init__(self, job: Job):
    """Builds the graph and initialises the variables at random.

    Args:
      job: what to hold.

    Raises:
      UserError: for bindings that do not describe a model.
    """
    bind(job)
    begin = time.perf_counter()
    self._estimator = estimator(job.case)
    self._graph = tf.Graph()
    with self._graph.as_default():
      tf.set_random_seed(1)
      # As in training: one of tf.train would not be a resource variable here.
      self._estimator._create_global_step(self._graph)
      mode = MODES[job.case.name]
      spec = self._estimator.model_fn(
        _feature_variables(job.case), None, mode, self._estimator.config
      )
      self._fetches = _fetches(spec, mode)
      self.num_ops = len(self._graph.get_operations())
      self.num_parameters = sum(
        v.shape.num_elements()
        for v in tf.global_variables()
        if v is not tf.train.get_global_step()
        and not re.search(r"_slot_\w+$", v.op.name)
      )
      self.build_seconds = time.perf_counter() - begin
      self._session = _session(self._estimator, spec)
    self.start_peak = environment.peak_memory()
    _forget_peak_memory()

  @property
  def peak(self) -> int:
    """Peak resident memory of this process in bytes."""
    return max(self.start_peak, environment.peak_memory())

  def run(self) -> dict:
    """Takes one step.

    Returns:
      what the Estimator fetches: `loss`, but of decoding `outputs` (token ids)
    """
    return self._session.run(self._fetches)

  def step(self) -> float:
    """Takes one step.

    Returns:
      its wall time in seconds
    """
    begin = time.perf_counter()
    self.run()
    return time.perf_counter() - begin

  def profile(self) -> list[dict]:
    """Takes one step with a full trace.

    Returns:
      one record for each kind of op and shape of its first output: `op`,
      `shape`, `count`, and the `seconds` its kernels took, longest first. With
      several cores these add up to more than the wall time.
    """
    metadata = tf.RunMetadata()
    self._session.run(
      self._fetches,
      options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
      run_metadata=metadata,
    )
    found: dict = collections.defaultdict(lambda: [0, 0.0])
    for device in metadata.step_stats.dev_stats:
      for node in device.node_stats:
        label = re.match(r".* = (\w+)\(", node.timeline_label)
        shape = ""
        if node.output:
          dims = node.output[0].tensor_description.shape.dim
          shape = "x".join(str(d.size) for d in dims)
        entry = found[label[1] if label else node.node_name, shape]
        entry[0] += 1
        entry[1] += 1e-9 * (node.op_end_rel_nanos - node.op_start_rel_nanos)
    records = [
      dict(op=op, shape=shape, count=count, seconds=seconds)
      for (op, shape), (count, seconds) in found.items()
    ]
    return sorted(records, key=lambda r: -r["seconds"])

  def close(self) -> None:
    """Ends the session."""
    self._session.close()


def estimator(case: cases.Case, tpu: str | None = None):
  """The Estimator that `utils.run` would train, or score with.

  Args:
    case: gives the shapes.
    tpu: as in --tpu, for the one that runs on a TPU.

  Returns:
    a TPUEstimator
  """
  made = []

  def keep(estimator, *args, **kwargs):
    made.append(estimator)

  # What scores is another model function; all others share one.
  with mock.patch.object(utils, "score_from_dataset", keep):
    utils.run(
      tpu_job_name=None,
      tpu=tpu,
      gcp_project=None,
      tpu_zone=None,
      model_dir=_NO_MODEL_DIR,
      mode="score_from_dataset" if case.name == "score" else "train",
      vocabulary=_VOCABULARY,
      batch_size=case.batch,
      sequence_length={"inputs": case.inputs, "targets": case.targets},
      train_steps=1_000_000,
      train_dataset_fn=_no_dataset,
      train_model_fn=keep,
    )
  return made[0]


def _no_dataset(**kwargs):
  raise AssertionError(f"the benchmark reads no data set: {kwargs}")


def _feature_variables(case: cases.Case) -> dict[str, tf.Tensor]:
  """The features as variables: constants would let TensorFlow fold the masks.

  They are local, so no optimizer and no saver sees them.
  """
  return {
    name: tf.get_variable(
      f"benchmark/{name}",
      initializer=ids,
      trainable=False,
      collections=[tf.GraphKeys.LOCAL_VARIABLES],
    ).read_value()
    for name, ids in cases.features(case).items()
  }


def _fetches(spec, mode) -> dict:
  """What the Estimator fetches in a step of this mode."""
  if mode == tf.estimator.ModeKeys.TRAIN:
    return dict(train_op=spec.train_op, loss=spec.loss)
  if mode == tf.estimator.ModeKeys.EVAL:
    updates = [update for _, update in spec.eval_metric_ops.values()]
    return dict(updates=tf.group(*updates), loss=spec.loss)
  return spec.predictions


def _session(estimator, spec):
  """A session as the Estimator opens it, without hooks that write files."""
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


def _forget_peak_memory() -> None:
  """Lets peak memory begin at what is resident now, where Linux allows it."""
  try:
    with open("/proc/self/clear_refs", "w") as f:
      f.write("5")
  except OSError:
    pass


def serve(parent: int) -> None:
  """Answers the parent over stdin and stdout until it closes them or dies.

  Args:
    parent: its process id.
  """
  # What the libraries print must not get between the answers.
  channel = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:  # it died during our imports
    sys.exit(1)
  tf.disable_v2_behavior()
  tf.logging.set_verbosity(tf.logging.WARN)
  answer(sys.stdin, channel)


def answer(requests, channel) -> None:
  """Holds one model, and steps when told; one JSON line each way.

  The first line is a Job; its answer comes when the model is ready. The
  requests are `step` and `profile`. The answer to anything that fails is the
  last one: `user_error` for what the user can put right, or `failure`.

  Args:
    requests: a text stream of lines.
    channel: a text stream, for the answers.
  """

  def send(**fields):
    channel.write(json.dumps(fields) + "\n")

  try:
    model = Model(Job.from_json(requests.readline()))
    send(
      ops=model.num_ops,
      parameters=model.num_parameters,
      build_seconds=model.build_seconds,
    )
    for request in requests:
      if request.strip() == "profile":
        send(profile=model.profile())
      else:
        send(seconds=model.step(), peak_bytes=model.peak)
  except errors.UserError as e:
    send(user_error=errors.sentence(e))
  except Exception as e:
    traceback.print_exc()
    message = (str(e).strip() or "no message").splitlines()[0]
    send(failure=f"{type(e).__name__}: {message}")
