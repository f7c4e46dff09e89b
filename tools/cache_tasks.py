"""Writes the tokens of a mixture's tasks, so that runs need no raw data.

    python -m tools.cache_tasks --mixture=local_v1 \\
        --gin_file=data/local_mixture.gin --t5_tfds_data_dir=data \\
        --vocabulary=vocabulary/sentencepiece.model --output_cache_dir=cache

A run then uses them with

    --additional_task_cache_dirs=cache \\
    --gin_param="mesh_train_dataset_fn.use_cached = True"

and an evaluation with `mesh_eval_dataset_fn.use_cached = True`. The files are
those of SeqIO's own `seqio_cache_tasks`, which needs Apache Beam; in addition
they record the vocabulary, and a run with another one is refused.
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
  flags.DEFINE_string("vocabulary", None, "As for `hypergrid_mtf.main`.")
  flags.DEFINE_string("mixture", None, "Registered mixture or task.")
  flags.DEFINE_string(
    "output_cache_dir", None, "Folder to write to, local or in the cloud."
  )


console.read_flags(__name__, define_flags, ["vocabulary", "t5_tfds_data_dir"])

import seqio

import t5_tasks
from hypergrid_mtf.run import examples as examples_lib
from hypergrid_mtf.run.checks import data as data_checks
from t5_tasks import mixtures, vocabularies, vocabulary_record
from tools.data import mixture_flags, task_cache


def main(unused_argv: Sequence[str]) -> None:
  """Runs the program on its flags."""
  mixture_flags.bind_flags(FLAGS, "mixture", "output_cache_dir")
  cache_mixture(
    FLAGS.mixture,
    FLAGS.output_cache_dir,
    FLAGS.t5_tfds_data_dir,
    FLAGS.vocabulary,
  )


def cache_mixture(
  name: str,
  folder: str,
  tfds_data_dir: str | None = None,
  vocabulary: str | None = None,
) -> None:
  """Writes every task of a mixture and prints what it wrote.

  Raises:
    UserError: data are missing or cannot be read, or the folder has a task with
      another vocabulary.
  """
  t5_tasks.define_from_gin()
  used = vocabularies.use_vocabulary(*([vocabulary] if vocabulary else []))
  mixture = mixtures.get_mixture_or_task(name)
  vocabularies.check_used(used, mixture)
  vocabularies.check_vocabulary(mixture)
  data_checks.check_data(mixture, tfds_data_dir)
  for task in seqio.get_subtasks(mixture):
    if not task.supports_caching:
      console.say(f"{task.name}: cannot be cached, so runs need its raw data")
      continue
    for split in task.splits:
      examples_lib.check_examples([task], split)
    rows = task_cache.write_task(task, folder, vocabulary_record.record(task))
    counts = [f"{split} {count:,}" for split, count in (rows or {}).items()]
    console.say(f"{task.name}: {', '.join(counts) or 'already cached'}")
  console.say(
    "To train without the raw data, add to the command:\n"
    f"  --additional_task_cache_dirs={folder} "
    '--gin_param="mesh_train_dataset_fn.use_cached = True"'
  )


if __name__ == "__main__":
  console.run(main)
