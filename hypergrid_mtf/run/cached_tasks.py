"""Tasks whose tokens were written before a run, by `seqio_cache_tasks` or ours.

A run with `use_cached = True` reads those files and needs neither the raw data
nor, on the machine that reads, the vocabulary's operations.
"""

import seqio

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files, request, vocabulary_file


def binding(asked: request.Request) -> str:
  """The name of the binding by which a run would read cached tasks."""
  reader = "mesh_train_dataset_fn" if asked.trains else "mesh_eval_dataset_fn"
  return f"{reader}.use_cached"


def used(asked: request.Request) -> bool:
  """Whether a run reads cached tasks, and makes no examples from raw data."""
  return bool(gin_files.value(binding(asked), False))


def is_cached(task: seqio.Task) -> bool:
  """Whether a task is in a folder of --additional_task_cache_dirs."""
  return task.supports_caching and task.cache_dir is not None


def check(
  mixture_or_task, asked: request.Request, record: dict[str, dict]
) -> None:
  """Checks that what a run reads from a cache is there, and of its vocabulary.

  Args:
    mixture_or_task: a seqio Mixture or Task.
    asked: the run.
    record: {feature: facts} of its vocabularies.

  Raises:
    UserError: naming the task, where it was looked for, and what makes it.
  """
  if not used(asked):
    return
  missing = []
  for task in seqio.get_subtasks(mixture_or_task):
    if not is_cached(task):
      if task.supports_caching:  # seqio reads the others from raw data
        missing.append(task.name)
      continue
    other = vocabulary_file.difference(task.cache_dir, record)
    if other:
      raise errors.UserError(
        f"{binding(asked)} = True, and {task.name} was cached with other "
        f"tokens: {other}, or cache it anew."
      )
  if missing:
    folders = ",".join(seqio.get_global_cache_dirs())
    raise errors.UserError(
      f"{binding(asked)} = True, and {', '.join(missing)} "
      f"{'is' if len(missing) == 1 else 'are'} not in "
      f"--additional_task_cache_dirs={folders}: write them with python -m "
      "tools.cache_tasks, or leave that binding out."
    )
