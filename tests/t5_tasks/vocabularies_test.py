"""Another vocabulary for t5's tasks, and clear errors if there is none."""

import os
import time

import gin
import pytest
import seqio
import t5.data
import tensorflow as tf
import tensorflow_datasets as tfds
from seqio import dataset_providers

from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures, vocabularies
from tests.testing import PIECES, source


@pytest.fixture(autouse=True)
def _restore():
  yield
  vocabularies.use_vocabulary("t5")
  gin.clear_config()


def _vocabulary(name, feature="inputs"):
  return seqio.get_mixture_or_task(name).output_features[feature].vocabulary


def _cola(monkeypatch):
  """glue_cola_v002 with a data source that needs no files."""
  task = seqio.TaskRegistry.get("glue_cola_v002")
  rows = source(sentence=["the cat sat"], label=[1], idx=[0])
  monkeypatch.setattr(task, "_source", rows)
  return task


def _first(task):
  with tf.Graph().as_default():
    dataset = task.get_dataset(split="train", shuffle=False)
    return next(iter(tfds.as_numpy(dataset)))


def test_t5s_tasks_run_on_another_vocabulary(monkeypatch):
  task = _cola(monkeypatch)
  for name in (PIECES, "bytes", PIECES):
    vocabulary = vocabularies.use_vocabulary(name)
    example = _first(task)
    text = "cola sentence: the cat sat"
    assert example["inputs"].tolist() == [*vocabulary.encode(text), 1]
    assert example["targets"].tolist() == [*vocabulary.encode("acceptable"), 1]
  glue = mixtures.get_mixture_or_task("glue_v002_proportional")
  vocabularies.check_vocabulary(glue)


def test_all_tasks_and_mixtures_follow():
  vocabulary = vocabularies.use_vocabulary("bytes", extra_ids=30)
  for name in (
    "glue_v002_proportional",
    "super_glue_wsc_v102_simple_eval",
    "super_glue_rte_v102_1_sentinel",
    "glue_super_glue_proportional_task_token",
    "squad_v010_allanswers",
  ):
    for feature in ("inputs", "targets"):
      assert _vocabulary(name, feature) is vocabulary
  feature = seqio.TaskRegistry.get("glue_cola_v002").output_features["inputs"]
  assert not feature.required and feature.add_eos
  embedded = _vocabulary("embedded_v1")
  assert isinstance(embedded, seqio.ByteVocabulary)
  assert embedded.extra_ids == 100


def test_gin_and_none():
  before = _vocabulary("glue_cola_v002")
  assert vocabularies.use_vocabulary() is None
  assert _vocabulary("glue_cola_v002") is before
  gin.parse_config('t5_tasks.vocabularies.use_vocabulary.name = "bytes"')
  assert vocabularies.use_vocabulary() == seqio.ByteVocabulary(100)
  assert _vocabulary("glue_cola_v002") == seqio.ByteVocabulary(100)


def test_back_to_t5():
  vocabularies.use_vocabulary("bytes")
  vocabularies.use_vocabulary("t5")
  assert _vocabulary("glue_cola_v002") == t5.data.get_default_vocabulary()


def test_a_mixture_that_holds_a_task_nobody_else_knows():
  task = seqio.TaskRegistry.get("glue_cola_v002").replace(name="hidden_cola")
  mixture = dataset_providers.Mixture("hidden", [(task, 1.0)])
  seqio.MixtureRegistry.add_provider("hidden", mixture)
  try:
    vocabularies.use_vocabulary("bytes")
    assert isinstance(_vocabulary("hidden"), seqio.ByteVocabulary)
  finally:
    seqio.MixtureRegistry.remove("hidden")


def test_names():
  assert vocabularies.get_vocabulary("t5") == t5.data.get_default_vocabulary()
  assert vocabularies.get_vocabulary(PIECES, 7).vocab_size == 26 + 7
  folder = os.path.dirname(PIECES)
  assert vocabularies.get_vocabulary(folder, 7).vocab_size == 26 + 7


def test_wrong_vocabularies_are_explained(tmp_path):
  missing = str(tmp_path / "none.model")
  with pytest.raises(UserError, match=r"none\.model.*tools\.train_vocabulary"):
    vocabularies.use_vocabulary(missing)
  for content in (b"", b"not a model", b"\x00" * 100):
    (tmp_path / "bad.model").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.model' is not a SentencePiece"):
      vocabularies.get_vocabulary(str(tmp_path / "bad.model"))
  for extra_ids in (-1, "x", True, 1.5):
    with pytest.raises(UserError, match="extra_ids is"):
      vocabularies.get_vocabulary("bytes", extra_ids)


def test_special_ids_must_be_t5s(tmp_path):
  from sentencepiece import sentencepiece_model_pb2

  model = sentencepiece_model_pb2.ModelProto()
  with open(PIECES, "rb") as f:
    model.ParseFromString(f.read())
  del model.pieces[0]
  path = tmp_path / "shifted.model"
  path.write_bytes(model.SerializeToString())
  with pytest.raises(UserError, match=r"T5 needs \(0, 1, 2\)"):
    vocabularies.get_vocabulary(str(path))


def test_check_names_what_cannot_be_reached(monkeypatch):
  monkeypatch.setattr(vocabularies, "_CLOUD_SECONDS", 0.1)
  monkeypatch.setattr(tf.io.gfile, "exists", lambda path: time.sleep(1))
  vocabularies._remote_exists.cache_clear()
  glue, rte, embedded = map(
    mixtures.get_mixture_or_task,
    ("glue_v002_proportional", "super_glue_rte_v102", "embedded_v1"),
  )
  start = time.time()
  with pytest.raises(UserError, match="gs://t5-data.*--vocabulary=PATH"):
    vocabularies.check_vocabulary(glue)
  with pytest.raises(UserError, match="gs://t5-data"):
    vocabularies.check_vocabulary(rte)
  assert time.time() - start < 0.9
  vocabularies._remote_exists.cache_clear()
  vocabularies.check_vocabulary(embedded)


def test_check_refuses_two_vocabularies_in_one_mixture():
  vocabularies.use_vocabulary(PIECES)
  mixtures.define_mixture("two", ["glue_cola_v002", "embedded_copy_v1"])
  try:
    with pytest.raises(UserError, match="'embedded_copy_v1' and 'glue_cola"):
      vocabularies.check_vocabulary(mixtures.get_mixture_or_task("two"))
  finally:
    seqio.MixtureRegistry.remove("two")


def test_a_vocabulary_that_the_tasks_do_not_take_is_refused():
  embedded = seqio.get_mixture_or_task("embedded_v1")
  assert len(vocabularies.keeping_their_own(embedded)) == 8
  cola = seqio.get_mixture_or_task("glue_cola_v002")
  assert not vocabularies.keeping_their_own(cola)
  vocabularies.check_used(None, embedded)
  # What they have anyway is no other.
  vocabularies.check_used(vocabularies.use_vocabulary("bytes"), embedded)
  for name in (PIECES, "t5"):
    vocabulary = vocabularies.use_vocabulary(name)
    vocabularies.check_used(vocabulary, cola)
    with pytest.raises(
      UserError, match="'embedded_copy_v1'.*'embedded_v1'.*bytes with 100"
    ):
      vocabularies.check_used(vocabulary, embedded)
  vocabulary = vocabularies.use_vocabulary("bytes", extra_ids=30)
  with pytest.raises(UserError, match="bytes with 30 extra ids"):
    vocabularies.check_used(vocabulary, embedded)


def test_lost_characters_are_those_that_come_back_as_another():
  texts = (
    "the cat",  # kept
    "th\u00e9 \u4e2d c\u4e2dt",
    "two  seats \u4e2d",
    "a\tcat",
    "seats at the end  ",
    "a line\nend",
  )
  vocabulary = vocabularies.get_vocabulary(PIECES)
  describe = vocabularies.describe_lost_characters
  said = describe(vocabulary, texts, "inputs")
  assert said.startswith(
    "2 of 6 inputs have characters that the vocabulary lacks ('\u4e2d', "
  )
  assert "; 3 of 6 inputs have doubled blanks" in said
  # By the vocabulary's own decoding: what is named does not come back, and the
  # text that is kept does.
  assert vocabulary.decode(vocabulary.encode(texts[0])) == texts[0]
  there = vocabulary.decode(vocabulary.encode(texts[1]))
  for character in "\u4e2d\u00e9":
    assert repr(character) in said and character not in there
  assert describe(vocabulary, texts[:1], "inputs") is None
  assert describe(seqio.ByteVocabulary(100), texts, "inputs") is None
