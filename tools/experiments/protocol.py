"""T5's protocol: which checkpoint of a run counts, and what is averaged.

Both are those of t5.evaluation.eval_utils. A task's metrics, and MNLI's two
sets, are one group: they have one checkpoint, the best by the group's mean, and
count once in the average of their benchmark.
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
    # Where T5 knows the task, it chooses by the metrics that it knows.
    for metric in [
      m for m in by_metric if benchmarks.known(task, m)
    ] or by_metric:
      tag = f"{task}/{metric}"
      name = benchmarks.known(task, metric)
      names[tag] = eval_utils.Metric(tag, name.group if name else task)
      scores[tag] = [(int(s), v) for s, v in by_metric[metric].items()]
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # written for an older pandas
    _, steps = eval_utils.metric_group_max(
      eval_utils.scores_to_df(scores, names), names
    )
  return {tag.split("/")[0]: str(int(steps[tag])) for tag in scores}
