"""Pretraining on text files: what is read, the spans, what is refused."""

import gzip
import lzma

import gin
import numpy as np
import pytest
import seqio
import tensorflow.compat.v2 as tf
import tensorflow_datasets as tfds

from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures, plain_text, vocabularies

_LENGTHS = {"inputs": 128, "targets": 32}
_PARAGRAPHS = [f"{n}: " + "lorem ipsum " * (n % 7) for n in range(1000)]
_TEXT = "".join(f"{line}\n" for line in _PARAGRAPHS).encode()


@pytest.fixture(autouse=True)
def _leave_no_trace():
  yield
  for name in ("denoise_and_copy", "text"):
    seqio.MixtureRegistry.remove(name)
    seqio.TaskRegistry.remove(name)
  gin.clear_config()


def _examples(seed=0, shuffle=True, count=40):
  vocabularies.use_vocabulary("bytes")
  with tf.Graph().as_default():
    dataset = seqio.get_mixture_or_task("text").get_dataset(
      _LENGTHS, split="train", shuffle=shuffle, seed=seed, num_epochs=None
    )
    return list(tfds.as_numpy(dataset.take(count)))


def _joined(example, vocab_size):
  """The text of a row, its spans put back, and the lengths of the spans."""
  spans, span = {}, None
  for token in example["targets"][:-1]:
    if token >= vocab_size - 100:
      span = spans.setdefault(token, [])
    else:
      span.append(token)
  text = [
    t for token in example["inputs"][:-1] for t in spans.get(token, [token])
  ]
  return text, list(map(len, spans.values()))


def test_rows_are_filled_with_consecutive_text_and_spans_of_three(tmp_path):
  (tmp_path / "a.txt").write_bytes(_TEXT)
  plain_text.define_task("text", str(tmp_path / "a.txt"))
  vocabulary = seqio.ByteVocabulary(100)
  text, spans, filled = [], [], 0
  for example in _examples(shuffle=False, count=100):
    assert example["inputs"][-1] == example["targets"][-1] == 1
    sentinels = [
      t for t in example["inputs"] if t >= vocabulary.vocab_size - 100
    ]
    first = vocabulary.vocab_size - 1  # as T5 numbers them
    assert sentinels == list(range(first, first - len(sentinels), -1))
    more, lengths = _joined(example, vocabulary.vocab_size)
    text += more
    if len(example["inputs"]) == 128:  # all but the end of 128 paragraphs
      assert (len(example["targets"]), len(more), sum(lengths)) == (29, 141, 21)
      filled += 1
      spans += lengths
  whole = vocabulary.encode("".join(_PARAGRAPHS))
  assert len(text) > 10_000
  assert text[:10_000] == whole[:10_000]
  assert filled >= 96
  assert np.mean(spans) == 3.0
  assert len(set(spans)) > 3


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
  (tmp_path / "a.txt").write_bytes(_TEXT)
  (tmp_path / "a.txt.gz").write_bytes(gzip.compress(_TEXT))
  (tmp_path / "a.txt.xz").write_bytes(lzma.compress(_TEXT))
  found = []
  for name in ("a.txt", "a.txt.gz", "a.txt.xz", "a.txt"):
    plain_text.define_task("text", str(tmp_path / name))
    found.append(str([e["inputs"].tolist() for e in _examples()]))
  assert len(set(found)) == 1
  assert str([e["inputs"].tolist() for e in _examples(seed=1)]) != found[0]


def test_a_folder_is_its_text_files_and_mixes_with_other_tasks(
  tmp_path, monkeypatch
):
  (tmp_path / "more").mkdir()
  for name in ("a.txt", "b.txt", "notes.md"):
    (tmp_path / "more" / name).write_bytes(_TEXT)
  monkeypatch.chdir(tmp_path)
  gin.parse_config(f"""
    t5_tasks.plain_text.define_task.name = "text"
    t5_tasks.plain_text.define_task.train = "more"
    t5_tasks.plain_text.define_task.validation = "{tmp_path}/more/b*"
    t5_tasks.mixtures.define_mixture.name = "denoise_and_copy"
    t5_tasks.mixtures.define_mixture.tasks = [
        ("text", 3), ("embedded_copy_v1", 1)]
  """)
  plain_text.define_task()
  mixtures.define_mixture()
  source = seqio.TaskRegistry.get("text").source
  assert source.paths == {
    "train": [f"{tmp_path}/more/a.txt", f"{tmp_path}/more/b.txt"],
    "validation": [f"{tmp_path}/more/b.txt"],
  }
  source.check_files("train")
  mixture = seqio.MixtureRegistry.get("denoise_and_copy")
  assert mixture.get_rate(seqio.TaskRegistry.get("text")) == 3
  assert len(mixture.tasks) == 2


def _write(path):
  """One file or folder of each kind that is refused."""
  (path / "empty.txt").write_bytes(b"")
  (path / "blank.txt").write_bytes(b"\n  \n")
  (path / "latin1.txt").write_bytes("déjà\n".encode("latin-1"))
  (path / "zip.txt").write_bytes(b"PK\0\3")
  (path / "cut.gz").write_bytes(gzip.compress(_TEXT)[:-20])
  (path / "cut.xz").write_bytes(lzma.compress(_TEXT)[:-60])
  (path / "not.gz").write_bytes(_TEXT)
  (path / "not.xz").write_bytes(_TEXT)
  (path / "folder").mkdir()
  (path / "folder" / "readme.md").write_bytes(_TEXT)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ("empty.txt", "is empty: give text, one paragraph per line"),
    ("blank.txt", "is empty: give text, one paragraph per line"),
    ("latin1.txt", "line 1 .*byte 2 is not UTF-8 text"),
    ("zip.txt", "line 1 .*byte 3 is NUL, expected UTF-8 text"),
    ("cut.gz", "cut short"),
    ("cut.xz", "cut short"),
    ("not.gz", "cannot be read: Not a gzipped file"),
    ("not.xz", "cannot be read: Input format not supported"),
    ("folder", "has no text files: they end in .txt"),
    ("nothing.txt", "does not exist: name a text file"),
    (["empty.txt", "cut.gz"], r"of several kinds \(plain, .gz\)"),
    ([7], "give a path, a pattern, a folder"),
    (None, "train is not set: give the text to train on"),
  ],
)
def test_what_is_no_text_is_refused_in_one_sentence(
  tmp_path, monkeypatch, given, message
):
  _write(tmp_path)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=message) as error:
    plain_text.define_task("text", given)
    seqio.TaskRegistry.get("text").source.check_files("train")
  assert str(error.value).partition("\n  In call to")[0].count("\n") == 0
  if given is not None:
    assert "define_task.train" in str(error.value)


def test_files_without_a_name_and_the_name_of_a_mixture_are_refused():
  with pytest.raises(UserError, match="files but no name"):
    plain_text.define_task(train="a.txt")
  with pytest.raises(UserError, match="is a mixture"):
    plain_text.define_task("embedded_v1", "a.txt")
