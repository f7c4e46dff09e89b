"""The text of tasks just before tokenization."""

from collections.abc import Iterator

import seqio
import tensorflow.compat.v2 as tf
import tensorflow_datasets as tfds

from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures


def training_tasks(
  mixture_or_task: seqio.Task | seqio.Mixture,
) -> list[seqio.Task]:
  """The tasks with a rate above 0, each text once.

  Of a task and its `_task_token` variant, which have the same text, only one is
  returned.
  """
  if isinstance(mixture_or_task, seqio.Task):
    return [mixture_or_task]
  by_base: dict[str, seqio.Task] = {}
  for task in mixture_or_task.tasks:
    if mixture_or_task.get_rate(task) > 0:
      by_base.setdefault(mixtures.base_name(task.name), task)
  return list(by_base.values())


def untokenized(task: seqio.Task, split: str) -> tf.data.Dataset:
  """The examples of a task just before tokenization.

  No vocabulary is read.

  Raises:
    UserError: a task without the split, or that does not tokenize with SeqIO.
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
      "its text cannot be read: give other tasks."
    )
  if split not in task.splits:
    raise UserError(
      f"The task {task.name!r} has no {split} split, only "
      f"{', '.join(task.splits)}: give other tasks."
    )
  dataset = task.source.get_dataset(split=split, shuffle=False)
  return task._preprocess_dataset(dataset, steps[: end[0]])  # pylint: disable=protected-access


def training_text(
  task: seqio.Task, max_examples: int | None = None
) -> Iterator[list[str]]:
  """Yields [inputs, targets] of training examples, as far as a task has them.

  Args:
    task: as in `untokenized`.
    max_examples: the number of examples; None for all.

  Raises:
    UserError: the examples cannot be read.
  """
  keys = list(task.output_features)
  try:
    with tf.Graph().as_default():
      dataset = untokenized(task, "train").take(max_examples or -1)
      for example in tfds.as_numpy(
        dataset.map(lambda ex: {k: ex[k] for k in keys if k in ex})
      ):
        yield [
          tf.compat.as_text(value)
          for _, value in sorted(example.items())
          if isinstance(value, bytes | str)
        ]
  except UserError:
    raise
  except Exception as e:
    reason = (str(e).strip() or type(e).__name__).splitlines()[0]
    raise UserError(
      f"The training examples of the task {task.name!r} cannot be read "
      f"({reason}): give --t5_tfds_data_dir with the prepared data."
    ) from e
