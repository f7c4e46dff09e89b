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
import itertools
from collections.abc import Callable, Mapping

import numpy as np
import seqio
import t5.evaluation.metrics
import tensorflow.compat.v2 as tf

MIXTURE = "embedded_v1"
NUM_EXAMPLES = {"train": 20_000, "validation": 200, "test": 200}
_ALPHABET = "abcdefghij"
_MIN_LENGTH, _MAX_LENGTH = 4, 6
_SEED = 20_07_05891

_NEXT_LETTER = str.maketrans(_ALPHABET, _ALPHABET[1:] + _ALPHABET[0])
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
  feature: seqio.Feature(seqio.ByteVocabulary(extra_ids=100))
  for feature in ("inputs", "targets")
}


def task_name(function: str) -> str:
  """The registered name of an embedded task, `embedded_reverse_v1`."""
  return f"embedded_{function}_v1"


def strings(split: str) -> tuple[str, ...]:
  """The strings of a split that all tasks share, in their fixed order."""
  return _all_strings()[split]


@functools.cache
def _all_strings() -> dict[str, tuple[str, ...]]:
  """{split: distinct strings}; splits are disjoint."""
  total = sum(NUM_EXAMPLES.values())
  rng = np.random.RandomState(_SEED)  # a frozen stream, by NumPy's policy
  found: dict[str, None] = {}
  while len(found) < total:
    lengths = rng.randint(_MIN_LENGTH, _MAX_LENGTH + 1, total, np.int64)
    letters = rng.randint(0, len(_ALPHABET), (total, _MAX_LENGTH), np.int64)
    for length, row in zip(lengths.tolist(), letters.tolist(), strict=True):
      found["".join(_ALPHABET[i] for i in row[:length])] = None
  left = iter(found)
  return {
    split: tuple(itertools.islice(left, count))
    for split, count in NUM_EXAMPLES.items()
  }


def _dataset(
  split: str, shuffle_files: bool, seed: int | None = None, *, function: str
) -> tf.data.Dataset:
  """All examples of one task: {"inputs": [], "targets": []} strings."""
  targets = list(map(FUNCTIONS[function], strings(split)))
  dataset = tf.data.Dataset.from_tensor_slices(
    # Arrays, because TensorFlow inspects a list string by string.
    (np.array(strings(split), "S"), np.array(targets, "S"))
  )
  if shuffle_files:
    dataset = dataset.shuffle(NUM_EXAMPLES[split], seed=seed)
  return dataset.map(
    lambda string, target: {
      "inputs": tf.strings.join([f"{function}: ", string]),
      "targets": target,
    }
  )


for _function in FUNCTIONS:
  seqio.TaskRegistry.add(
    task_name(_function),
    source=seqio.FunctionDataSource(
      functools.partial(_dataset, function=_function),
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
seqio.MixtureRegistry.add(
  MIXTURE, list(map(task_name, FUNCTIONS)), default_rate=1.0
)
