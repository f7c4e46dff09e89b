"""What a reader of the tables should know: sentences beside them."""

import re

import pandas as pd

from tools.experiments import load, protocol, statistics

# Bindings in which the models of a comparison are meant to differ.
_MEANT = re.compile(
  r"(.*/)?(HyperGrid\..*|make_layer_stack\.layers|MIXTURE_NAME"
  r"|define_mixture\..*)$"
)
_NAMED = 4  # bindings in a sentence


def notes(
  found: list[dict], made: dict[str, pd.DataFrame], baseline: str
) -> list[str]:
  """What a reader of the tables should know.

  Args:
    found: results.
    made: from `tables`.
    baseline: the cell that differences are from.

  Returns:
    sentences
  """
  models = load.by_model(found)
  sentences = other_differences(models, baseline)
  for checkpoint in protocol.CHECKPOINTS:
    if f"differences_{checkpoint}" not in made:
      continue
    tasks = statistics.not_drawn(models, checkpoint)
    if tasks:
      sentences.append(
        f"differences_{checkpoint}: no answers were kept from which the "
        f"metrics of {', '.join(tasks)} follow, so the intervals are over the "
        "examples of the other tasks, and seeds."
      )
  return sentences


def other_differences(models, baseline: str) -> list[str]:
  """What a model has different from the baseline, beside gates and tasks.

  Args:
    models: from `load.by_model`.
    baseline: the cell to compare with.

  Returns:
    a sentence for each such model: its difference is not that of the gates
  """
  configs = {
    cell: [r["config"] for runs in by_seed.values() for r in runs]
    for cell, by_seed in models.items()
  }
  base = configs.get(baseline, [{}])[0]
  sentences = []
  for cell, by_run in configs.items():
    found = {}
    for config in by_run:
      for key in config.keys() & base.keys():
        if config[key] != base[key] and not _MEANT.match(key):
          found[key] = f"{key} is {config[key]}, not {base[key]}"
    if found:
      some = [found[key] for key in sorted(found)[:_NAMED]]
      if len(found) > _NAMED:
        some.append(f"and {len(found) - _NAMED} more")
      sentences.append(
        f"{cell} differs from {baseline} in more than gates and tasks: "
        f"{'; '.join(some)}."
      )
  return sentences
