"""Loads an exported model with TensorFlow only."""

import json
import os

import tensorflow as tf
import tensorflow_text  # noqa: F401  (the operations of its tokenizer)

from hypergrid_mtf import errors

RECORD = "hypergrid_mtf.json"
ANSWER, SCORE = "serving_default", "score"
SIGNATURES = {
  ANSWER: {
    "inputs": ["inputs"],
    "outputs": ["outputs", "scores", "inputs_cut", "outputs_cut"],
  },
  SCORE: {
    "inputs": ["inputs", "targets"],
    "outputs": ["scores", "inputs_cut", "targets_cut"],
  },
}


def load(folder: str) -> tuple:
  """Loads a model written by `saved_model.write`.

  Args:
    folder: of a SavedModel, or one with a SavedModel per step, of which the
      last is loaded.

  Returns:
    the function of its signature "serving_default", its limits {"inputs":
    tokens, …}, and an object that must live as long as the function

  Raises:
    UserError: if there is none, it is damaged, or it has another signature.
  """
  given = f"--saved_model={folder}"
  paths = [folder, *_versions(folder)]
  path = next(filter(tf.saved_model.contains_saved_model, paths), None)
  if path is None:
    raise errors.UserError(
      f"{given} is not the folder of a SavedModel: give one that tools.export "
      "wrote."
    )
  try:
    loaded = tf.saved_model.load(path)
    record = os.path.join(path, RECORD)
    limits = {}
    if tf.io.gfile.exists(record):
      with tf.io.gfile.GFile(record) as f:
        limits = json.load(f)["limits"]
  # For a damaged SavedModel TensorFlow may raise anything.
  except Exception as e:
    why = (str(e).splitlines() or [type(e).__name__])[0][:200]
    raise errors.UserError(
      f"{given}: the SavedModel {path} is damaged ({why}): export the model "
      "again."
    ) from None
  function = loaded.signatures.get(ANSWER)
  wanted = SIGNATURES[ANSWER]["outputs"]
  if function is None or not set(wanted) <= set(function.structured_outputs):
    raise errors.UserError(
      f"{given}: the SavedModel {path} does not answer texts with "
      f"{', '.join(wanted)}: give one from tools.export."
    )
  return function, limits, loaded


def _versions(folder: str) -> list[str]:
  """Folders named by a number, the highest first."""
  if not folder or not tf.io.gfile.isdir(folder):
    return []
  names = (n.rstrip("/") for n in tf.io.gfile.listdir(folder))
  steps = sorted((int(n) for n in names if n.isdigit()), reverse=True)
  return [os.path.join(folder, str(step)) for step in steps]
