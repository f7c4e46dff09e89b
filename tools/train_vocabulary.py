"""Trains a SentencePiece vocabulary on the training text of a mixture.

    python -m tools.train_vocabulary --mixture=glue_v002_proportional \\
        --size=8000 --output=/tmp/vocabulary

The text is what the model would read: inputs with their prefixes, and targets.
The conventions are T5's: pad 0, end of sequence 1, unknown 2, no start symbol,
no byte fallback, sentinels added by SeqIO when the model is loaded. All
printable ASCII characters are in the vocabulary, so that every label and digit
round-trips. The same text gives the same file, byte for byte.

Such a vocabulary loses some information: the rarest characters of the text
(--character_coverage; their number is printed) and those not in the text become
one unknown id; doubled blanks, tabs and line ends become one blank. Training
prints how many of its texts are affected; --vocabulary=bytes keeps everything.

Tasks with their own vocabulary (the embedded tasks: bytes) can supply text, but
keep that vocabulary.
"""

from collections.abc import Sequence

from absl import flags

from hypergrid_mtf.run import console, t5_flags

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define(
    *("gin_file", "gin_param", "module_import", "t5_tfds_data_dir"),
  )
  flags.DEFINE_string("mixture", None, "Registered mixture or task.")
  flags.DEFINE_integer(
    "size", 8000, "Pieces, without the 100 sentinels.", lower_bound=1
  )
  flags.DEFINE_string(
    "output",
    None,
    "Folder for sentencepiece.model, or a path ending in .model.",
  )
  flags.DEFINE_enum(
    "model_type", "unigram", ("unigram", "bpe"), "T5's is unigram."
  )
  flags.DEFINE_integer(
    "max_examples",
    50_000,
    "Only this many examples of each task; 0 for all.",
    lower_bound=0,
  )
  flags.DEFINE_float(
    "character_coverage",
    0.9995,
    "Share of the text's characters to cover.",
    lower_bound=0.9,
    upper_bound=1.0,
  )


console.read_flags(__name__, define_flags, ["t5_tfds_data_dir"])

import seqio

import t5_tasks
from t5_tasks import mixtures, vocabularies
from tools.data import mixture_flags, vocabulary_training

EXTRA_IDS = 100  # of T5, added when the model is loaded


def main(unused_argv: Sequence[str]) -> None:
  """Runs the program on its flags."""
  mixture_flags.bind_flags(FLAGS, "mixture", "output")
  t5_tasks.define_from_gin()
  trained = vocabulary_training.train_vocabulary(
    FLAGS.mixture,
    FLAGS.size,
    FLAGS.output,
    FLAGS.model_type,
    FLAGS.max_examples or None,
    FLAGS.character_coverage,
  )
  console.say(
    f"{trained.path}: {FLAGS.size} pieces ({FLAGS.size + EXTRA_IDS} ids "
    f"with T5's sentinels), {FLAGS.model_type}, from {trained.examples} "
    f"examples ({trained.text_bytes / 1e6:.1f} MB of text) of {trained.tasks} "
    "tasks"
  )
  if trained.unknown:
    shown = ", ".join(map(repr, trained.unknown[:10]))
    more = ", ..." if len(trained.unknown) > 10 else ""
    console.say(
      f"{len(trained.unknown)} characters of the text are too rare to be "
      f"included ({shown}{more}): the model will read each as unknown; "
      "--character_coverage=1 keeps all"
    )
  _say_how_to_use(trained.path, mixtures.get_mixture_or_task(FLAGS.mixture))


def _say_how_to_use(
  path: str, mixture_or_task: seqio.Task | seqio.Mixture
) -> None:
  """Recommends --vocabulary, except for tasks that cannot use it."""
  own = vocabularies.keeping_their_own(mixture_or_task)
  if len(own) < len(seqio.get_subtasks(mixture_or_task)):
    console.say(f"to use it: --vocabulary={path}")
  if own:
    console.say(
      f"not for {', '.join(own)}: these tasks have their own vocabulary"
    )


if __name__ == "__main__":
  console.run(main)
