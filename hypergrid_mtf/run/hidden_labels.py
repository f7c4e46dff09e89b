"""Test splits whose labels only the benchmark's server knows.

TFDS gives -1 for them. t5 passes that to the metrics, some of which then stop
the evaluation before the other tasks are decoded; and it decodes no task
without metrics, such as the diagnostic sets, which are test splits alone.
"""

import functools

from hypergrid_mtf.run import console


def are_hidden(targets) -> bool:
  """Whether no example has a label.

  Args:
    targets: as the task's postprocessor gives them.

  Returns:
    True if all are -1 or an empty list, in a dictionary of MultiRC and ReCoRD
    under "value"
  """

  def hidden(target):
    if isinstance(target, dict):
      target = target.get("value")
    if isinstance(target, list | tuple):
      return not target
    return not isinstance(target, str) and target == -1

  return len(targets) > 0 and all(map(hidden, targets))


def metrics(metric_fns, task: str, split: str) -> list:
  """What an evaluation should compute of a task.

  Args:
    metric_fns: called as fn(targets, predictions), of one task; may be none.
    task: its name, for messages.
    split: that is evaluated.

  Returns:
    functions; none where t5 should leave out the task
  """
  if not metric_fns and split == "test":
    return _answers_alone(task)
  return _skipped(metric_fns, task)


def _skipped(metric_fns, task: str) -> list:
  """Metrics that are not computed where the labels are hidden.

  Args:
    metric_fns: called as fn(targets, predictions), of one task.
    task: its name, for the message.

  Returns:
    as many functions, which return {} for hidden labels, and say so once
  """
  said = False

  def wrap(metric_fn):
    @functools.wraps(metric_fn)
    def call(targets, predictions):
      nonlocal said
      if not are_hidden(targets):
        return metric_fn(targets, predictions)
      if not said:
        console.say(f"{task}: labels are not public, so answers but no scores")
      said = True
      return {}

    return call

  return [wrap(f) for f in metric_fns]


def _answers_alone(task: str) -> list:
  """What lets t5 decode a task that has no metrics.

  Args:
    task: its name, for the message.

  Returns:
    one function in place of metrics, which returns {}, and says so
  """

  def no_metric(targets, predictions):
    del targets, predictions
    console.say(f"{task}: has no metric, so answers but no scores")
    return {}

  return [no_metric]
