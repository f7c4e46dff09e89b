"""Trains a SentencePiece vocabulary on the training text of a mixture.

    python -m tools.train_vocabulary --mixture=glue_v002_proportional \\
        --size=8000 --output=/tmp/vocabulary

The text is what the model would see, inputs with their prefixes and targets.
The conventions are T5's: pad 0, end of sequence 1, unknown 2, no start symbol,
no byte fallback, sentinels added by SeqIO when the model is loaded. All
printable ASCII characters are in the vocabulary, so that every label and digit
round-trips. The same text gives the same file, byte for byte.

What such a vocabulary does not keep: the rarest characters of the text
(--character_coverage; how many is said at the end) and all that are not in the
text become one unknown id, doubled blanks, tabs and line ends become one blank.
Training says what that does to its texts; --vocabulary=bytes keeps everything.

Tasks that have a vocabulary of their own (the embedded tasks: bytes) can be
trained on, but keep theirs.
"""

import collections
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Sequence

import hypergrid_mtf  # noqa: F401  (first: mends, and quiets TensorFlow)

# isort: split
import gin
import sentencepiece
import seqio
import tensorflow.compat.v2 as tf
import tensorflow_datasets as tfds
from absl import flags

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.launch import console, data_checks
from t5_tasks import mixtures, vocabularies

MODEL_TYPES = ("unigram", "bpe")
EXTRA_IDS = 100  # of T5, added when the model is loaded
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
  tasks = training_tasks(mixtures.get_mixture_or_task(mixture))
  data_checks.check_examples(tasks, "train")
  path = _model_path(output)
  _check_writable(path)
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
  _write(path, model.getvalue())
  processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
  unknown = tuple(
    c
    for c, _ in reader.characters.most_common()
    if processor.unk_id() in processor.encode(c)
  )
  return Trained(
    path, size, len(tasks), reader.examples, reader.text_bytes, unknown
  )


def training_tasks(
  mixture_or_task: seqio.Task | seqio.Mixture,
) -> list[seqio.Task]:
  """The tasks whose train split is trained on, each text once.

  Args:
    mixture_or_task: registered.

  Returns:
    The tasks of rate above 0; a task and its `_task_token` variant have the
    same text, and only one of them is returned.
  """
  if isinstance(mixture_or_task, seqio.Task):
    return [mixture_or_task]
  by_base = {}
  for task in mixture_or_task.tasks:
    if mixture_or_task.get_rate(task) > 0:
      by_base.setdefault(mixtures.base_name(task.name), task)
  return list(by_base.values())


def pretokenized_text(
  task: seqio.Task, max_examples: int | None = None
) -> Iterator[list[str]]:
  """The text of a task's train split just before it is tokenized.

  Args:
    task: one with a seqio.preprocessors.tokenize step. Its vocabulary is not
      read.
    max_examples: the first so many; None for all.

  Yields:
    [inputs, targets] of each example, without those that the task lacks.

  Raises:
    UserError: a task that has no train split or does not tokenize by SeqIO.
  """
  steps = list(task.preprocessors)
  tokenizers = (
    seqio.preprocessors.tokenize,
    seqio.preprocessors.tokenize_and_append_eos,
  )
  end = [i for i, p in enumerate(steps) if getattr(p, "func", p) in tokenizers]
  if not end:
    raise UserError(
      f"The task {task.name!r} has no seqio.preprocessors.tokenize step, so "
      "its text cannot be read: train on other tasks."
    )
  if "train" not in task.splits:
    raise UserError(
      f"The task {task.name!r} has no train split, only "
      f"{', '.join(task.splits)}: train on other tasks."
    )
  keys = list(task.output_features)
  with tf.Graph().as_default():
    dataset = task.source.get_dataset(split="train", shuffle=False)
    dataset = task._preprocess_dataset(dataset, steps[: end[0]])  # pylint: disable=protected-access
    if max_examples is not None:
      dataset = dataset.take(max_examples)
    for example in tfds.as_numpy(
      dataset.map(lambda ex: {k: ex[k] for k in keys if k in ex})
    ):
      yield [
        tf.compat.as_text(value)
        for _, value in sorted(example.items())
        if isinstance(value, bytes | str)
      ]


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
    self.characters = collections.Counter()
    self.error = None

  def __iter__(self) -> Iterator[str]:
    for task in self._tasks:
      try:
        for texts in pretokenized_text(task, self._max_examples):
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


def _beside(path: str) -> str:
  return f"{path}.tmp-{os.getpid()}"


def _check_writable(path: str) -> None:
  """Fails before the training and not after it."""
  folder = os.path.dirname(path) or "."
  try:
    if tf.io.gfile.isdir(path):
      raise UserError(f"--output is {path!r}, which is a folder, not a file.")
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(_beside(path), "wb") as f:
      f.write(b"")
    tf.io.gfile.remove(_beside(path))
  except (tf.errors.OpError, OSError) as e:
    raise UserError(
      f"--output: the folder {folder!r} cannot be written "
      f"({str(e).splitlines()[0]}): choose another."
    ) from e


def _write(path: str, model: bytes) -> None:
  """Writes the model and, for the reader, its list of pieces and scores."""
  processor = sentencepiece.SentencePieceProcessor(model_proto=model)
  pieces = "".join(
    f"{processor.IdToPiece(i)}\t{processor.GetScore(i):g}\n"
    for i in range(processor.GetPieceSize())
  )
  files = {
    path.removesuffix(".model") + ".vocab": pieces.encode(),
    path: model,
  }
  try:
    for name, content in files.items():
      with tf.io.gfile.GFile(_beside(name), "wb") as f:
        f.write(content)
    for name in files:
      tf.io.gfile.rename(_beside(name), name, overwrite=True)
  except (tf.errors.OpError, OSError) as e:
    raise UserError(
      f"--output: {path!r} cannot be written ({str(e).splitlines()[0]}): "
      "choose another folder."
    ) from e
  finally:
    for name in files:
      if tf.io.gfile.exists(_beside(name)):
        tf.io.gfile.remove(_beside(name))


def define_flags() -> None:
  """Defines the flags; only for the program, so that tests can import it."""
  flags.DEFINE_string("mixture", None, "Registered mixture or task.")
  flags.DEFINE_integer("size", 8000, "Pieces, without the 100 sentinels.")
  flags.DEFINE_string(
    "output",
    None,
    "Folder for sentencepiece.model, or a path ending in .model.",
  )
  flags.DEFINE_enum("model_type", "unigram", MODEL_TYPES, "As T5's: unigram.")
  flags.DEFINE_integer(
    "max_examples", 50_000, "The first so many of each task; 0 for all."
  )
  flags.DEFINE_float(
    "character_coverage",
    0.9995,
    "Share of the text's characters that are covered.",
  )
  flags.DEFINE_string(
    "t5_tfds_data_dir", None, "Where TFDS has prepared the data sets."
  )
  flags.DEFINE_multi_string(
    "module_import", None, "Modules that register further tasks."
  )
  # --gin_file and --gin_param are Mesh TensorFlow's own.
  for name in ("gin_file", "gin_param"):
    if name not in flags.FLAGS:
      flags.DEFINE_multi_string(name, None, "Gin that defines the mixture.")


def _parse_gin(files: Sequence[str], bindings: Sequence[str]) -> None:
  try:
    for file in files:
      gin.parse_config_file(file, skip_unknown=True)
    gin.parse_config(list(bindings))
  except Exception as e:  # gin raises a dozen kinds
    reason = " ".join(str(e).split())
    raise UserError(f"--gin_file or --gin_param is wrong: {reason}") from e


def main(unused_argv: Sequence[str]) -> None:
  """Runs the program on its flags."""
  args = flags.FLAGS
  for name in ("mixture", "output"):
    if not args[name].value:
      raise UserError(f"--{name} is missing: see --help.")
  for module in args.module_import or ():
    try:
      __import__(module)
    except ImportError as e:
      raise UserError(
        f"--module_import={module} cannot be imported: {e}"
      ) from e
  if args.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(args.t5_tfds_data_dir)
  _parse_gin(args.gin_file or (), args.gin_param or ())
  mixtures.define_mixture()
  trained = train(
    args.mixture,
    args.size,
    args.output,
    args.model_type,
    args.max_examples or None,
    args.character_coverage,
  )
  console.say(
    f"{trained.path}: {trained.size} pieces ({trained.size + EXTRA_IDS} ids "
    f"with T5's sentinels), {args.model_type}, from {trained.examples} "
    f"examples ({trained.text_bytes / 1e6:.1f} MB of text) of {trained.tasks} "
    "tasks"
  )
  if trained.unknown:
    shown = ", ".join(map(repr, trained.unknown[:10]))
    more = ", ..." if len(trained.unknown) > 10 else ""
    console.say(
      f"{len(trained.unknown)} characters of the text are too rare to be in it "
      f"({shown}{more}): the model will see each as unknown; "
      "--character_coverage=1 keeps all"
    )
  _say_how_to_use(trained.path, mixtures.get_mixture_or_task(args.mixture))


def _say_how_to_use(
  path: str, mixture_or_task: seqio.Task | seqio.Mixture
) -> None:
  """Recommends --vocabulary, but not for tasks that cannot take it."""
  own = vocabularies.keeping_their_own(mixture_or_task)
  if len(own) < len(seqio.get_subtasks(mixture_or_task)):
    console.say(f"use it: --vocabulary={path}")
  if own:
    console.say(
      f"not for {', '.join(own)}: with a vocabulary of their own, these tasks "
      "cannot take another"
    )


if __name__ == "__main__":
  define_flags()
  console.run(main)
