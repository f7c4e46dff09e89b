"""T5's averages: each task counts once, even with several metrics or sets.

As in t5.evaluation.eval_utils, a task's metrics, and MNLI's two sets, form one
group, which counts once in its benchmark's average.
"""

from statistics import mean

from t5.evaluation import eval_utils

from t5_tasks import mixtures

# Prefix of task names -> benchmark. T5 averages over 8 groups of each.
BENCHMARKS = {"glue_": "GLUE", "super_glue_": "SuperGLUE"}


def known(task: str, metric: str) -> eval_utils.Metric | None:
  """T5's description of a metric, also for a task token variant, or None."""
  return eval_utils.METRIC_NAMES.get(f"{mixtures.base_name(task)}/{metric}")


def averages(scores: dict[tuple[str, str], float]) -> dict[str, float]:
  """The mean over groups of the mean over each group's metrics.

  Equal to eval_utils.compute_avg_glue for a whole benchmark (protocol_test
  compares them), and defined the same way for a part of one.

  Args:
    scores: {(task, metric): value}

  Returns:
    {"GLUE, 5 of 8 tasks": value, …}; "other tasks (4)" for those that T5 does
    not average ("of the tasks" if there are no others); if there are several
    entries, also one over all groups
  """
  groups: dict[str, dict[str, list[float]]] = {}
  for (task, metric), value in scores.items():
    name = known(task, metric)
    starts = [s for s in BENCHMARKS if name and task.startswith(s)]
    of_task = groups.setdefault(starts[0] if starts else "", {})
    of_task.setdefault(name.group if name else task, []).append(value)
  found, every = {}, []
  for start, by_group in groups.items():
    label = "of the tasks"
    if start:
      label = f"{BENCHMARKS[start]}, {len(by_group)} of 8 tasks"
    elif len(groups) > 1:
      label = f"other tasks ({len(by_group)})"
    means = [mean(values) for values in by_group.values()]
    found[label] = mean(means)
    every += means
  if len(found) > 1:
    found[f"all {len(every)} tasks"] = mean(every)
  return found
