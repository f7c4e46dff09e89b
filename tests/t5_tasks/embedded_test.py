"""The embedded tasks: their content, the same on every machine."""

import hashlib
import json

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from t5_tasks import embedded

FUNCTIONS = list(embedded.FUNCTIONS)
FIRST_STRINGS = ("dach", "ejhhjh", "ggbfhh")
DIGEST = "9cfb012d5eccbe970197ca22f22ce195abbe749466cfde5556c18a1e68b83e93"


def _examples(name, split, n=None):
  with tf.Graph().as_default():
    dataset = seqio.TaskRegistry.get(name).get_dataset(
      split=split, shuffle=False
    )
    dataset = dataset.take(n) if n else dataset
    return list(tfds.as_numpy(dataset))


def _expected(function, s):
  """The eight tasks once more, letter by letter."""
  out = ""
  half = len(s) // 2
  counts = sorted(ord(c) for c in s)
  for i, c in enumerate(s):
    if function == "copy":
      out = out + c
    elif function == "reverse":
      out = c + out
    elif function == "upper":
      out += chr(ord(c) - 32)
    elif function == "rot":
      out += chr((ord(c) - 97 + 1) % 10 + 97)
    elif function == "sort":
      out += chr(counts[i])
    elif function == "dedup":
      out += c if c not in s[:i] else ""
    elif function == "swap":
      out += s[(i + half) % len(s)]
    elif function == "vowels":
      out += "*" if c in "aei" else c
  return out


def test_there_are_eight_tasks_at_equal_rates():
  mixture = seqio.MixtureRegistry.get("embedded_v1")
  assert len(mixture.tasks) == 8
  assert {mixture.get_rate(t) for t in mixture.tasks} == {1.0}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_task_computes_its_function(function):
  for example in _examples(embedded.task_name(function), "validation"):
    prefix, string = example["inputs_pretokenized"].decode().split(": ")
    assert prefix == function
    target = example["targets_pretokenized"].decode()
    assert target == _expected(function, string)
    vocabulary = embedded.OUTPUT_FEATURES["targets"].vocabulary
    assert vocabulary.decode(example["targets"].tolist()) == target
    assert example["targets"][-1] == 1


def test_the_examples_of_the_module_docstring():
  for line in embedded.__doc__.splitlines():
    for part in line.strip().split("   "):
      if "->" in part and ":" in part:
        inputs, target = part.split("->")
        function, string = inputs.split(":")
        function = function.strip()
        assert embedded.FUNCTIONS[function](string.strip()) == target.strip()


def test_splits_are_disjoint_and_of_the_promised_size():
  seen = set()
  for split, count in embedded.NUM_EXAMPLES.items():
    strings = embedded.strings(split)
    assert len(strings) == len(set(strings)) == count
    assert seen.isdisjoint(strings)
    seen.update(strings)
  assert all(4 <= len(s) <= 6 and set(s) <= set("abcdefghij") for s in seen)
  task = seqio.TaskRegistry.get("embedded_sort_v1")
  assert task.splits == ("train", "validation", "test")
  assert task.num_input_examples("train") == 20_000


def test_tasks_share_inputs_and_disagree_on_targets():
  targets = {
    f: [embedded.FUNCTIONS[f](s) for s in embedded.strings("validation")]
    for f in FUNCTIONS
  }
  for f in FUNCTIONS:
    for g in FUNCTIONS:
      same = sum(a == b for a, b in zip(targets[f], targets[g], strict=True))
      assert f == g or same <= 60, (f, g, same)


def test_the_data_is_what_it_always_was():
  """Python's hash seed is another in each process."""
  assert embedded.strings("train")[:3] == FIRST_STRINGS
  text = json.dumps([embedded.strings(s) for s in embedded.NUM_EXAMPLES])
  assert hashlib.sha256(text.encode()).hexdigest() == DIGEST


def test_shuffling_changes_the_order_and_nothing_else():
  task = seqio.TaskRegistry.get("embedded_copy_v1")
  with tf.Graph().as_default():
    shuffled = [
      ex["inputs_pretokenized"].decode().removeprefix("copy: ")
      for ex in tfds.as_numpy(
        task.get_dataset(split="validation", shuffle=True, seed=3)
      )
    ]
  assert sorted(shuffled) == sorted(embedded.strings("validation"))
  assert shuffled != list(embedded.strings("validation"))


def test_metric_is_exact_match():
  task = seqio.TaskRegistry.get("embedded_copy_v1")
  (metric,) = task.metric_fns
  assert metric(["ab", "cd"], ["ab", "dc"]) == {"accuracy": 50.0}
