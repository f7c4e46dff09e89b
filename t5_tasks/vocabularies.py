"""A vocabulary other than the public T5 one, for all registered tasks.

T5's tasks are registered with the public SentencePiece vocabulary, which is in
the cloud. `use_vocabulary` replaces it by bytes or by the user's SentencePiece
model (`python -m tools.train_vocabulary`).
"""

import collections
import dataclasses
import functools
import os
import re
import threading
from collections.abc import Iterable

import gin
import seqio
import t5.data
import tensorflow.compat.v2 as tf

from hypergrid_mtf.errors import UserError

MODEL_FILE = "sentencepiece.model"
_CLOUD_SECONDS = 20.0
_SHOWN = 10  # characters that a message names
_HOW_TO_GET_ONE = (
  "train one with `python -m tools.train_vocabulary`, or give "
  "--vocabulary=bytes"
)

# The vocabularies that use_vocabulary has assigned, by identity: the next call
# replaces only these and t5's default.
_put: list[seqio.Vocabulary] = []


def get_vocabulary(name: str, extra_ids: int = 100) -> seqio.Vocabulary:
  """The vocabulary with a name.

  Args:
    name: "t5" for the public one, "bytes", or the path (local or gs://) of a
      SentencePiece model, or of a folder that holds `sentencepiece.model`.
    extra_ids: sentinels at the end of the vocabulary; "t5" always has 100.

  Returns:
    A vocabulary of `pieces + extra_ids` ids; pad is 0, end of sequence is 1.

  Raises:
    UserError: no such file, not a SentencePiece model, or one with special ids
      other than T5's.
  """
  if type(extra_ids) is not int or extra_ids < 0:
    raise UserError(
      f"extra_ids is {extra_ids!r}: give a number of 0 or more; T5's is 100."
    )
  if not isinstance(name, str) or not name:
    raise UserError(
      f"the vocabulary {name!r} (--vocabulary or use_vocabulary.name) is not a "
      "name: give the path of a SentencePiece model, 'bytes' or 't5'."
    )
  if name == "t5":
    return t5.data.get_default_vocabulary()
  if name == "bytes":
    return seqio.ByteVocabulary(extra_ids=extra_ids)
  path = os.path.expanduser(name)
  if "://" not in path and os.path.isdir(path):
    path = os.path.join(path, MODEL_FILE)
  if not _exists(path):
    raise UserError(
      f"There is no SentencePiece model at {path!r} (--vocabulary or "
      "t5_tasks.vocabularies.use_vocabulary.name), or it cannot be reached: "
      f"{_HOW_TO_GET_ONE}."
    )
  vocabulary = seqio.SentencePieceVocabulary(path, extra_ids=extra_ids)
  try:
    tokenizer = vocabulary.tokenizer
  except Exception as e:  # the libraries raise different errors
    raise UserError(
      f"The file {path!r} is not a SentencePiece model: {_HOW_TO_GET_ONE}."
    ) from e
  ids = (tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.unk_id())
  if ids != (0, 1, 2):
    raise UserError(
      f"The SentencePiece model {path!r} has the ids {ids} for padding, end of "
      f"sequence and unknown, but T5 needs (0, 1, 2): {_HOW_TO_GET_ONE}."
    )
  return vocabulary


@gin.configurable(module="t5_tasks.vocabularies")
def use_vocabulary(
  name: str | None = None, extra_ids: int = 100
) -> seqio.Vocabulary | None:
  """Replaces the vocabulary of all tasks that use t5's default.

  Includes tasks changed by an earlier call. Tasks registered with their own
  vocabulary (the embedded tasks: bytes) keep it.

  Args:
    name: as in `get_vocabulary`; None leaves the tasks as they are.
    extra_ids: sentinels at the end of the vocabulary.

  Returns:
    The vocabulary, or None if `name` is None.

  Raises:
    UserError: as `get_vocabulary`.
  """
  if name is None:
    return None
  vocabulary = get_vocabulary(name, extra_ids)
  for task in _all_tasks():
    # In place, because a mixture holds its tasks and cannot be registered
    # again.
    features = task.output_features
    for key, feature in features.items():
      if _is_replaceable(getattr(feature, "vocabulary", None)):
        features[key] = dataclasses.replace(feature, vocabulary=vocabulary)
  _put.append(vocabulary)
  return vocabulary


def check_vocabulary(mixture_or_task: seqio.Task | seqio.Mixture) -> None:
  """Checks that the tasks' vocabularies are readable and the same.

  Raises:
    UserError: a SentencePiece file that does not exist or cannot be reached, or
      two tasks with different vocabularies; says which flag to give.
  """
  by_feature: dict[str, tuple[seqio.Vocabulary, str]] = {}
  for task in seqio.get_subtasks(mixture_or_task):
    for key, feature in task.output_features.items():
      vocabulary = feature.vocabulary
      is_file = isinstance(vocabulary, seqio.SentencePieceVocabulary)
      if is_file and not _exists(vocabulary.sentencepiece_model_file):
        raise UserError(
          f"The vocabulary {vocabulary.sentencepiece_model_file} of the task "
          f"{task.name!r} does not exist or cannot be reached: give "
          "--vocabulary=PATH of a SentencePiece model "
          "(`python -m tools.train_vocabulary` trains one), or "
          "--vocabulary=bytes."
        )
      first, other = by_feature.setdefault(key, (vocabulary, task.name))
      if first != vocabulary:
        raise UserError(
          f"The tasks {other!r} and {task.name!r} of the mixture "
          f"{mixture_or_task.name!r} have different vocabularies "
          f"({describe(first)}; {describe(vocabulary)}): a mixture needs one: "
          "give --vocabulary=PATH or --vocabulary=bytes."
        )


def describe_lost_characters(
  vocabulary: seqio.Vocabulary, texts: Iterable[str], what: str
) -> str | None:
  """A sentence about what encoding loses of texts, or None.

  SentencePiece without byte fallback, as in T5, encodes all unknown characters
  as one id, and every run of white space as one blank.

  Args:
    vocabulary: any; only a SentencePiece vocabulary can lose something.
    texts: some texts.
    what: what they are, such as "sampled inputs".
  """
  if not isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return None
  tokenizer = vocabulary.tokenizer
  keeps_blanks = tokenizer.encode("a  b") != tokenizer.encode("a b")
  count, unknown, blanks = 0, 0, 0
  characters: collections.Counter[str] = collections.Counter()
  for text in texts:
    count += 1
    found = [
      character
      for piece in tokenizer.encode(text, out_type="immutable_proto").pieces
      if piece.id == tokenizer.unk_id()
      for character in piece.surface
      if not character.isspace()
    ]
    characters.update(found)
    unknown += bool(found)
    # Blanks at the ends do not count: GLUE's own texts end in blanks.
    blanks += not keeps_blanks and bool(re.search(r"[^\S ]|  ", text.strip()))
  parts = []
  if unknown:
    most = ", ".join(repr(c) for c, _ in characters.most_common(_SHOWN))
    more = ", ..." if len(characters) > _SHOWN else ""
    parts.append(
      f"{unknown:,} of {count:,} {what} have characters that the vocabulary "
      f"lacks ({most}{more}): the model reads each as unknown and cannot write "
      "it"
    )
  if blanks:
    parts.append(
      f"{blanks:,} of {count:,} {what} have doubled blanks, tabs or line ends, "
      "which become one blank"
    )
  return "; ".join(parts) or None


def keeping_their_own(mixture_or_task: seqio.Task | seqio.Mixture) -> list[str]:
  """The names of tasks whose vocabulary `use_vocabulary` does not replace."""
  return [
    task.name
    for task in seqio.get_subtasks(mixture_or_task)
    if not any(
      _is_replaceable(feature.vocabulary)
      for feature in task.output_features.values()
    )
  ]


def check_used(
  vocabulary: seqio.Vocabulary | None,
  mixture_or_task: seqio.Task | seqio.Mixture,
) -> None:
  """Checks that the tasks use the requested vocabulary, of `use_vocabulary`.

  Raises:
    UserError: a task keeps its own, different vocabulary.
  """
  if vocabulary is None:
    return
  own = set(keeping_their_own(mixture_or_task))
  for task in seqio.get_subtasks(mixture_or_task):
    for feature in task.output_features.values():
      if task.name in own and feature.vocabulary != vocabulary:
        raise UserError(
          "The requested vocabulary (--vocabulary or use_vocabulary.name; "
          f"{describe(vocabulary)}) cannot be used: the task {task.name!r} of "
          f"{mixture_or_task.name!r} has its own "
          f"({describe(feature.vocabulary)}); leave it out, or choose tasks "
          "with T5's default vocabulary."
        )


def describe(vocabulary: seqio.Vocabulary) -> str:
  """What a vocabulary is, in a few words, without reading it."""
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return f"SentencePiece {vocabulary.sentencepiece_model_file}"
  if isinstance(vocabulary, seqio.ByteVocabulary):
    return f"bytes with {vocabulary.extra_ids} extra ids"
  return type(vocabulary).__name__


def _all_tasks() -> list[seqio.Task]:
  """All registered tasks, and those that only a mixture still holds."""
  tasks = list(map(seqio.TaskRegistry.get, seqio.TaskRegistry.names()))
  for name in seqio.MixtureRegistry.names():
    tasks += seqio.MixtureRegistry.get(name).tasks
  return list({id(task): task for task in tasks}.values())


def _is_replaceable(vocabulary: seqio.Vocabulary | None) -> bool:
  if any(vocabulary is v for v in _put):
    return True
  return (
    isinstance(vocabulary, seqio.SentencePieceVocabulary)
    and vocabulary.sentencepiece_model_file == t5.data.DEFAULT_SPM_PATH
  )


def _exists(path: str) -> bool:
  """Whether a file exists; a remote one has limited time to answer."""
  return _remote_exists(path) if "://" in path else os.path.isfile(path)


@functools.cache
def _remote_exists(path: str) -> bool:
  """Asks once per process: offline, TensorFlow retries for minutes."""
  answer: list[bool] = []

  def ask():
    try:
      answer.append(tf.io.gfile.exists(path))
    except Exception:  # no network, no permission, no such file system
      answer.append(False)

  # A daemon thread, so that a request without an answer does not keep the
  # program alive.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(_CLOUD_SECONDS)
  return bool(answer and answer[0])
