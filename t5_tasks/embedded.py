"""The embedded tasks: eight small text-to-text tasks that need no download.

All tasks share their inputs, strings of four to six letters, and do different
things with them; only the prefix tells which, as in T5:

    copy: badge     -> badge          sort: badge     -> abdeg
    reverse: badge  -> egdab          dedup: babge    -> bage
    upper: badge    -> BADGE          swap: badge     -> dgeba
    rot: badge      -> cbehf          vowels: badge   -> b*dg*

So a model of all tasks must compute a different function of the same features
for each, which is what task-specific weights are for. The strings are distinct,
and split once into train, validation and test: an input of one split occurs in
no other split of any task. NumPy's frozen legacy generator makes them, so they
are the same on every machine and in every run.
"""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import seqio
import t5.evaluation.metrics
import tensorflow.compat.v2 as tf

MIXTURE = "embedded_v1"
ALPHABET = "abcdefghij"
MIN_LENGTH = 4
MAX_LENGTH = 6
NUM_EXAMPLES: Mapping[str, int] = {
  "train": 20_000,
  "validation": 200,
  "test": 200,
}
EXTRA_IDS = 100
_SEED = 20_07_05891

_NEXT_LETTER = str.maketrans(ALPHABET, ALPHABET[1:] + ALPHABET[0])
_HIDE_VOWELS = str.maketrans("aeiou", "*****")

# The order is part of the data format: it numbers the task tokens.
FUNCTIONS: Mapping[str, Callable[[str], str]] = {
  "copy": lambda s: s,
  "reverse": lambda s: s[::-1],
  "upper": lambda s: s.upper(),
  "rot": lambda s: s.translate(_NEXT_LETTER),
  "sort": lambda s: "".join(sorted(s)),
  "dedup": lambda s: "".join(dict.fromkeys(s)),
  "swap": lambda s: s[len(s) // 2 :] + s[: len(s) // 2],
  "vowels": lambda s: s.translate(_HIDE_VOWELS),
}

OUTPUT_FEATURES = {
  "inputs": seqio.Feature(
    vocabulary=seqio.ByteVocabulary(extra_ids=EXTRA_IDS), add_eos=True
  ),
  "targets": seqio.Feature(
    vocabulary=seqio.ByteVocabulary(extra_ids=EXTRA_IDS), add_eos=True
  ),
}


def task_name(function: str) -> str:
  """The registered name of an embedded task, `embedded_reverse_v1`."""
  return f"embedded_{function}_v1"


@functools.cache
def strings(split: str) -> tuple[str, ...]:
  """The strings that all tasks share, in their fixed order.

  Args:
    split: "train", "validation" or "test".

  Returns:
    `NUM_EXAMPLES[split]` distinct strings; splits are disjoint.
  """
  start = 0
  for name, count in NUM_EXAMPLES.items():
    if name == split:
      return _all_strings()[start : start + count]
    start += count
  raise ValueError(f"The embedded tasks have no split {split!r}.")


@functools.cache
def _all_strings() -> tuple[str, ...]:
  total = sum(NUM_EXAMPLES.values())
  rng = np.random.RandomState(_SEED)  # a frozen stream, by NumPy's policy
  found: dict[str, None] = {}
  while len(found) < total:
    lengths = rng.randint(MIN_LENGTH, MAX_LENGTH + 1, total, np.int64)
    letters = rng.randint(0, len(ALPHABET), (total, MAX_LENGTH), np.int64)
    for length, row in zip(lengths.tolist(), letters.tolist(), strict=True):
      found["".join(ALPHABET[i] for i in row[:length])] = None
  return tuple(found)[:total]


@functools.cache
def _targets(function: str, split: str) -> tuple[str, ...]:
  return tuple(map(FUNCTIONS[function], strings(split)))


def _dataset(
  split: str, shuffle_files: bool, seed: int | None = None, *, function: str
) -> tf.data.Dataset:
  """All examples of one task: {"inputs": [], "targets": []} strings."""
  dataset = tf.data.Dataset.from_tensor_slices(
    # Arrays, because TensorFlow inspects a list string by string.
    (np.array(strings(split), "S"), np.array(_targets(function, split), "S"))
  )
  if shuffle_files:
    dataset = dataset.shuffle(NUM_EXAMPLES[split], seed=seed)
  return dataset.map(
    lambda string, target: {
      "inputs": tf.strings.join([f"{function}: ", string]),
      "targets": target,
    }
  )


def register() -> None:
  """Registers the eight tasks and their mixture, once."""
  for function in FUNCTIONS:
    if task_name(function) in seqio.TaskRegistry.names():
      continue
    seqio.TaskRegistry.add(
      task_name(function),
      source=seqio.FunctionDataSource(
        functools.partial(_dataset, function=function),
        splits=tuple(NUM_EXAMPLES),
        num_input_examples=NUM_EXAMPLES,
      ),
      preprocessors=[
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.append_eos_after_trim,
      ],
      metric_fns=[t5.evaluation.metrics.accuracy],
      output_features=OUTPUT_FEATURES,
    )
  if MIXTURE not in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.add(
      MIXTURE, [task_name(f) for f in FUNCTIONS], default_rate=1.0
    )


register()
