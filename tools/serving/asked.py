"""A model in memory, of a SavedModel or of a model_dir, that can be asked."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tensorflow_text  # noqa: F401  (the operations of its tokenizer)

from hypergrid_mtf import errors
from tools.serving import record, text_model, trained


@dataclasses.dataclass(frozen=True)
class Answers:
  """What a model answers to some texts.

  Attributes:
    outputs: its answers.
    scores: their log-likelihood.
    inputs_cut: whether a text was longer than the limit.
    outputs_cut: whether an answer was.
  """

  outputs: list[str]
  scores: list[float]
  inputs_cut: list[bool]
  outputs_cut: list[bool]


@dataclasses.dataclass(frozen=True)
class Model:
  """A model that can be asked.

  Attributes:
    function: the signature "serving_default".
    tasks: registered names; empty where nothing tells them.
    limits: most tokens of "inputs" and "outputs", where known.
    kept: what the function needs, which is not to be collected.
  """

  function: Callable
  tasks: tuple[str, ...]
  limits: Mapping[str, int]
  kept: object = None

  def ask(self, texts: Sequence[str]) -> Answers:
    """Answers to some texts, all at once."""
    found = self.function(inputs=tf.constant(list(texts), tf.string))
    values = {name: found[name].numpy().tolist() for name in found}
    return Answers(
      # One line each, whatever the model says.
      outputs=[
        " ".join(answer.decode("utf-8", "replace").splitlines())
        for answer in values["outputs"]
      ],
      scores=values["scores"],
      inputs_cut=values["inputs_cut"],
      outputs_cut=values["outputs_cut"],
    )


def of_model_dir(source: trained.Trained, options: text_model.Options) -> Model:
  """A model from its training.

  Args:
    source: open.
    options: how it answers.
  """
  made = text_model.TextModel(source, options, [text_model.ANSWER])
  content = record.make(source, options)
  return Model(
    function=made.functions[text_model.ANSWER],
    tasks=tuple(content["tasks"]),
    limits=content["limits"],
    kept=made,
  )


def of_saved_model(folder: str) -> Model:
  """A model from a SavedModel.

  Args:
    folder: that holds one, or one for each step: then of the last.

  Raises:
    UserError: if it does not, if it is damaged, or if it takes something else.
  """
  given = f"--saved_model={folder}"
  path = _last_version(folder)
  if path is None:
    raise errors.UserError(
      f"{given} is not the folder of a SavedModel: give one that tools.export "
      "wrote."
    )
  try:
    loaded = tf.saved_model.load(path)
  # TensorFlow raises all kinds for a damaged one.
  except Exception as e:
    raise errors.UserError(
      f"{given}: the SavedModel {path} is damaged ({_first_line(e)}): export "
      "the model again."
    ) from None
  function = loaded.signatures.get(text_model.ANSWER)
  wanted = text_model.SIGNATURES[text_model.ANSWER]
  names = set(function.structured_outputs) if function is not None else set()
  if not names >= set(wanted["outputs"]):
    raise errors.UserError(
      f"{given}: the SavedModel {path} does not answer texts with "
      f"{', '.join(wanted['outputs'])}: give what tools.export wrote."
    )
  content = record.read(os.path.join(path, record.NAME)) or {}
  return Model(
    function=function,
    tasks=tuple(content.get("tasks", ())),
    limits=content.get("limits", {}),
    kept=loaded,
  )


def _last_version(folder: str) -> str | None:
  if not folder or not tf.io.gfile.isdir(folder):
    return None
  if tf.saved_model.contains_saved_model(folder):
    return folder
  names = [n.rstrip("/") for n in tf.io.gfile.listdir(folder)]
  for version in sorted((int(n) for n in names if n.isdigit()), reverse=True):
    path = os.path.join(folder, str(version))
    if tf.saved_model.contains_saved_model(path):
      return path
  return None


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200]
