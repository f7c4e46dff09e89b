"""Converts a seqio vocabulary to a transformers tokenizer, and back."""

import os

import seqio
import tensorflow.compat.v1 as tf
import transformers
from transformers.convert_slow_tokenizer import convert_slow_tokenizer

from hypergrid_mtf import errors
from t5_tasks import vocabularies
from tools.serving import hf_config

SENTENCEPIECE = "spiece.model"  # transformers' name


def write(folder: str, vocabulary: seqio.Vocabulary, length: int) -> None:
  """Writes the files of a tokenizer with the ids of a vocabulary.

  Args:
    folder: an existing local folder.
    vocabulary: SentencePiece or bytes.
    length: of inputs in the training.

  Raises:
    UserError: for any other kind.
  """
  sentinels = [f"<extra_id_{i}>" for i in range(vocabulary.extra_ids)]
  if isinstance(vocabulary, seqio.ByteVocabulary):
    transformers.ByT5Tokenizer(
      extra_ids=len(sentinels),
      # transformers numbers them upwards in the order of this list, t5
      # downwards from the end.
      additional_special_tokens=sentinels[::-1],
      model_max_length=length,
    ).save_pretrained(folder)
    return
  if (
    not isinstance(vocabulary, seqio.SentencePieceVocabulary)
    or getattr(vocabulary, "_normalizer_spec_overrides", None)
    or not getattr(vocabulary, "_reverse_extra_ids", True)
  ):
    raise errors.UserError(
      f"the vocabulary {vocabularies.describe(vocabulary)} has special "
      "settings: only plain SentencePiece models and bytes can be a tokenizer "
      "of a T5."
    )
  path = os.path.join(folder, SENTENCEPIECE)
  tf.io.gfile.copy(vocabulary.sentencepiece_model_file, path, overwrite=True)
  pad, eos, unk = map(vocabulary.tokenizer.id_to_piece, range(3))
  given = dict(
    vocab_file=path,
    pad_token=pad,
    eos_token=eos,
    unk_token=unk,
    extra_ids=len(sentinels),
    additional_special_tokens=sentinels,
    # A word after a sentinel is the same token as after a blank, as in seqio.
    legacy=True,
    model_max_length=length,
  )
  # If made from the file directly, it drops the blank in front of a text.
  fast = convert_slow_tokenizer(transformers.T5Tokenizer(**given))
  transformers.T5TokenizerFast(tokenizer_object=fast, **given).save_pretrained(
    folder
  )


def read(folder: str) -> seqio.Vocabulary | None:
  """The vocabulary of the tokenizer in a folder, or None.

  Raises:
    UserError: if it is not a T5's, or has added tokens.
  """
  given = _read_json(folder, "tokenizer_config.json")
  # The number of sentinels: those listed, or the declared number.
  listed = given.get("additional_special_tokens")
  extra_ids = given.get("extra_ids")
  if listed is not None:
    extra_ids = sum("<extra_id_" in str(token) for token in listed)
  if not isinstance(extra_ids, int):
    extra_ids = 100  # of T5
  path = os.path.join(folder, SENTENCEPIECE)
  if given.get("tokenizer_class") == "ByT5Tokenizer":
    path = "bytes"
  elif not os.path.exists(path):
    return None
  vocabulary = vocabularies.get_vocabulary(path, extra_ids)
  known = {"<pad>", "</s>", "<unk>"}
  known |= {f"<extra_id_{i}>" for i in range(extra_ids)}
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    known.update(map(vocabulary.tokenizer.id_to_piece, range(3)))
  tokens = [
    *(listed or ()),
    *_read_json(folder, "added_tokens.json"),
    *(given.get("added_tokens_decoder") or {}).values(),
    *_read_json(folder, "tokenizer.json").get("added_tokens", ()),
  ]
  for token in tokens:
    text = token.get("content") if isinstance(token, dict) else token
    if text not in known:
      raise errors.UserError(
        f"the tokenizer in {folder} has the added token {text!r}, which a T5 "
        "vocabulary does not have: remove it and its row of the embedding, or "
        "give the folder of the original model."
      )
  return vocabulary


def _read_json(folder: str, name: str) -> dict:
  path = os.path.join(folder, name)
  return hf_config.read_json(path) if os.path.exists(path) else {}


def check_size(vocabulary: seqio.Vocabulary, rows: int, where: str) -> None:
  """Raises UserError if an embedding does not fit a vocabulary."""
  size = vocabulary.vocab_size
  if size > rows or rows - size >= hf_config.VOCAB_DIVISOR:
    raise errors.UserError(
      f"{where} has an embedding of {rows} rows, which does not fit the "
      f"vocabulary {vocabularies.describe(vocabulary)} with {size} ids: give "
      "the training's with --vocabulary."
    )
