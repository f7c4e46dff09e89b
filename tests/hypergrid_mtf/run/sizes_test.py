"""The lengths, the batch and the steps of a run (preflight.check_sizes)."""

import gin
import pytest
import seqio

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files, preflight, request
from tests.hypergrid_mtf.run import configuration


@pytest.fixture(autouse=True)
def no_bindings_left_behind():
  yield
  gin.clear_config()


def check(mode, *parameters, files=()):
  configuration.parse(*parameters, files=(*configuration.EMBEDDED, *files))
  asked = request.Request(
    mode=mode,
    mixture="embedded_v1",
    trains=mode == "train",
    waits=False,
    split=None,
    input_files=(),
    results="",
  )
  preflight.check_sizes(seqio.get_mixture_or_task("embedded_v1"), asked)


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("run.batch_size = 0", ["= 0 is not a batch size", "positive integer"]),
    ("run.batch_size = True", ["= True is not a batch size"]),
    ("run.batch_size = ('tokens_per_batch', 0)", ["is not a batch size"]),
    ("run.batch_size = ('token_per_batch', 24)", ["is not a batch size"]),
    ("run.batch_size = ('tokens_per_batch', 24.0)", ["is not a batch size"]),
    (
      "run.batch_size = ('tokens_per_batch', 1000)",
      [
        "not a multiple of the length",
        "is 24;",
        "('tokens_per_batch', 984) or ('tokens_per_batch', 1008)",
        "('sequences_per_batch', 41)",
      ],
    ),
    (
      "run.batch_size = ('tokens_per_replica', 10)",
      ["give ('tokens_per_replica', 24), or ('sequences_per_replica', 1)"],
    ),
    (
      "run.sequence_length = {'input': 24, 'targets': 16}",
      ["embedded_v1 has no feature 'input'", "'inputs', 'targets'"],
    ),
    ("run.sequence_length = {'inputs': 24}", ["no length", "'targets'"]),
    ("run.sequence_length = {'inputs': 0, 'targets': 4}", ["not a length"]),
    ("run.sequence_length = -1", ["= -1 is not a length"]),
    ("run.sequence_length = '24'", ["= '24' is not a length"]),
    ("run.sequence_length = None", ['mode "train" cannot']),
  ],
)
def test_a_size_that_t5_cannot_use_is_refused(text, words):
  with pytest.raises(errors.UserError) as e:
    check("train", text)
  for word in (*words, f'(--gin_param="{text}")'):
    assert word in str(e.value)


def test_steps_that_are_computed_are_not_none():
  computed = "run.train_steps = @auto_train_steps"
  check("train", computed, "auto_train_steps.train_tokens = 10000")
  with pytest.raises(errors.UserError, match="computes 0 steps for a batch of"):
    check("train", computed, "auto_train_steps.train_tokens = 10")


def test_sizes_that_t5_takes():
  for text in (
    "run.sequence_length = 24",
    "run.sequence_length = {'inputs': 24, 'targets': 48}",
    "run.batch_size = 3",
    "run.batch_size = ('tokens_per_batch', 240)",
    "run.batch_size = ['sequences_per_replica', 7]",
  ):
    check("train", text)
  check("eval", "run.sequence_length = None")


def test_the_batch_of_t5s_eval_file_is_made_to_fit(capsys):
  check("eval", files=("eval.gin",))
  # 32,768 tokens are 1,365 rows of 24 and a rest.
  assert gin_files.value("run.batch_size") == ("tokens_per_replica", 32760)
  said = capsys.readouterr().out
  assert "32760" in said and "32768 tokens (eval.gin, line " in said
  check("eval", "run.sequence_length = 32", files=("eval.gin",))
  assert gin_files.value("run.batch_size") == ("tokens_per_replica", 32768)
  # What the user gives is not changed.
  with pytest.raises(errors.UserError, match="not a multiple of the length"):
    check(
      "eval",
      "run.batch_size = ('tokens_per_replica', 1000)",
      files=("eval.gin",),
    )
  with pytest.raises(errors.UserError, match="'sequences_per_replica', 32"):
    check("eval", "run.sequence_length = None", files=("eval.gin",))
