"""Steps of t5 to measure or compile: shapes, features, Estimator."""

import dataclasses
import os
import types
from unittest import mock

import numpy as np
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import config
from tools.cost import models

MODES = {
  "train": tf.estimator.ModeKeys.TRAIN,
  "train_packed": tf.estimator.ModeKeys.TRAIN,
  "eval": tf.estimator.ModeKeys.EVAL,
  "decode": tf.estimator.ModeKeys.PREDICT,
  "score": tf.estimator.ModeKeys.PREDICT,
}
EOS_ID = 1
_FIRST_ID = 3  # lower ids are padding, EOS and the unknown piece
# No decode_tf: turning ids into text is not the model's work.
_VOCABULARY = types.SimpleNamespace(vocab_size=models.VOCAB_SIZE)


@dataclasses.dataclass(frozen=True)
class Case:
  """One kind of step with one shape.

  Attributes:
    name: a key of MODES.
    batch: sequences.
    inputs: input tokens per sequence.
    targets: target tokens per sequence; for `decode`, generated tokens.
    examples_per_row: 1, or how many are packed into a sequence.
  """

  name: str
  batch: int
  inputs: int
  targets: int
  examples_per_row: int = 1

  @property
  def lengths(self) -> dict[str, int]:
    """Tokens per sequence, by feature."""
    return {"inputs": self.inputs, "targets": self.targets}

  @property
  def label(self) -> str:
    """The case as part of a file name."""
    return f"{self.name}-{self.batch}x{self.inputs}x{self.targets}"


def make_features(case: Case, seed: int = 0) -> dict[str, np.ndarray]:
  """Random token ids as t5 feeds them.

  Sequences are full, because Mesh TensorFlow computes padding too. Examples end
  in EOS. A packed sequence has examples of random lengths and a little padding.

  Returns:
    {feature: int32 [batch, length]}: `inputs`; `targets`, except for decoding;
    if packed, `<feature>_segmentation` (1, 2, …; 0 is padding) and
    `<feature>_position`.
  """
  rng = np.random.default_rng(seed)
  lengths = case.lengths
  if case.name == "decode":
    del lengths["targets"]
  result = {}
  for name, length in lengths.items():
    ids = rng.integers(_FIRST_ID, models.VOCAB_SIZE, (case.batch, length))
    segmentation = np.zeros_like(ids)
    position = np.zeros_like(ids)
    for row in range(case.batch):
      begin = 0
      for i, size in enumerate(_split(rng, length, case.examples_per_row)):
        end = begin + size
        ids[row, end - 1] = EOS_ID
        segmentation[row, begin:end] = i + 1
        position[row, begin:end] = np.arange(size)
        begin = end
    ids[segmentation == 0] = 0
    result[name] = ids
    if case.examples_per_row > 1:
      result[f"{name}_segmentation"] = segmentation
      result[f"{name}_position"] = position
  return {name: ids.astype(np.int32) for name, ids in result.items()}


def _split(rng, length: int, examples: int) -> list[int]:
  """Lengths of the examples in a sequence, at least 2 (a token and EOS)."""
  if examples == 1:
    return [length]
  shares = rng.uniform(0.5, 1.5, examples)
  spare = int(0.97 * (length - 2 * examples))
  return list(2 + rng.multinomial(spare, shares / shares.sum()))


@dataclasses.dataclass(frozen=True)
class Job:
  """A step of one model.

  Attributes:
    case: the step.
    gin_files: as given to --gin_file.
    gin_params: as given to --gin_param.
    modules: as given to --module_import.
  """

  case: Case
  gin_files: tuple[str, ...]
  gin_params: tuple[str, ...] = ()
  modules: tuple[str, ...] = ()

  @staticmethod
  def from_json(fields: dict) -> "Job":
    """The job from the JSON of `dataclasses.asdict`."""
    case = Case(**fields.pop("case"))
    return Job(case, **{name: tuple(value) for name, value in fields.items()})

  def bind(self) -> None:
    """Parses the job's gin files and bindings.

    Raises:
      UserError: for what gin cannot read or no model accepts.
    """
    config.import_modules(list(self.modules))
    model_lib.bind(list(self.gin_files), list(self.gin_params), trains=True)

  def build(self):
    """Binds and builds the model (plain Python, no graph), as a check."""
    self.bind()
    return model_lib.build(models.VOCAB_SIZE)


def make_job(
  size: str,
  case: Case,
  setting: models.Setting,
  activation_dtype: str = "float32",
  gin_params=(),
) -> Job:
  """A step of one model of a comparison, as in a run on a CPU.

  Args:
    size: a file of operative_configs/models.
    case: the step.
    setting: the model.
    activation_dtype: "float32", as t5 runs on a CPU, or "bfloat16".
    gin_params: the user's own bindings; they come last.
  """
  files = [
    f"models/{size}.gin",
    *setting.gin_files,
    "learning_rate_schedules/constant_0_001.gin",  # t5's fine-tuning
  ]
  bindings = [
    # What t5's main, and ours, bind without a TPU.
    'utils.get_variable_dtype.slice_dtype = "float32"',
    f'utils.get_variable_dtype.activation_dtype = "{activation_dtype}"',
    'run.mesh_shape = "model:1,batch:1"',
    'run.mesh_devices = ["cpu:0"]',
    *setting.gin_params,
    "Bitransformer.decode.beam_size = 1",
    "Bitransformer.decode.temperature = 0.0",
    f"Bitransformer.decode.max_decode_length = {case.targets}",
    # Decoding ends when every sequence has this token; without it, all models
    # take all steps and do the same work.
    "Unitransformer.sample_autoregressive.stop_at_token = None",
  ]
  return Job(case, tuple(files), (*bindings, *gin_params))


def make_estimator(case: Case, tpu: str | None = None):
  """The TPUEstimator with which `utils.run` would train or score.

  Args:
    case: the shapes.
    tpu: as in --tpu, for one that runs on a TPU.
  """
  made = []

  def keep(estimator, *args, **kwargs):
    made.append(estimator)

  def read_nothing(**kwargs):
    raise AssertionError(f"no data set is read: {kwargs}")

  # Scoring has its own model function; all other modes share one.
  with mock.patch.object(utils, "score_from_dataset", keep):
    utils.run(
      tpu_job_name=None,
      tpu=tpu,
      gcp_project=None,
      tpu_zone=None,
      model_dir=os.path.join(os.devnull, "model"),  # it needs a name
      mode="score_from_dataset" if case.name == "score" else "train",
      vocabulary=_VOCABULARY,
      batch_size=case.batch,
      sequence_length=case.lengths,
      train_steps=1_000_000,
      train_dataset_fn=read_nothing,
      train_model_fn=keep,
    )
  return made[0]
