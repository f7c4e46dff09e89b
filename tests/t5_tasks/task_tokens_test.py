"""Task tokens: where they are, which they are, and when they are needed."""

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from hypergrid_mtf.errors import UserError
from t5_tasks import embedded, task_tokens, vocabularies
from tests.testing import PIECES, source


@pytest.fixture(autouse=True)
def _restore():
  yield
  vocabularies.use_vocabulary("t5")


def _examples(name, length=None, n=5):
  with tf.Graph().as_default():
    dataset = seqio.get_mixture_or_task(name).get_dataset(
      sequence_length=length, split="validation", shuffle=False
    )
    return list(tfds.as_numpy(dataset.take(n)))


def _source(monkeypatch, name):
  """Gives a task one line of text where its files would be."""
  rows = source(sentence=["the cat sat on"], label=[1], idx=[0])
  monkeypatch.setattr(seqio.TaskRegistry.get(name), "_source", rows)


@pytest.mark.parametrize("function", list(embedded.FUNCTIONS))
def test_the_token_is_in_front_and_the_rest_is_unchanged(function):
  name = embedded.task_name(function)
  index = task_tokens.token_index(name)
  plain, marked = _examples(name), _examples(name + "_task_token")
  for before, after in zip(plain, marked, strict=True):
    # 3 special ids, 256 bytes, 100 sentinels.
    assert after["inputs"].tolist() == [358 - index, *before["inputs"]]
    assert after["targets"].tolist() == before["targets"].tolist()
    assert after["inputs_pretokenized"] == before["inputs_pretokenized"]


def test_the_token_survives_trimming():
  for example in _examples(
    "embedded_rot_v1_task_token", {"inputs": 5, "targets": 4}
  ):
    inputs = example["inputs"].tolist()
    assert inputs == [358 - task_tokens.TOKEN_INDEX["embedded_rot_v1"]] + [
      ord(c) + 3 for c in "rot"
    ] + [1]
    assert example["targets"].tolist()[-1] == 1


def test_the_token_follows_the_vocabulary(monkeypatch):
  name = "glue_sst2_v002_task_token"
  _source(monkeypatch, name)
  vocabulary = vocabularies.use_vocabulary(PIECES)
  (example,) = _examples(name)
  first = int(example["inputs"][0])
  assert vocabulary.tokenizer.IdToPiece(first).endswith("<extra_id_1>")
  assert first == vocabulary.vocab_size - 2 == 26 + 100 - 2
  vocabularies.use_vocabulary("bytes", extra_ids=2)
  (example,) = _examples(name)
  assert example["inputs"][0] == 259
  vocabularies.use_vocabulary("bytes", extra_ids=1)
  with pytest.raises(UserError, match="1 extra ids, and task token 1 needs 2"):
    _examples(name)


def test_the_numbers_never_change():
  # Checkpoints depend on these: rows are appended, never moved.
  heads = [tasks[0] for tasks in task_tokens._TASKS_OF_TOKEN]
  assert heads[:24] == [
    "glue_cola_v002",
    "glue_sst2_v002",
    "glue_mrpc_v002",
    "glue_stsb_v002",
    "glue_qqp_v002",
    "glue_mnli_v002",
    "glue_qnli_v002",
    "glue_rte_v002",
    "glue_wnli_v002",
    "super_glue_boolq_v102",
    "super_glue_cb_v102",
    "super_glue_copa_v102",
    "super_glue_multirc_v102",
    "super_glue_record_v102",
    "super_glue_wic_v102",
    "dpr_v001_simple",
    *(f"embedded_{f}_v1" for f in embedded.FUNCTIONS),
  ]
  assert len(heads) <= 100


def test_every_task_of_the_benchmarks_has_a_token():
  for mixture in task_tokens.MIXTURES:
    plain = seqio.MixtureRegistry.get(mixture)
    marked = seqio.MixtureRegistry.get(mixture + "_task_token")
    assert {t.name for t in marked.tasks} == {
      t.name + "_task_token" for t in plain.tasks
    }
    for task in plain.tasks:
      variant = seqio.TaskRegistry.get(task.name + "_task_token")
      assert marked.get_rate(variant) == plain.get_rate(task)
      assert variant.metric_fns == task.metric_fns
      assert variant.source is task.source


def test_what_is_evaluated_has_the_token_that_was_trained():
  index = task_tokens.token_index
  for trained, evaluated in [
    ("glue_mnli_v002", "glue_ax_v002"),
    ("glue_mnli_v002", "glue_mnli_mismatched_v002_task_token"),
    ("glue_rte_v002", "super_glue_rte_v102"),
    ("glue_rte_v002", "super_glue_axg_v102"),
    ("super_glue_wsc_v102_simple_train", "super_glue_wsc_v102_simple_eval"),
    ("dpr_v001_simple", "super_glue_wsc_v102_simple_eval"),
  ]:
    assert index(trained) == index(evaluated) is not None
  assert index("squad_v010_allanswers") is None


def _of_each_task(mixture):
  tasks = seqio.get_subtasks(seqio.get_mixture_or_task(mixture))
  return {task.name: _examples(task.name) for task in tasks}


def _starting_with(**tokens):
  return {k: [{"inputs": [v]}, {"inputs": []}] for k, v in tokens.items()}


def test_collisions_of_the_embedded_tasks_are_named():
  found = _of_each_task("embedded_v1")
  assert task_tokens.first_tokens(found) == {
    f"embedded_{f}_v1": ord(f[0]) + 3 for f in embedded.FUNCTIONS
  }
  assert task_tokens.collisions(found) == {
    ord("r") + 3: ["embedded_reverse_v1", "embedded_rot_v1"],
    ord("s") + 3: ["embedded_sort_v1", "embedded_swap_v1"],
  }
  mixture = seqio.get_mixture_or_task("embedded_v1")
  line = task_tokens.describe_collisions(mixture, found)
  assert "reverse and rot share 117 'r'; sort and swap share 118 's'" in line
  assert "embedded_v1_task_token" in line and "\n" not in line
  marked = _of_each_task("embedded_v1_task_token")
  assert len(set(task_tokens.first_tokens(marked).values())) == 8
  assert task_tokens.describe_collisions(mixture, marked) is None


def test_one_task_under_two_names_does_not_collide():
  vocabularies.use_vocabulary(PIECES)
  shared = _starting_with(glue_mnli_v002=7, glue_ax_v002=7, squad=8)
  assert task_tokens.collisions(shared) == {}
  shared |= _starting_with(squad=7)
  assert task_tokens.collisions(shared) == {7: ["glue_mnli_v002", "squad"]}
  task = seqio.get_mixture_or_task("glue_ax_v002")
  line = task_tokens.describe_collisions(task, shared)
  assert "mnli and squad share 7 " in line
  assert "glue_ax_v002_task_token" in line
  squad = seqio.get_mixture_or_task("squad_v010_allanswers")
  line = task_tokens.describe_collisions(squad, shared)
  assert "the tasks' _task_token variants" in line


def test_wrong_tasks_are_explained():
  with pytest.raises(UserError, match="No task or mixture named 'glue_x'"):
    task_tokens.add_task_token("glue_x", 3)
  with pytest.raises(UserError, match="is a mixture"):
    task_tokens.add_task_token("all_equal", 3)
  task = seqio.Task(
    "not_tokenized",
    seqio.TaskRegistry.get("embedded_copy_v1").source,
    output_features=embedded.OUTPUT_FEATURES,
    preprocessors=[],
  )
  seqio.TaskRegistry.add_provider(task.name, task)
  try:
    with pytest.raises(UserError, match="has 0 steps of"):
      task_tokens.add_task_token(task.name, 3)
  finally:
    seqio.TaskRegistry.remove(task.name)


@pytest.mark.parametrize(
  ("name", "short"),
  [
    ("embedded_rot_v1", "rot"),
    ("super_glue_wic_v102_task_token", "wic"),
    ("super_glue_wsc_v102_simple_eval", "wsc_v102_simple_eval"),
    ("mine", "mine"),
  ],
)
def test_short_names(name, short):
  assert task_tokens.short_name(name) == short
