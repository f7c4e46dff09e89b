"""Opens a trained model from its folder; the only place that does.

Export, prediction, folding, the conversion to Hugging Face and the pictures of
gates use it. While a model is open, gin has the configuration of its training.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator

import gin
import seqio
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer

import t5_tasks
from hypergrid_mtf import checkpoints, errors, layers, weights
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import config as gin_config
from hypergrid_mtf.run import console
from hypergrid_mtf.run.checks import checkpoint as checkpoint_checks
from hypergrid_mtf.run.checks import training_record
from t5_tasks import mixtures, vocabularies, vocabulary_record

_DEFAULT_LENGTH = 512  # t5's own
_MIXTURE = "mesh_train_dataset_fn.mixture_or_task_name"


@dataclasses.dataclass
class Trained:
  """An open model.

  Attributes:
    folder: of its training.
    checkpoint: the prefix of the chosen checkpoint.
    model: a transformer.Bitransformer.
    mixture: None if only the vocabulary is known.
    vocabularies: {feature: seqio.Vocabulary}.
    is_latest: whether it was chosen as the latest.
  """

  folder: str
  checkpoint: str
  model: transformer.Bitransformer
  mixture: seqio.Mixture | seqio.Task | None
  vocabularies: dict[str, seqio.Vocabulary]
  is_latest: bool

  @property
  def config(self) -> str:
    """The path of the training's operative_config.gin."""
    return os.path.join(self.folder, training_record.CONFIG)

  @property
  def step(self) -> int:
    """The global step of the checkpoint."""
    return checkpoints.step_of(self.checkpoint) or 0

  @property
  def tasks(self) -> list[seqio.Task]:
    """The tasks of the mixture, if it is known."""
    return list(seqio.get_subtasks(self.mixture)) if self.mixture else []

  @functools.cached_property
  def weights(self) -> weights.Weights:
    """{variable: value}, in the checkpoint's type.

    If a training has removed the checkpoint since, those of the latest one.
    """
    shapes = checkpoints.variable_shapes(self.model)
    try:
      return weights.read(self.checkpoint, shapes)
    except errors.UserError:
      if not self.is_latest or checkpoints.exists(self.checkpoint):
        raise
      gone = self.checkpoint
      self.checkpoint = choose_checkpoint(self.folder, None)
    console.say(
      f"a training removed the checkpoint {gone}: using {self.checkpoint}"
    )
    return self.weights

  @property
  def vocabulary_record(self) -> dict[str, dict]:
    """The facts of each vocabulary, as in `vocabulary.json`."""
    return {
      feature: vocabulary_record.facts(vocabulary)
      for feature, vocabulary in sorted(self.vocabularies.items())
    }


def sequence_lengths() -> dict[str, int]:
  """Lengths of inputs and targets in the training that gin describes."""
  given = gin_config.value("run.sequence_length")
  if not isinstance(given, dict):
    given = dict.fromkeys(("inputs", "targets"), given)
  return {k: given.get(k) or _DEFAULT_LENGTH for k in ("inputs", "targets")}


@contextlib.contextmanager
def open_model(
  model_dir: str, step: int | None = None, vocabulary: str | None = None
) -> Iterator[Trained]:
  """Opens a trained model.

  Args:
    model_dir: of its training, local or in the cloud.
    step: of the checkpoint; None for the latest.
    vocabulary: where the training's vocabulary is now.

  Yields:
    a Trained

  Raises:
    UserError: if there is none, it is damaged, it has another vocabulary, or it
      does not answer text with text.
  """
  checkpoint_checks.check_model_dir(model_dir)
  config = os.path.join(model_dir, training_record.CONFIG)
  if training_record.trained_facts(model_dir) is None:
    raise errors.UserError(
      f"--model_dir={model_dir} has no {training_record.CONFIG}: give the "
      "folder of a model trained with t5 or hypergrid_mtf.main."
    )
  bindings = []
  beside = os.path.join(model_dir, vocabularies.MODEL_FILE)
  if vocabulary is None and tf.io.gfile.exists(beside):
    vocabulary = beside  # from tools.huggingface, even if the folder was moved
  if vocabulary is not None:
    if os.path.exists(vocabulary):
      vocabulary = os.path.abspath(vocabulary)
    name = "t5_tasks.vocabularies.use_vocabulary.name"
    bindings.append(f"{name} = {vocabulary!r}")
  try:
    gin_config.parse_files([config], bindings, skip_unknown=True)
    try:
      t5_tasks.define_from_gin()
    except errors.UserError:  # the training's data are not here
      if vocabulary is None:
        raise
    used = vocabularies.use_vocabulary()
    mixture = _find_mixture(config, used, vocabulary)
    checkpoint = choose_checkpoint(model_dir, step)
    if mixture:
      vocabularies.check_used(vocabulary and used, mixture)
      vocabularies.check_vocabulary(mixture)
      known = {k: f.vocabulary for k, f in mixture.output_features.items()}
      known.setdefault("inputs", known["targets"])
      model = model_lib.of_mixture(mixture)
    else:
      assert used
      known = {"inputs": used, "targets": used}
      model = model_lib.build(used.vocab_size)
    if not isinstance(model, transformer.Bitransformer):
      raise errors.UserError(
        f"--model_dir={model_dir} is not a model of inputs and targets "
        f"(run.model_type = {gin_config.value('run.model_type')!r}): give a "
        '"bitransformer".'
      )
    opened = Trained(model_dir, checkpoint, model, mixture, known, step is None)
    training_record.check_same_vocabulary(model_dir, opened.vocabulary_record)
    yield opened
  finally:
    gin.clear_config()


def _find_mixture(config: str, used, vocabulary: str | None):
  """The mixture of a training; None if only its vocabulary is known.

  That is so for models from tools.huggingface, and, with --vocabulary, for
  models of a mixture that is not registered.
  """
  name = gin_config.value(_MIXTURE)
  is_known = name in mixtures.known_names()
  if used and (not name or (vocabulary and not is_known)):
    return None
  if not name:
    raise errors.UserError(
      f"{config} names no mixture ({_MIXTURE}): put back the file that the "
      "training wrote, or give its --vocabulary."
    )
  return mixtures.get_mixture_or_task(name)


def choose_checkpoint(model_dir: str, step: int | None) -> str:
  """The prefix of a checkpoint whose files look intact.

  Args:
    model_dir: of the training.
    step: None for the latest.

  Raises:
    UserError: if there is none, or it is damaged.
  """
  path = checkpoints.latest_checkpoint(model_dir)
  if path is None:
    raise errors.UserError(
      f"--model_dir={model_dir} has no checkpoint: give the folder of a "
      "trained model."
    )
  if step is not None:
    path = checkpoints.path_of(model_dir, step)
    if not checkpoints.exists(path):
      there = checkpoints.describe_steps(checkpoints.list_steps(model_dir))
      raise errors.UserError(
        f"--step={step} is not a checkpoint of --model_dir={model_dir}, which "
        f"has steps {there}."
      )
  origin = f"in --model_dir={model_dir}"
  checkpoints.check_intact(path, origin, latest=step is None)
  return path


def gated_layers(model) -> list[tuple[str, layers.HyperGrid]]:
  """("encoder/block_000/layer_001", layer) of each HyperGrid layer, in order.

  Args:
    model: a transformer.Bitransformer.
  """
  return [
    (f"{stack}/{layer.name}", layer)
    for stack in ("encoder", "decoder")
    for layer, _ in layers.hypergrid_layers(getattr(model, stack))
  ]
