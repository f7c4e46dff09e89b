"""Puts a reserved token of its own in front of each task's inputs.

HyperGrid recognizes the task by the first token of the inputs. First tokens can
collide ("reverse" and "rot" begin with the same byte). This module registers
each task again, as `<task>_task_token`, with a sentinel of the vocabulary in
front. `collisions` tells whether that is needed.

Task k gets `<extra_id_k>`, the id `vocab_size - 1 - k`, for SentencePiece and
bytes alike. The numbers below never change: checkpoints depend on them. Tasks
with the same training set and prefix share a token, so that every evaluated
token was trained: MNLI with its two validation sets and ax; RTE of both
benchmarks with axb and axg; WSC for training and for evaluation, with DPR and
the WNLI that is evaluated as WSC.
"""

import collections
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow.compat.v2 as tf

from hypergrid_mtf.errors import UserError
from t5_tasks import embedded, mixtures, vocabularies

Examples = Mapping[str, Sequence[Mapping[str, Any]]]

# Only append to this list. Row k: the tasks that share token k.
_TASKS_OF_TOKEN: Sequence[Sequence[str]] = (
  ("glue_cola_v002",),
  ("glue_sst2_v002",),
  ("glue_mrpc_v002",),
  ("glue_stsb_v002",),
  ("glue_qqp_v002",),
  (
    "glue_mnli_v002",
    "glue_mnli_matched_v002",
    "glue_mnli_mismatched_v002",
    "glue_ax_v002",
  ),
  ("glue_qnli_v002",),
  (
    "glue_rte_v002",
    "super_glue_rte_v102",
    "super_glue_axb_v102",
    "super_glue_axg_v102",
  ),
  ("glue_wnli_v002",),
  ("super_glue_boolq_v102",),
  ("super_glue_cb_v102",),
  ("super_glue_copa_v102",),
  ("super_glue_multirc_v102",),
  ("super_glue_record_v102",),
  ("super_glue_wic_v102",),
  (
    "dpr_v001_simple",
    "super_glue_wsc_v102_simple_train",
    "super_glue_wsc_v102_simple_eval",
    "glue_wnli_v002_simple_eval",
  ),
  ("embedded_copy_v1",),
  ("embedded_reverse_v1",),
  ("embedded_upper_v1",),
  ("embedded_rot_v1",),
  ("embedded_sort_v1",),
  ("embedded_dedup_v1",),
  ("embedded_swap_v1",),
  ("embedded_vowels_v1",),
)
TOKEN_INDEX: Mapping[str, int] = {
  task: k for k, tasks in enumerate(_TASKS_OF_TOKEN) for task in tasks
}
MIXTURES = (
  mixtures.GLUE,
  mixtures.SUPER_GLUE,
  mixtures.GLUE_SUPER_GLUE,
  embedded.MIXTURE,
)


def task_token_name(name: str) -> str:
  """The name of the task token variant of a task or mixture."""
  return name + mixtures.TASK_TOKEN_SUFFIX


def token_index(task_name: str) -> int | None:
  """k of the `<extra_id_k>` of a task or its variant; None for other tasks."""
  return TOKEN_INDEX.get(mixtures.base_name(task_name))


def prepend_task_token(
  dataset: tf.data.Dataset,
  output_features: Mapping[str, seqio.Feature],
  index: int = 0,
) -> tf.data.Dataset:
  """Puts a reserved id in front of tokenized inputs.

  Args:
    dataset: of examples with "inputs", [length] int32; they become longer by 1.
    output_features: of the task; their vocabulary gives the id.
    index: which sentinel, from 0, counted from the end of the vocabulary.

  Raises:
    UserError: the vocabulary has too few extra ids.
  """
  vocabulary = output_features["inputs"].vocabulary
  if index >= vocabulary.extra_ids:
    raise UserError(
      f"The vocabulary ({vocabularies.describe(vocabulary)}) has "
      f"{vocabulary.extra_ids} extra ids, and task token {index} needs "
      f"{index + 1}: set t5_tasks.vocabularies.use_vocabulary.extra_ids = 100."
    )
  token = vocabulary.vocab_size - 1 - index

  def prepend(example):
    inputs = example["inputs"]
    front = tf.constant([token], inputs.dtype)
    return {**example, "inputs": tf.concat([front, inputs], axis=0)}

  return dataset.map(prepend, num_parallel_calls=tf.data.AUTOTUNE)


def add_task_token(name: str, index: int) -> str:
  """Registers `<task>_task_token`: the task with a reserved token in front.

  The token comes right after tokenization, before trimming to the sequence
  length and before the end-of-sequence token, so it is always at position 0.

  Args:
    name: a registered task whose preprocessors tokenize "inputs".
    index: which sentinel, from 0.

  Returns:
    The name of the variant, which may already be registered.

  Raises:
    UserError: an unknown task, or one that does not tokenize by SeqIO.
  """
  new_name = task_token_name(name)
  if new_name in seqio.TaskRegistry.names():
    return new_name
  if name not in seqio.TaskRegistry.names():
    mixtures.get_mixture_or_task(name)  # raises for an unknown name
    raise UserError(f"{name!r} is a mixture: only a task gets a task token.")
  task = seqio.TaskRegistry.get(name)
  preprocessors = list(task.preprocessors)
  positions = [
    i
    for i, p in enumerate(preprocessors)
    if getattr(p, "func", p) is seqio.preprocessors.tokenize
  ]
  if len(positions) != 1:
    raise UserError(
      f"The task {name!r} has {len(positions)} steps of "
      "seqio.preprocessors.tokenize, but a task token needs exactly one, to go "
      "right after it."
    )
  preprocessors.insert(
    positions[0] + 1, functools.partial(prepend_task_token, index=index)
  )
  seqio.TaskRegistry.add_provider(
    new_name, task.replace(name=new_name, preprocessors=preprocessors)
  )
  return new_name


def first_tokens(examples: Examples) -> dict[str, int]:
  """{task: the most frequent first token of its tokenized inputs}."""
  found = {}
  for name, rows in examples.items():
    counts = collections.Counter(
      int(row["inputs"][0]) for row in rows if len(row["inputs"])
    )
    if counts:
      found[name] = counts.most_common(1)[0][0]
  return found


def collisions(examples: Examples) -> dict[int, list[str]]:
  """The tasks whose inputs begin with the same token.

  Tasks that share a token in this module's table (MNLI and its validation sets)
  do not count as colliding.

  Returns:
    {token id: [task, ...]} for each token that two or more tasks share.
  """
  groups: dict[int, dict[str | int, str]] = {}
  for name, token in first_tokens(examples).items():
    index = token_index(name)
    key = name if index is None else index
    groups.setdefault(token, {}).setdefault(key, name)
  return {
    token: list(tasks.values())
    for token, tasks in sorted(groups.items())
    if len(tasks) > 1
  }


def describe_collisions(
  mixture_or_task: seqio.Task | seqio.Mixture, examples: Examples
) -> str | None:
  """`collisions` of a mixture as one line, or None if there are none."""
  found = collisions(examples)
  if not found:
    return None
  vocabulary = mixture_or_task.output_features["inputs"].vocabulary
  groups = [
    f"{' and '.join(map(short_name, tasks))} share {token} "
    f"{token_text(vocabulary, token)!r}"
    for token, tasks in found.items()
  ]
  name = mixture_or_task.name
  if task_token_name(name) in mixtures.known_names():
    remedy = (
      f"the mixture {task_token_name(name)} gives each task its own token"
    )
  else:
    remedy = "the tasks' _task_token variants have their own tokens"
  return (
    f"first tokens collide: {'; '.join(groups)}: the first layer's gates "
    f"cannot tell them apart; {remedy}"
  )


def short_name(task_name: str) -> str:
  """A task's name without benchmark and version, such as "rot"."""
  name = mixtures.base_name(task_name)
  for benchmark in ("embedded_", "super_glue_", "glue_"):
    name = name.removeprefix(benchmark)
  head, _, version = name.rpartition("_v")
  return head if head and version.isdigit() else name


def token_text(vocabulary: seqio.Vocabulary, token: int) -> str:
  """A token as text; for a sentinel, its name."""
  sentinel = vocabulary.vocab_size - 1 - token
  if 0 <= sentinel < vocabulary.extra_ids:
    return f"<extra_id_{sentinel}>"
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return vocabulary.tokenizer.IdToPiece(token)
  return vocabulary.decode([token])


for _name, _index in TOKEN_INDEX.items():
  add_task_token(_name, _index)
for _name in MIXTURES:
  mixtures.add_task_tokens(_name)
