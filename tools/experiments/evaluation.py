"""What the evaluations of a run left: the scores of each step, and how made.

t5's own reader (t5.evaluation.eval_utils) takes the event files in the order of
the folder and drops their times, so of a step that was evaluated twice it does
not know the later value. Here the latest counts, and each score knows the
configuration it was made with.
"""

import bisect
import dataclasses
import os
import re

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import eval_config
from tools.experiments import protocol

# What makes two evaluations different ones, beside model and data.
_PROTOCOL = (
  "run.dataset_split",
  "Bitransformer.decode.beam_size",
  "Bitransformer.decode.alpha",
  "Bitransformer.decode.temperature",
  "Bitransformer.decode.max_decode_length",
  "mesh_eval_dataset_fn.num_eval_examples",
)
_MODE = "run.mode"
_EVENTS = "events."
_FOLDER = "_eval"


@dataclasses.dataclass(frozen=True)
class Score:
  """The value of one metric of one task at one step.

  Attributes:
    value: may be nan.
    time: when it was written, in seconds since 1970.
    config: path of the configuration it was made with; None if not kept.
  """

  value: float
  time: float
  config: str | None


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """All evaluations of one split.

  Attributes:
    folder: where they are.
    scores: {task: {metric: {step: Score}}}, of each step the latest.
    damaged: paths of event files that could not be read to their end.
  """

  folder: str
  scores: dict[str, dict[str, dict[int, Score]]]
  damaged: tuple[str, ...]

  def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
    """{task: {metric: {step as text: value}}}, steps in order."""
    return {
      task: {
        metric: {str(s): steps[s].value for s in sorted(steps)}
        for metric, steps in by_metric.items()
      }
      for task, by_metric in self.scores.items()
    }

  def steps(self) -> list[int]:
    """All steps that were evaluated, in order."""
    return sorted({step for _, _, step, _ in self._all()})

  def at(self, step: int) -> dict[tuple[str, str], float]:
    """{(task, metric): value} at one step."""
    return {(t, m): s.value for t, m, at, s in self._all() if at == step}

  def protocol(self, split: str, step: int | None = None) -> dict[str, str]:
    """How the scores were made.

    Args:
      split: that was evaluated.
      step: of this step alone; None means of all.

    Returns:
      {binding: value as text}

    Raises:
      UserError: if scores were made in different ways.
    """
    first, read = None, {}
    for task, _, at, score in self._all():
      if step not in (None, at):
        continue
      if score.config not in read:
        read[score.config] = _protocol(score.config, split)
      found = read[score.config]
      if first is None:
        first, where = found, (task, at)
      elif key := difference(found, first):
        raise errors.UserError(
          f"{self.folder} holds evaluations of different kinds: {key} is "
          f"{_shown(first, key)} for {where[0]} at step {where[1]} and "
          f"{_shown(found, key)} for {task} at step {at}: evaluate all steps "
          "again in one way (--gin_param=\"eval_checkpoint_step = 'all'\"), or "
          "remove the folder first."
        )
    return first or {}

  def notes(self) -> list[str]:
    """Sentences about what is not as it should be."""
    found = [
      f"{path} is damaged: what can be read of it is used."
      for path in self.damaged
    ]
    last = self.steps()[-1]
    for task, by_metric in self.scores.items():
      if not any(last in steps for steps in by_metric.values()):
        own = max(step for steps in by_metric.values() for step in steps)
        found.append(
          f"{self.folder}: {task} has no scores at step {last}, its last ones "
          f"are of step {own}: evaluate step {last} again."
        )
    return found

  def _all(self):
    for task, by_metric in self.scores.items():
      for metric, steps in by_metric.items():
        for step, score in steps.items():
          yield task, metric, step, score


def difference(one: dict[str, str], other: dict[str, str]) -> str | None:
  """The first binding in which two protocols differ, or None."""
  one, other = map(protocol.with_defaults, (one, other))
  return next((k for k in {**one, **other} if one.get(k) != other.get(k)), None)


def _shown(protocol: dict[str, str], key: str) -> str:
  return protocol.get(key, "not bound")


def folder_of(model_dir: str, split: str) -> str:
  """Where t5 wrote the evaluations of a split.

  Args:
    model_dir: of a run.
    split: the split it was evaluated on.

  Returns:
    the folder

  Raises:
    UserError: if there is none; names the splits that there are.
  """
  if not model_dir or not tf.io.gfile.isdir(model_dir):
    raise errors.UserError(
      f"{model_dir or '--model_dir='!s} is not a folder: give the model_dir of "
      "a run that was trained and evaluated with hypergrid_mtf.main."
    )
  names = [name.strip("/") for name in tf.io.gfile.listdir(model_dir)]
  if split + _FOLDER in names:
    return os.path.join(model_dir, split + _FOLDER)
  splits = sorted(
    name.removesuffix(_FOLDER) for name in names if name.endswith(_FOLDER)
  )
  there = f"there is one of {', '.join(splits)}; " if splits else ""
  raise errors.UserError(
    f"{model_dir} holds no evaluation of the split {split!r}: {there}run "
    "hypergrid_mtf.main on it with --gin_file=experiments/local_eval.gin "
    f"--gin_param=\"run.dataset_split = '{split}'\" first."
  )


def read(folder: str) -> Evaluation:
  """Reads the event files of evaluations.

  Args:
    folder: from `folder_of`.

  Returns:
    an Evaluation

  Raises:
    UserError: if it holds no scores.
  """
  configs = eval_config.find(folder)
  times = [time for time, _ in configs]
  names = sorted(
    name for name in tf.io.gfile.listdir(folder) if name.startswith(_EVENTS)
  )
  found, damaged = [], []
  for name in names:
    path = os.path.join(folder, name)
    created = None
    try:
      for event in tf.train.summary_iterator(path):
        if created is None:
          created = event.wall_time
        for value in event.summary.value:
          parts = value.tag.split("/", 2)
          if len(parts) == 3 and parts[0] == "eval":
            before = bisect.bisect_right(times, created)
            config = configs[before - 1][1] if before else None
            score = Score(float(value.simple_value), event.wall_time, config)
            found.append((*parts[1:], event.step, score))
    except tf.errors.OpError:
      # A file that was being written when its run was killed has a broken end.
      damaged.append(path)
  if not found:
    raise errors.UserError(_no_scores(folder, names, damaged))
  scores: dict[str, dict[str, dict[int, Score]]] = {}
  # Tasks and metrics by name; of the scores of a step, the latest is last.
  for task, metric, step, score in sorted(
    found, key=lambda f: (*f[:3], f[3].time)
  ):
    scores.setdefault(task, {}).setdefault(metric, {})[step] = score
  return Evaluation(folder, scores, tuple(damaged))


def _no_scores(folder: str, names: list[str], damaged: list[str]) -> str:
  if damaged:
    return (
      f"{damaged[0]} is damaged, and {folder} holds no scores beside it: "
      "evaluate again."
    )
  answers = any(
    name.endswith("_predictions") for name in tf.io.gfile.listdir(folder)
  )
  if names and answers:
    return (
      f"{folder} holds answers and no scores: the labels of this split are not "
      "public, or its tasks have no metrics; give another --split, or make a "
      "submission of the answers with tools.submit."
    )
  return (
    f"{folder} holds no scores of an evaluation"
    f"{'' if names else ' (no event file)'}: evaluate again."
  )


def bindings(path: str) -> dict[str, str]:
  """The bindings of a gin file that gin wrote.

  Args:
    path: of an operative_config.gin.

  Returns:
    {"scope/name.parameter" or macro: its value as text}, imports left out
  """
  with tf.io.gfile.GFile(path) as f:
    text = f.read()
  found = {}
  name = None
  for line in text.split("\n"):
    match = re.match(r"([\w./]+) = ?(.*)$", line)
    if match:
      name, value = match.groups()
      found[name] = value.removesuffix("\\").strip()
    elif name and line[:1].isspace() and line.strip():
      found[name] = (
        f"{found[name]} {line.removesuffix(chr(92)).strip()}".strip()
      )
    else:
      name = None
  return found


def _protocol(config: str | None, split: str) -> dict[str, str]:
  """The part of a configuration that makes an evaluation what it is."""
  found = {"run.dataset_split": repr(split)}
  bound = bindings(config) if config else {}
  for key in _PROTOCOL:
    if key in bound:
      value = bound[key]
      is_macro = value.startswith("%")
      found[key] = bound.get(value[1:], value) if is_macro else value
  # Decoding is what all but a few evaluations do, and goes without saying.
  if bound.get(_MODE, "'eval'") != "'eval'":
    found[_MODE] = bound[_MODE]
  return found
