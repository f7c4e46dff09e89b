"""T5's protocol: which checkpoint of a run counts, and what is averaged.

Both are those of t5.evaluation.eval_utils. A task's metrics, and MNLI's two
sets, are one group: they have one checkpoint, the best by the group's mean, and
count once in the average of their benchmark.
"""

import warnings

from t5.evaluation import eval_utils

from t5_tasks import mixtures

CHECKPOINTS = ("best", "last")
# Benchmark -> start of its tasks' names, groups that T5 averages over.
BENCHMARKS = {"GLUE": ("glue_", 8), "SuperGLUE": ("super_glue_", 8)}
NO_BENCHMARK = "of the tasks"
# Where a table has the name of a task.
AVERAGE = "average"


def known(task: str, metric: str) -> eval_utils.Metric | None:
  """T5's own description of a metric, also under a task token; None if none."""
  return eval_utils.METRIC_NAMES.get(f"{mixtures.base_name(task)}/{metric}")


# What an evaluation that binds none of these does, as mesh_tensorflow has it.
_DEFAULTS = {
  "Bitransformer.decode.beam_size": "1",
  "Bitransformer.decode.alpha": "0.6",
  "Bitransformer.decode.temperature": "0.0",
  "mesh_eval_dataset_fn.num_eval_examples": "-1",
}


def with_defaults(bindings: dict[str, str]) -> dict[str, str]:
  """The bindings of an evaluation, those that say nothing new included.

  So that two evaluations are of one protocol whether or not their gin files
  say what is so without them.

  Args:
    bindings: {name: value as text}.
  """
  return {**_DEFAULTS, **bindings}


def chosen_steps(
  metrics: dict[str, dict[str, dict[str, float]]], checkpoint: str
) -> dict[str, int]:
  """The checkpoint of each task of one run.

  Args:
    metrics: {task: {metric: {step as text: value}}}.
    checkpoint: "last"; or "best", the earliest of equals.

  Returns:
    {task: step}
  """
  if checkpoint == "last":
    return {
      task: max(int(step) for values in by_metric.values() for step in values)
      for task, by_metric in metrics.items()
    }
  scores, names, task_of = {}, {}, {}
  for task, by_metric in metrics.items():
    # Where T5 knows the task, it chooses by the metrics that it knows.
    for metric in [m for m in by_metric if known(task, m)] or by_metric:
      tag = f"{task}/{metric}"
      name = known(task, metric)
      names[tag] = eval_utils.Metric(tag, name.group if name else task)
      scores[tag] = [(int(s), v) for s, v in by_metric[metric].items()]
      task_of[tag] = task
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # written for an older pandas
    _, steps = eval_utils.metric_group_max(
      eval_utils.scores_to_df(scores, names), names
    )
  return {task: int(steps[tag]) for tag, task in task_of.items()}


def averages(scores: dict[tuple[str, str], float]) -> dict[str, float]:
  """Means over groups of the mean over a group's metrics.

  What eval_utils.compute_avg_glue gives for a whole benchmark (protocol_test
  compares them) too, and for parts of one.

  Args:
    scores: {(task, metric): value}

  Returns:
    {"GLUE, 5 of 8 tasks": value, …}; NO_BENCHMARK for tasks that T5 does not
    average over
  """
  groups: dict[str | None, dict] = {}
  for (task, metric), value in scores.items():
    name = known(task, metric)
    benchmark = next(
      (
        b
        for b, (start, _) in BENCHMARKS.items()
        if name and task.startswith(start)
      ),
      None,
    )
    tasks = groups.setdefault(benchmark, {})
    tasks.setdefault(name.group if name else task, []).append(value)
  found = {}
  for benchmark, tasks in groups.items():
    label = NO_BENCHMARK
    if benchmark:
      label = f"{benchmark}, {len(tasks)} of {BENCHMARKS[benchmark][1]} tasks"
    means = [sum(values) / len(values) for values in tasks.values()]
    found[label] = sum(means) / len(means)
  return found
