"""T5's protocol: how the checkpoint is chosen, and what is averaged.

Both follow t5.evaluation.eval_utils. A task's metrics, and MNLI's two sets,
form one group: it has one checkpoint, the best by the group's mean, and counts
once in its benchmark's average.
"""

import math
import warnings

from t5.evaluation import eval_utils

from t5_tasks import benchmarks

CHECKPOINTS = {
  "best": "best of each task",  # T5's own
  "one": "best of all tasks by their average",
  "last": "last",
}
# Stands for the task's name in a table.
AVERAGE = "average"
# The defaults of mesh_tensorflow, if an evaluation does not bind them.
_DEFAULTS = {
  "Bitransformer.decode.beam_size": "1",
  "Bitransformer.decode.alpha": "0.6",
  "Bitransformer.decode.temperature": "0.0",
  "Bitransformer.decode.sampling_keep_top_k": "-1",
  "beam_search.num_prefilter": "2",
  "mesh_eval_dataset_fn.num_eval_examples": "-1",
}


def difference(one: dict[str, str], other: dict[str, str]) -> str | None:
  """The first binding in which two evaluations differ, or None.

  Binding a default makes no difference.
  """
  one, other = {**_DEFAULTS, **one}, {**_DEFAULTS, **other}
  return next((k for k in {**one, **other} if one.get(k) != other.get(k)), None)


def chosen_steps(
  metrics: dict[str, dict[str, dict[str, float]]], checkpoint: str
) -> dict[str, str]:
  """Chooses the checkpoint of each task of one run.

  Args:
    metrics: {task: {metric: {step: value}}}.
    checkpoint: one of CHECKPOINTS; the earliest of equals.

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
      *_, overall = benchmarks.averages(
        {k: v[step] for k, v in flat.items()}
      ).values()
      if not math.isnan(overall):
        means[step] = overall
    if not means:
      return chosen_steps(metrics, "last")
    return dict.fromkeys(metrics, max(means, key=means.__getitem__))
  scores, names = {}, {}
  for task, by_metric in metrics.items():
    # For T5's tasks, only T5's metrics count.
    for metric in [
      m for m in by_metric if benchmarks.known(task, m)
    ] or by_metric:
      tag = f"{task}/{metric}"
      name = benchmarks.known(task, metric)
      names[tag] = eval_utils.Metric(tag, name.group if name else task)
      scores[tag] = [(int(s), v) for s, v in by_metric[metric].items()]
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # eval_utils is written for an older pandas
    _, steps = eval_utils.metric_group_max(
      eval_utils.scores_to_df(scores, names), names
    )
  return {tag.split("/")[0]: str(int(steps[tag])) for tag in scores}
