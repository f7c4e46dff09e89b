"""Records a model's vocabulary next to its checkpoints.

Two vocabularies of the same size give a model the same shapes but its
embeddings another meaning. A training writes `vocabulary.json`, and every
program that reads the checkpoints compares it. A folder without the file is
older, or another program's.
"""

import json
import os

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files

NAME = "vocabulary.json"
# Facts that are only for messages, and not compared.
_SHOWN = ("described", "given_by")


def write(folder: str, record: dict) -> None:
  """Records the vocabulary of a new training.

  Args:
    folder: its model_dir.
    record: {feature: facts}, as `t5_tasks.vocabulary_record.record` gives.
  """
  if record != read(folder):
    files.write(
      os.path.join(folder, NAME),
      json.dumps(record, indent=1, sort_keys=True) + "\n",
    )


def read(folder: str) -> dict | None:
  """What was recorded in a folder.

  Args:
    folder: model_dir of a training.

  Returns:
    {feature: facts}, or None

  Raises:
    UserError: if the record cannot be read.
  """
  path = os.path.join(folder, NAME)
  if not tf.io.gfile.exists(path):
    return None
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    if not all(isinstance(facts, dict) for facts in found.values()):
      raise ValueError("it holds no record of a vocabulary")
    return found
  except (ValueError, AttributeError, tf.errors.OpError) as e:
    raise errors.UserError(
      f"{path}, the record of the vocabulary, cannot be read "
      f"({errors.sentence(e)}): put it back, or remove it to go without the "
      "check."
    ) from None


def difference(folder: str, record: dict) -> str | None:
  """How a vocabulary differs from the one of a model's training.

  Args:
    folder: of the training.
    record: of the vocabulary in use.

  Returns:
    a clause that names both and says what to give, or None if they are equal or
    nothing was recorded
  """
  trained = read(folder) or {}
  for feature, now in record.items():
    then = trained.get(feature, now)
    if _content(now) == _content(then):
      continue
    names = [facts.get("described", "unknown") for facts in (now, then)]
    if names[0] == names[1]:  # the file was overwritten
      names = [
        f"{name} (SHA-256 {facts.get('sha256', '')[:12]}…)"
        for name, facts in zip(names, (now, then), strict=True)
      ]
    return (
      f"the vocabulary of the {feature} is {names[0]} here and {names[1]} in "
      f"{os.path.join(folder, NAME)}: give "
      f"{then.get('given_by', 'the one that the model was trained with')}"
    )
  return None


def _content(facts: dict) -> dict:
  return {k: v for k, v in facts.items() if k not in _SHOWN}
