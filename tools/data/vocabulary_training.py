"""Trains a SentencePiece vocabulary by T5's conventions."""

import collections
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Sequence

import sentencepiece
import seqio

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import data_checks, files
from t5_tasks import mixtures, vocabularies
from tools.data import task_text

MODEL_TYPES = ("unigram", "bpe")
_PRINTABLE_ASCII = "".join(map(chr, range(33, 127)))
# SentencePiece drops longer lines; a RECORD passage is about 3,000 bytes.
_LONGEST_LINE = 1 << 20
# Part of the result: each thread sums its own share of the counts.
_THREADS = 4
# The ids of padding, end of sequence and unknown.
_SPECIAL_IDS = 3


@dataclasses.dataclass(frozen=True)
class Trained:
  """What `train` wrote: where, from how much.

  Attributes:
    path: of the SentencePiece model.
    size: pieces, without the sentinels.
    tasks: how many tasks the text is from.
    examples: how many examples the text is from.
    text_bytes: UTF-8 bytes of text.
    unknown: the characters of the text that are not in the vocabulary, the most
      frequent first.
  """

  path: str
  size: int
  tasks: int
  examples: int
  text_bytes: int
  unknown: tuple[str, ...]


def train(
  mixture: str,
  size: int,
  output: str,
  model_type: str = "unigram",
  max_examples: int | None = 50_000,
  character_coverage: float = 0.9995,
) -> Trained:
  """Trains a vocabulary on a mixture and writes it whole or not at all.

  Args:
    mixture: a registered mixture or task; its tasks of rate 0 are not read.
    size: pieces, without sentinels.
    output: a folder (gets `sentencepiece.model` and `.vocab`), or a path that
      ends in `.model`.
    model_type: "unigram" as T5's, or "bpe".
    max_examples: the first so many of each task; None for all.
    character_coverage: SentencePiece's; the rarest characters become unknown.

  Returns:
    Where the model is, and what it was trained on.

  Raises:
    UserError: an unknown mixture or model type, a size that the text cannot
      give, data that cannot be read, an output that cannot be written.
  """
  if model_type not in MODEL_TYPES:
    raise UserError(
      f"--model_type is {model_type!r}: it must be one of "
      f"{', '.join(MODEL_TYPES)}."
    )
  if max_examples is not None and max_examples < 1:
    raise UserError(f"--max_examples is {max_examples}: it must be 1 or more.")
  if size < 1:
    raise UserError(f"--size is {size}: it must be 1 or more.")
  if not 0.9 <= character_coverage <= 1.0:
    raise UserError(
      f"--character_coverage is {character_coverage}: it must be between 0.9 "
      "and 1."
    )
  tasks = task_text.training_tasks(mixtures.get_mixture_or_task(mixture))
  data_checks.check_examples(tasks, "train")
  path = _model_path(output)
  files.check_output(path)
  reader = _Reader(tasks, max_examples)
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(reader),
      model_writer=model,
      # With fewer it stops before it has counted what it needs.
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
    if reader.error is not None:
      raise reader.error from e
    raise _explain(str(e), size, mixture) from e
  if reader.error is not None:
    raise reader.error
  processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
  files.write(path.removesuffix(".model") + ".vocab", _pieces(processor))
  files.write(path, model.getvalue())
  unknown = tuple(
    c
    for c, _ in reader.characters.most_common()
    if processor.unk_id() in processor.encode(c)
  )
  return Trained(
    path, size, len(tasks), reader.examples, reader.text_bytes, unknown
  )


class _Reader:
  """Iterates over the lines of all tasks, and counts.

  SentencePiece turns what is raised in its iterator into another error, so it
  is kept in `error`.
  """

  def __init__(self, tasks: Sequence[seqio.Task], max_examples: int | None):
    self._tasks = tasks
    self._max_examples = max_examples
    self.examples = 0
    self.text_bytes = 0
    self.characters: collections.Counter[str] = collections.Counter()
    self.error: UserError | None = None

  def __iter__(self) -> Iterator[str]:
    for task in self._tasks:
      try:
        for texts in task_text.training_text(task, self._max_examples):
          self.examples += 1
          for text in texts:
            line = " ".join(text.split())
            if line:
              self.text_bytes += len(line.encode())
              self.characters.update(line)
              yield line
      except UserError as e:
        self.error = e
        return
      except Exception as e:  # whatever the data source raises
        reason = (str(e).strip() or type(e).__name__).splitlines()[0]
        self.error = UserError(
          f"The training examples of the task {task.name!r} cannot be read "
          f"({reason}): give --t5_tfds_data_dir where they are prepared."
        )
        self.error.__cause__ = e
        return
    if not self.text_bytes:
      self.error = UserError(
        f"The tasks {', '.join(t.name for t in self._tasks)} have no training "
        "text: check --mixture and --t5_tfds_data_dir."
      )
      return
    # Required characters must occur: SentencePiece 0.2.1 ends the process when
    # a BPE is trained with a required character of frequency 0.
    yield " ".join(_PRINTABLE_ASCII)


def _explain(message: str, size: int, mixture: str) -> UserError:
  """What SentencePiece says about sizes, in one sentence."""
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
  """For the reader: the pieces and their scores."""
  return "".join(
    f"{processor.IdToPiece(i)}\t{processor.GetScore(i):g}\n"
    for i in range(processor.GetPieceSize())
  )
