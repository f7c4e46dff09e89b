"""Two records are equal if and only if text becomes the same ids."""

import shutil

import pytest
import seqio

from t5_tasks import vocabulary_record

SP = "sentencepiece.model"


class _Features:
  def __init__(self, vocabulary):
    self.output_features = {"targets": seqio.Feature(vocabulary)}


def _record(vocabulary):
  found = vocabulary_record.record(_Features(vocabulary))["targets"]
  shown = (found.pop("described"), found.pop("given_by"))
  return found, shown


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """Two SentencePiece models of one size."""
  import sentencepiece

  root = tmp_path_factory.mktemp("vocabularies")
  for name, text in (("a", "ab ba abba baab"), ("b", "cd dc cddc dccd")):
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter([text] * 20),
      model_prefix=str(root / name),
      vocab_size=8,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
    )
  return root


def test_a_copy_is_the_same_and_another_model_is_not(models, tmp_path):
  shutil.copy(models / "a.model", tmp_path / SP)
  a, shown = _record(seqio.SentencePieceVocabulary(str(models / "a.model"), 5))
  copy, _ = _record(seqio.SentencePieceVocabulary(str(tmp_path / SP), 5))
  b, _ = _record(seqio.SentencePieceVocabulary(str(models / "b.model"), 5))
  fewer, _ = _record(seqio.SentencePieceVocabulary(str(models / "a.model"), 0))
  assert a == copy
  assert a["ids"] == b["ids"] == 13 and a != b
  assert fewer["extra_ids"] == 0 and a != fewer
  assert shown[0] == f"{models}/a.model with 5 extra ids"
  assert shown[1].startswith(f"--vocabulary={models}/a.model")


def test_bytes_pass_through_and_kinds_of_ones_own():
  many, (described, given_by) = _record(seqio.ByteVocabulary(100))
  assert (described, given_by) == (
    "bytes with 100 extra ids",
    "--vocabulary=bytes",
  )
  assert many != _record(seqio.ByteVocabulary(0))[0]
  through = _record(seqio.PassThroughVocabulary(359))[0]
  assert through["ids"] == many["ids"] and through != many
  words = [_record(seqio.UnigramVocabulary(w))[0] for w in (["a"], ["b"])]
  assert words[0]["ids"] == words[1]["ids"] and words[0] != words[1]
  assert words[0] == _record(seqio.UnigramVocabulary(["a"]))[0]
