"""Trains a SentencePiece vocabulary by T5's conventions."""

import collections
import dataclasses
import io
import itertools
import os
import re

import sentencepiece

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import examples as examples_lib
from hypergrid_mtf.run import files
from t5_tasks import mixtures, vocabularies
from tools.data import task_text

_PRINTABLE_ASCII = "".join(map(chr, range(33, 127)))
# SentencePiece drops longer lines; a RECORD passage is about 3,000 bytes.
_LONGEST_LINE = 1 << 20
# Affects the result: each thread sums its share of the counts.
_THREADS = 4
# The ids of padding, end of sequence and unknown.
_SPECIAL_IDS = 3


@dataclasses.dataclass(frozen=True)
class Trained:
  """What `train_vocabulary` wrote, and from how much text."""

  path: str
  tasks: int
  examples: int
  text_bytes: int
  unknown: tuple[str, ...]  # characters that it lacks, most frequent first


def train_vocabulary(
  mixture: str,
  size: int,
  output: str,
  model_type: str = "unigram",
  max_examples: int | None = 50_000,
  character_coverage: float = 0.9995,
) -> Trained:
  """Trains a vocabulary on a mixture and writes it atomically.

  Args:
    mixture: a registered mixture or task; tasks with rate 0 are not read.
    size: pieces, without sentinels.
    output: a folder (gets `sentencepiece.model` and `.vocab`), or a path that
      ends in `.model`.
    model_type: "unigram", as T5's, or "bpe".
    max_examples: number of examples of each task; None for all.
    character_coverage: SentencePiece's; the rarest characters become unknown.

  Raises:
    UserError: an unknown mixture, a size too large for the text, data that
      cannot be read, an output that cannot be written.
  """
  tasks = task_text.training_tasks(mixtures.get_mixture_or_task(mixture))
  examples_lib.check_examples(tasks, "train")
  path = _model_path(output)
  files.check_output(path)
  examples = 0
  text: list[str] = []
  for task in tasks:
    for fields in task_text.training_text(task, max_examples):
      examples += 1
      text += filter(None, (" ".join(f.split()) for f in fields))
  if not text:
    raise UserError(
      f"The tasks {', '.join(t.name for t in tasks)} have no training text: "
      "check --mixture and --t5_tfds_data_dir."
    )
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      # Required characters must occur: SentencePiece 0.2.1 kills the process if
      # a BPE model requires a character of frequency 0.
      sentence_iterator=iter([*text, " ".join(_PRINTABLE_ASCII)]),
      model_writer=model,
      # With fewer it stops before counting what it needs.
      vocab_size=max(size, _SPECIAL_IDS),
      model_type=model_type,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      byte_fallback=False,
      character_coverage=character_coverage,
      required_chars=_PRINTABLE_ASCII,
      max_sentence_length=_LONGEST_LINE,
      shuffle_input_sentence=False,
      num_threads=_THREADS,
      minloglevel=2,
    )
  except (RuntimeError, OSError) as e:
    raise _explain(str(e), size, mixture) from e
  processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
  files.write(path.removesuffix(".model") + ".vocab", _pieces(processor))
  files.write(path, model.getvalue())
  characters = collections.Counter(itertools.chain.from_iterable(text))
  unknown = tuple(
    c
    for c, _ in characters.most_common()
    if processor.unk_id() in processor.encode(c)
  )
  text_bytes = sum(len(line.encode()) for line in text)
  return Trained(path, len(tasks), examples, text_bytes, unknown)


def _explain(message: str, size: int, mixture: str) -> UserError:
  """SentencePiece's error about sizes, in one sentence."""
  if too_high := re.search(r"too high.*?<= ?(\d+)", message, re.DOTALL):
    return UserError(
      f"--size is {size}, but the text of {mixture!r} gives at most "
      f"{too_high[1]} pieces: give --size={too_high[1]} or less, or more text."
    )
  if too_small := re.search(r"(\d+) ?(?:vs|<=?) ?(\d+)", message):
    least = max(map(int, too_small.groups()))
    return UserError(
      f"--size is {size}, but the characters of {mixture!r} alone need {least} "
      f"pieces: give --size={least} or more."
    )
  return UserError(
    f"SentencePiece cannot train {size} pieces on the text of {mixture!r}: "
    f"{' '.join(message.split())}"
  )


def _model_path(output: str) -> str:
  if not output:
    raise UserError("--output is empty: give a folder for the vocabulary.")
  output = output if "://" in output else os.path.expanduser(output)
  if output.endswith(".model"):
    return output
  return os.path.join(output, vocabularies.MODEL_FILE)


def _pieces(processor: sentencepiece.SentencePieceProcessor) -> str:
  """The pieces and their scores, to be read by people."""
  return "".join(
    f"{processor.IdToPiece(i)}\t{processor.GetScore(i):g}\n"
    for i in range(processor.GetPieceSize())
  )
