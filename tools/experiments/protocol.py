"""T5's protocol: which checkpoint of a run counts, and what is averaged.

Both are those of t5.evaluation.eval_utils. A task's metrics, and MNLI's two
sets, are one group: they have one checkpoint, the best by the group's mean, and
count once in the average of their benchmark.
"""

import math
import warnings
from statistics import mean

from t5.evaluation import eval_utils

from t5_tasks import mixtures

CHECKPOINTS = {
  "best": "best of each task",  # T5's own
  "one": "best of all tasks by their average",
  "last": "last",
}
# Start of the tasks' names -> benchmark. T5 averages over 8 groups of each.
BENCHMARKS = {"glue_": "GLUE", "super_glue_": "SuperGLUE"}
NO_BENCHMARK = "of the tasks"
# Where a table has the name of a task.
AVERAGE = "average"
# What an evaluation that binds none of these does, as mesh_tensorflow has it.
_DEFAULTS = {
  "Bitransformer.decode.beam_size": "1",
  "Bitransformer.decode.alpha": "0.6",
  "Bitransformer.decode.temperature": "0.0",
  "Bitransformer.decode.sampling_keep_top_k": "-1",
  "beam_search.num_prefilter": "2",
  "mesh_eval_dataset_fn.num_eval_examples": "-1",
}


def known(task: str, metric: str) -> eval_utils.Metric | None:
  """T5's own description of a metric, also under a task token; None if none."""
  return eval_utils.METRIC_NAMES.get(f"{mixtures.base_name(task)}/{metric}")


def difference(one: dict[str, str], other: dict[str, str]) -> str | None:
  """The first binding in which two evaluations differ, or None.

  A binding that says the default makes no difference.
  """
  one, other = {**_DEFAULTS, **one}, {**_DEFAULTS, **other}
  return next((k for k in {**one, **other} if one.get(k) != other.get(k)), None)


def chosen_steps(
  metrics: dict[str, dict[str, dict[str, float]]], checkpoint: str
) -> dict[str, str]:
  """The checkpoint of each task of one run.

  Args:
    metrics: {task: {metric: {step: value}}}.
    checkpoint: one of CHECKPOINTS; of equals the earliest.

  Returns:
    {task: step}
  """
  if checkpoint == "last":
    return {
      task: max((s for values in by_metric.values() for s in values), key=int)
      for task, by_metric in metrics.items()
    }
  if checkpoint == "one":
    flat = {(t, m): v for t, by in metrics.items() for m, v in by.items()}
    means = {}
    for step in sorted(set.intersection(*map(set, flat.values())), key=int):
      *_, overall = averages({k: v[step] for k, v in flat.items()}).values()
      if not math.isnan(overall):
        means[step] = overall
    if not means:
      return chosen_steps(metrics, "last")
    return dict.fromkeys(metrics, max(means, key=means.__getitem__))
  scores, names = {}, {}
  for task, by_metric in metrics.items():
    # Where T5 knows the task, it chooses by the metrics that it knows.
    for metric in [m for m in by_metric if known(task, m)] or by_metric:
      tag = f"{task}/{metric}"
      name = known(task, metric)
      names[tag] = eval_utils.Metric(tag, name.group if name else task)
      scores[tag] = [(int(s), v) for s, v in by_metric[metric].items()]
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # written for an older pandas
    _, steps = eval_utils.metric_group_max(
      eval_utils.scores_to_df(scores, names), names
    )
  return {tag.split("/")[0]: str(int(steps[tag])) for tag in scores}


def averages(scores: dict[tuple[str, str], float]) -> dict[str, float]:
  """Means over groups of the mean over a group's metrics.

  What eval_utils.compute_avg_glue gives for a whole benchmark (protocol_test
  compares them), and the same for a part of one.

  Args:
    scores: {(task, metric): value}

  Returns:
    {"GLUE, 5 of 8 tasks": value, …}; NO_BENCHMARK for tasks that T5 does not
    average over; where there are several of these, also one of all groups
  """
  groups: dict[str, dict[str, list[float]]] = {}
  for (task, metric), value in scores.items():
    name = known(task, metric)
    starts = [s for s in BENCHMARKS if name and task.startswith(s)]
    of_task = groups.setdefault(starts[0] if starts else "", {})
    of_task.setdefault(name.group if name else task, []).append(value)
  found, every = {}, []
  for start, by_group in groups.items():
    label = NO_BENCHMARK
    if start:
      label = f"{BENCHMARKS[start]}, {len(by_group)} of 8 tasks"
    means = [mean(values) for values in by_group.values()]
    found[label] = mean(means)
    every += means
  if len(found) > 1:
    found[f"all {len(every)} tasks"] = mean(every)
  return found
