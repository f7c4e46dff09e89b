"""Facts that identify a vocabulary, to be recorded and compared.

Two records are equal if and only if text becomes the same ids; the location of
a vocabulary's file does not matter.
"""

import hashlib
import json

import seqio
import tensorflow.compat.v2 as tf

# Decoding every id of a larger vocabulary takes seconds.
_MOST_IDS = 300_000


def record(mixture_or_task) -> dict[str, dict]:
  """The vocabularies of a mixture or task.

  Returns:
    {feature: facts}; "described" and "given_by" are for messages, the other
    facts identify the vocabulary
  """
  return {
    name: facts(feature.vocabulary)
    for name, feature in sorted(mixture_or_task.output_features.items())
  }


def facts(vocabulary: seqio.Vocabulary) -> dict:
  """The facts that `record` has about one vocabulary."""
  kind = type(vocabulary).__name__
  found = {
    "kind": kind,
    "ids": vocabulary.vocab_size,
    "extra_ids": vocabulary.extra_ids,
    "described": f"a {kind} of {vocabulary.vocab_size} ids",
    "given_by": "the tasks that the model was trained with",
  }
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    path = vocabulary.sentencepiece_model_file
    found["sha256"] = _of_sentencepiece(path, vocabulary)
    found["described"] = f"{path} with {vocabulary.extra_ids} extra ids"
    found["given_by"] = f"--vocabulary={path}, or a copy of that file"
  elif isinstance(vocabulary, seqio.ByteVocabulary):
    found["described"] = f"bytes with {vocabulary.extra_ids} extra ids"
    found["given_by"] = "--vocabulary=bytes"
  elif not isinstance(vocabulary, seqio.PassThroughVocabulary):
    found["sha256"] = _of_pieces(vocabulary)
  return found


def _of_sentencepiece(path: str, vocabulary) -> str:
  """Digest of the file, and of the user's normalization."""
  with tf.io.gfile.GFile(path, "rb") as f:
    digest = hashlib.sha256(f.read())
  overrides = getattr(vocabulary, "_normalizer_spec_overrides", None)
  if overrides is not None:
    digest.update(overrides.SerializeToString(deterministic=True))
  if not getattr(vocabulary, "_reverse_extra_ids", True):
    digest.update(b"extra ids in order")
  return digest.hexdigest()


def _of_pieces(vocabulary: seqio.Vocabulary) -> str | None:
  """Digest of the text of every id, for kinds without a file."""
  if vocabulary.vocab_size > _MOST_IDS:
    return None
  try:
    pieces = [str(vocabulary.decode([i])) for i in range(vocabulary.vocab_size)]
  except Exception:  # a kind that cannot decode a single id
    return None
  return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()
