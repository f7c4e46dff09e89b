"""A trained model, from its folder: built, checked, with its weights."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import gin
import seqio
from mesh_tensorflow.transformer import transformer, utils

import t5_tasks
from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import (
  checkpoint_checks,
  gin_files,
  gin_model,
  trained_model,
)
from t5_tasks import vocabulary_record
from tools.experiments import result, task_gates
from tools.serving import weights

_DEFAULT_LENGTH = 512  # t5's own


@dataclasses.dataclass(frozen=True)
class Trained:
  """A model that can be asked.

  Attributes:
    folder: of its training.
    checkpoint: prefix of the one that was read.
    model: a transformer.Bitransformer; gin has its configuration.
    mixture: a seqio Mixture or Task.
    weights: {variable: value}, of the checkpoint's type.
    vocabulary: the record of its vocabularies.
    config_hash: of its configuration, as in a result.
  """

  folder: str
  checkpoint: str
  model: transformer.Bitransformer
  mixture: seqio.Mixture | seqio.Task
  weights: weights.Weights
  vocabulary: dict
  config_hash: str

  @property
  def step(self) -> int:
    """The step of the checkpoint, by its name."""
    return utils.get_step_from_checkpoint_path(self.checkpoint)

  def vocabulary_of(self, feature: str) -> seqio.Vocabulary:
    """Of "inputs" or "targets"."""
    return self.mixture.output_features[feature].vocabulary


def lengths() -> dict[str, int]:
  """Tokens of inputs and targets in the training that gin describes."""
  given = gin_files.value("run.sequence_length")
  given = given if isinstance(given, dict) else {}
  return {k: given.get(k) or _DEFAULT_LENGTH for k in ("inputs", "targets")}


def most_tokens() -> int:
  """The longest answer: as an evaluation has it, or as the targets."""
  limit = gin_files.value("Bitransformer.decode.max_decode_length")
  return limit or lengths()["targets"]


@contextlib.contextmanager
def opened(
  model_dir: str, step: int | None = None, vocabulary: str | None = None
) -> Iterator[Trained]:
  """A trained model; gin has its configuration as long as it is open.

  Args:
    model_dir: of its training, local or in the cloud.
    step: of the checkpoint; None for the latest.
    vocabulary: in place of the path that the training noted; it must be the
      same one.

  Yields:
    a Trained

  Raises:
    UserError: if there is none, it is damaged, or it is not a model that
      answers text with text.
  """
  checkpoint_checks.check_model_dir(model_dir)
  bindings = []
  if vocabulary is not None:
    name = "t5_tasks.vocabularies.use_vocabulary.name"
    path = os.path.abspath(vocabulary)
    path = path if os.path.exists(vocabulary) else vocabulary
    bindings.append(f"{name} = {path!r}")
  try:
    mixture = task_gates.load_config(model_dir, bindings)
    if vocabulary is not None:
      used = t5_tasks.vocabularies.use_vocabulary()
      t5_tasks.vocabularies.check_used(used, mixture)
    path = weights.chosen(model_dir, step)
    t5_tasks.vocabularies.check_vocabulary(mixture)
    record = vocabulary_record.record(mixture)
    checkpoint_checks.check_same_vocabulary(model_dir, record)
    model = gin_model.of_mixture(mixture)
    if not isinstance(model, transformer.Bitransformer):
      raise errors.UserError(
        f"--model_dir={model_dir} is not a model of inputs and targets "
        f"(run.model_type = {gin_files.value('run.model_type')!r}): give a "
        '"bitransformer".'
      )
    shapes = checkpoints.variable_shapes(model)
    config = result.config_of(os.path.join(model_dir, trained_model.CONFIG))
    yield Trained(
      folder=model_dir,
      checkpoint=path,
      model=model,
      mixture=mixture,
      weights=weights.read(path, shapes),
      vocabulary=record,
      config_hash=result.config_hash(config),
    )
  finally:
    gin.clear_config()
