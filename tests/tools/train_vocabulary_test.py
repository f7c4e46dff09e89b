"""The vocabulary tool: T5's conventions, atomic writes, clear errors."""

import os

import gin
import pytest
import seqio
import tensorflow as tf
from absl import flags
from t5.data import preprocessors

from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures, vocabularies
from tests import program
from tools import train_vocabulary
from tools.data import task_text, vocabulary_training

LABELS = (
  "not_equivalent",
  "entailment",
  "3.8",
  "0123456789",
  "True",
  "(x) {y}",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  output = str(tmp_path_factory.mktemp("vocabulary"))
  return vocabulary_training.train_vocabulary(
    "embedded_v1", 200, output, max_examples=300
  )


def test_conventions(trained):
  vocabulary = seqio.SentencePieceVocabulary(trained.path, 100)
  tokenizer = vocabulary.tokenizer
  assert vocabulary.vocab_size == 300
  assert (trained.tasks, trained.examples) == (8, 2400)
  ids = (tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.unk_id())
  assert (*ids, tokenizer.bos_id()) == (0, 1, 2, -1)
  assert tokenizer.IdToPiece(299).endswith("<extra_id_0>")
  pieces = [tokenizer.IdToPiece(i) for i in range(200)]
  assert not any(tokenizer.IsByte(i) for i in range(200))
  assert len(set(pieces)) == 200
  with open(
    os.path.join(os.path.dirname(trained.path), "sentencepiece.vocab"),
    encoding="utf-8",
  ) as f:
    assert [line.split("\t")[0] for line in f] == pieces


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_text_round_trips(tmp_path, model_type):
  trained = vocabulary_training.train_vocabulary(
    "embedded_copy_v1", 150, str(tmp_path), model_type, max_examples=200
  )
  vocabulary = vocabularies.get_vocabulary(trained.path)
  for text in (*LABELS, "reverse: badge", "vowels: b*dg*"):
    ids = vocabulary.encode(text)
    assert 2 not in ids
    assert vocabulary.decode(ids) == text


def test_same_text_same_file(trained, tmp_path):
  again = vocabulary_training.train_vocabulary(
    "embedded_v1", 200, str(tmp_path / "b.model"), max_examples=300
  )
  assert again.path == str(tmp_path / "b.model")
  with open(trained.path, "rb") as a, open(again.path, "rb") as b:
    assert a.read() == b.read()
  assert sorted(os.listdir(tmp_path)) == ["b.model", "b.vocab"]


def test_text_of_the_task_token_variant_is_the_same(tmp_path):
  one, other = (
    vocabulary_training.train_vocabulary(
      name, 120, str(tmp_path / f"{name}.model"), max_examples=100
    )
    for name in ("embedded_copy_v1", "embedded_copy_v1_task_token")
  )
  with open(one.path, "rb") as a, open(other.path, "rb") as b:
    assert a.read() == b.read()


def test_a_task_and_its_variant_are_read_once():
  mixtures.define_mixture(
    "both",
    ["embedded_copy_v1", "embedded_copy_v1_task_token", ("embedded_rot_v1", 0)],
  )
  try:
    tasks = task_text.training_tasks(seqio.get_mixture_or_task("both"))
    assert [t.name for t in tasks] == ["embedded_copy_v1"]
  finally:
    seqio.MixtureRegistry.remove("both")


def test_t5s_vocabulary_is_not_needed_to_read_text(monkeypatch):
  def dataset(split, shuffle_files):
    del split, shuffle_files
    rows = {"sentence": ["the cat", "a\ndog"], "label": [1, 0], "idx": [0, 1]}
    return tf.data.Dataset.from_tensor_slices(rows)

  task = seqio.TaskRegistry.get("glue_cola_v002")
  source = seqio.FunctionDataSource(dataset, splits=["train"])
  monkeypatch.setattr(task, "_source", source)
  assert list(task_text.training_text(task)) == [
    ["cola sentence: the cat", "acceptable"],
    ["cola sentence: a\ndog", "unacceptable"],
  ]


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    ({"mixture": "embedded_v2"}, "'embedded_v2'.*similar: embedded_v1"),
    ({"size": 9000}, r"--size is 9000.*at most (\d+) pieces"),
    ({"size": 9000, "model_type": "bpe"}, r"at most (\d+) pieces"),
    ({"size": 1}, r"--size is 1, .* alone need 98 pieces: give --size=98"),
    ({"size": 97}, r"--size is 97, .* need 98 pieces: give --size=98 or more"),
    ({"output": ""}, "--output is empty"),
    ({"output": "/proc/none"}, "cannot be written"),
    ({"mixture": "super_glue_axb_v102"}, "has no train split"),
  ],
)
def test_errors(tmp_path, arguments, says):
  arguments = {
    "mixture": "embedded_copy_v1",
    "size": 120,
    "output": str(tmp_path / "v"),
    "max_examples": 100,
    **arguments,
  }
  with pytest.raises(UserError, match=says):
    vocabulary_training.train_vocabulary(**arguments)
  assert not (tmp_path / "v" / "sentencepiece.model").exists()
  assert not list(tmp_path.glob("v/*"))


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("size", [1, 9000])
def test_the_limit_it_names_works(tmp_path, model_type, size):
  arguments = ("embedded_sort_v1", size, str(tmp_path), model_type, 50)
  with pytest.raises(UserError) as error:
    vocabulary_training.train_vocabulary(*arguments)
  limit = int(str(error.value).split("--size=")[1].split()[0])
  trained = vocabulary_training.train_vocabulary(
    arguments[0], limit, str(tmp_path), model_type, 50
  )
  assert vocabularies.get_vocabulary(trained.path, 0).vocab_size == limit


def test_characters_that_the_vocabulary_lacks_are_named(tmp_path, monkeypatch):
  def dataset(split, shuffle_files):
    del split, shuffle_files
    rows = {
      "inputs": ["the cat sat"] * 400 + ["a na\u00efve \u4e2d"],
      "targets": ["yes"] * 401,
    }
    return tf.data.Dataset.from_tensor_slices(rows)

  task = seqio.TaskRegistry.get("embedded_copy_v1")
  source = seqio.FunctionDataSource(dataset, splits=["train"])
  monkeypatch.setattr(task, "_source", source)
  arguments = ("embedded_copy_v1", 104, str(tmp_path))
  trained = vocabulary_training.train_vocabulary(*arguments)
  assert set(trained.unknown) == {"\u00ef", "\u4e2d"}
  ids = vocabularies.get_vocabulary(trained.path).encode("na\u00efve")
  assert 2 in ids
  trained = vocabulary_training.train_vocabulary(
    *arguments, character_coverage=1.0
  )
  assert trained.unknown == ()


def test_a_bad_row_of_a_tasks_own_file_has_its_line(tmp_path, monkeypatch):
  path = tmp_path / "train.tsv"
  path.write_text("a\tb\nc\n")
  task = seqio.TaskRegistry.get("embedded_copy_v1")
  source = seqio.TextLineDataSource({"train": str(path)})
  monkeypatch.setattr(task, "_source", source)
  steps = [preprocessors.parse_tsv, *task.preprocessors]
  monkeypatch.setattr(task, "preprocessors", steps)
  with pytest.raises(UserError, match=f"{path}, line 2 .*, expected 2"):
    vocabulary_training.train_vocabulary(
      "embedded_v1", 200, str(tmp_path / "v")
    )


def test_unreadable_data_is_one_sentence(tmp_path, monkeypatch):
  def dataset(split, shuffle_files):
    raise OSError("the disk is gone\nand more")

  task = seqio.TaskRegistry.get("embedded_copy_v1")
  source = seqio.FunctionDataSource(dataset, splits=["train"])
  monkeypatch.setattr(task, "_source", source)
  with pytest.raises(UserError, match=r"'embedded_copy_v1' .*disk is gone\)"):
    vocabulary_training.train_vocabulary("embedded_v1", 200, str(tmp_path))


def test_it_is_recommended_to_tasks_that_can_take_it(capsys):
  tasks = ["glue_cola_v002", ("embedded_copy_v1", 5)]
  mixtures.define_mixture("some_can", tasks)
  try:
    for name, said in (
      ("glue_cola_v002", ["to use it: --vocabulary=v.model"]),
      (
        "some_can",
        ["to use it: --vocabulary=v.model", "not for embedded_copy"],
      ),
      ("embedded_v1", ["not for embedded_copy_v1, embedded_dedup_v1, "]),
    ):
      train_vocabulary._say_how_to_use(
        "v.model", seqio.get_mixture_or_task(name)
      )
      lines = capsys.readouterr().out.splitlines()
      assert len(lines) == len(said)
      for line, start in zip(lines, said, strict=True):
        assert line.startswith(start)
  finally:
    seqio.MixtureRegistry.remove("some_can")


def test_the_command(tmp_path, monkeypatch, capsys):
  def run(*arguments):
    program.run("tools.train_vocabulary", arguments, monkeypatch)

  try:
    run(
      "--mixture=mine",
      "--size=150",
      f"--output={tmp_path}",
      "--max_examples=100",
      '--gin_param=t5_tasks.mixtures.define_mixture.name = "mine"',
      '--gin_param=define_mixture.tasks = ["embedded_copy_v1"]',
    )
    said = capsys.readouterr().out
    assert "150 pieces (250 ids" in said
    # The embedded tasks keep their bytes, so it is not recommended for them.
    assert "use it" not in said
    assert "not for embedded_copy_v1: these tasks have their" in said
    with pytest.raises(UserError, match="No task or mixture named 'min'"):
      run("--mixture=min", f"--output={tmp_path}")
    for wrong in (
      "--size=0",
      "--model_type=word",
      "--max_examples=-1",
      "--character_coverage=2",
    ):
      with pytest.raises(flags.IllegalFlagValueError):
        run(wrong)
  finally:
    gin.clear_config()
    seqio.MixtureRegistry.remove("mine")
