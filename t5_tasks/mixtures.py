"""Mixtures: GLUE with SuperGLUE, and any mixture defined in gin.

t5 registers its own mixtures (`glue_v002_proportional`,
`super_glue_v102_proportional`), which are used unchanged. This module adds a
mixture of both benchmarks, and a way to define one without Python.
"""

import difflib
from collections.abc import Sequence

import gin
import seqio
import t5.data
import t5.data.mixtures  # noqa: F401  (registers t5's tasks and mixtures)
from t5.data import glue_utils

from hypergrid_mtf.errors import UserError

GLUE = "glue_v002_proportional"
SUPER_GLUE = "super_glue_v102_proportional"
GLUE_SUPER_GLUE = "glue_super_glue_proportional"

TASK_TOKEN_SUFFIX = "_task_token"

# RTE is the same data in GLUE and SuperGLUE. Each registration gets half the
# rate, as in t5's own `all_proportional`, so both are still evaluated.
_IN_BOTH = ("glue_rte_v002", "super_glue_rte_v102")
_PUBLISHED_RATES: dict[str, float] = {
  **glue_utils.get_glue_weight_mapping(),
  **glue_utils.get_super_glue_weight_mapping(),
}


def base_name(name: str) -> str:
  """The name of a task or mixture without its task token suffix."""
  return name.removesuffix(TASK_TOKEN_SUFFIX)


def published_rate(name: str) -> float | None:
  """T5's published rate of a GLUE or SuperGLUE task: its training examples.

  A `_task_token` variant has the rate of its task.

  Returns:
    The rate, 0 for a task that is only evaluated, None for other tasks.
  """
  return _PUBLISHED_RATES.get(base_name(name))


def examples_rate(task: seqio.Task) -> float:
  """The mixing rate of any task: the number of its training examples.

  Returns:
    T5's published rate if there is one, else the size that the source declares,
    or 0 for a task without a train split, which is only evaluated.

  Raises:
    UserError: the task has a train split of unknown size.
  """
  published = published_rate(task.name)
  if published is not None:
    return published
  if "train" not in task.splits:
    return 0.0
  if task.num_input_examples("train") is None:
    raise UserError(
      f"The task {task.name!r} does not declare how many training examples it "
      "has, so it has no examples-proportional rate: give a rate in the "
      "mixture, "
      f'("{task.name}", 1000).'
    )
  return t5.data.rate_num_examples(task)


def known_names() -> list[str]:
  """All registered task and mixture names, sorted."""
  return sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})


def get_mixture_or_task(name: str) -> seqio.Task | seqio.Mixture:
  """The registered mixture with a name, or else the task.

  Raises:
    UserError: nothing with that name is registered; suggests similar names.
  """
  if name in known_names():
    return seqio.get_mixture_or_task(name)
  nearest = difflib.get_close_matches(str(name), known_names(), n=3, cutoff=0.5)
  hint = f"similar: {', '.join(nearest)}; " if nearest else ""
  raise UserError(
    f"No task or mixture named {name!r} is registered; {hint}give the module "
    "that registers it with --module_import."
  )


@gin.configurable(module="t5_tasks.mixtures")
def define_mixture(
  name: str | None = None,
  tasks: Sequence[str | tuple[str, float]] | None = None,
) -> str | None:
  """Registers an examples-proportional mixture of the given tasks.

  The main program calls this after parsing gin, so two bindings make a mixture:

      t5_tasks.mixtures.define_mixture.name = "small_glue"
      t5_tasks.mixtures.define_mixture.tasks = [
          "glue_cola_v002", "glue_rte_v002", ("glue_sst2_v002", 8000)]

  Args:
    name: of the mixture; replaces a mixture with that name. None: do nothing.
      If all tasks have a `_task_token` variant, the mixture gets one too.
    tasks: names of tasks or mixtures, each at the number of its training
      examples (`examples_rate`; a mixture at the sum of its rates), or pairs
      (name, rate). Rate 0 means only evaluated.

  Returns:
    The name.

  Raises:
    UserError: an unknown or repeated name, a wrong rate, or nothing to train
      on.
  """
  where = "t5_tasks.mixtures.define_mixture"
  if name is None:
    if tasks:
      raise UserError(
        f"{where}.tasks is set but {where}.name is not: name the mixture."
      )
    return None
  if not tasks or isinstance(tasks, str):
    raise UserError(
      f"{where}.tasks is {tasks!r} for the mixture {name!r}: give a list of "
      "task names."
    )
  if name in seqio.TaskRegistry.names():
    raise UserError(
      f"{where}.name is {name!r}, which is a task: choose another name for the "
      "mixture."
    )
  rates: dict[str, float] = {}
  for entry in tasks:
    member, rate = _name_and_rate(entry, where)
    if member == name:
      raise UserError(f"{where}.tasks names the mixture {name!r} itself.")
    if member in rates:
      raise UserError(f"{where}.tasks names {member!r} twice.")
    provider = get_mixture_or_task(member)
    if rate is None:
      rate = (
        sum(map(provider.get_rate, provider.tasks))
        if isinstance(provider, seqio.Mixture)
        else examples_rate(provider)
      )
    rates[member] = rate
  if not any(rates.values()):
    raise UserError(
      f"Every task of the mixture {name!r} has rate 0 ({', '.join(rates)}), so "
      "there is nothing to train on: add a task with a train split."
    )
  seqio.MixtureRegistry.remove(name)
  seqio.MixtureRegistry.add(name, list(rates.items()))
  add_task_tokens(name)
  return name


def add_task_tokens(name: str) -> None:
  """Registers `<mixture>_task_token` if all its members have such a variant.

  Args:
    name: a registered mixture; replaces an earlier variant.
  """
  rates = seqio.MixtureRegistry.get(name).rate_per_task_name
  marked = {part + TASK_TOKEN_SUFFIX: rate for part, rate in rates.items()}
  seqio.MixtureRegistry.remove(name + TASK_TOKEN_SUFFIX)
  if marked.keys() <= set(known_names()):
    seqio.MixtureRegistry.add(name + TASK_TOKEN_SUFFIX, list(marked.items()))


def _name_and_rate(entry, where: str) -> tuple[str, float | None]:
  """Splits an entry of define_mixture.tasks into name and rate, or None."""
  if isinstance(entry, str):
    return entry, None
  if isinstance(entry, list | tuple) and len(entry) == 2:
    name, rate = entry
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if isinstance(name, str) and is_number and 0 <= rate < float("inf"):
      return name, float(rate)
  raise UserError(
    f"{where}.tasks holds {entry!r}: an entry is a task name or a pair "
    '("task", rate) with a rate of 0 or more.'
  )


seqio.MixtureRegistry.add(
  GLUE_SUPER_GLUE,
  [
    (name, rate / 2 if name in _IN_BOTH else rate)
    for name, rate in _PUBLISHED_RATES.items()
  ],
)
