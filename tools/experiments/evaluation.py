"""Reads the evaluations of a run: scores by step, and their configuration.

t5's own reader (t5.evaluation.eval_utils) reads event files in the folder's
order and ignores their times, so if a step was evaluated twice it does not know
which value is later. Here the latest counts, and each score has its
configuration.
"""

import contextlib
import dataclasses
import os
import re

import pandas as pd
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import eval_config
from tools.experiments import protocol

# Settings that make evaluations different, apart from model and data.
_PROTOCOL = (
  "run.dataset_split",
  "Bitransformer.decode.beam_size",
  "Bitransformer.decode.alpha",
  "Bitransformer.decode.temperature",
  "Bitransformer.decode.sampling_keep_top_k",
  "beam_search.num_prefilter",
  "Bitransformer.decode.max_decode_length",
  "mesh_eval_dataset_fn.num_eval_examples",
)
_MODE = "run.mode"
_FOLDER = "_eval"
_COLUMNS = ["task", "metric", "step", "time", "value", "config"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """All evaluations of one split.

  Attributes:
    folder: their folder.
    scores: one row of _COLUMNS per score, the latest for each step: `time` in
      seconds since 1970; `config`, the path of its configuration, None if not
      kept; values may be nan.
    damaged: paths of event files that could not be read completely.
  """

  folder: str
  scores: pd.DataFrame
  damaged: list[str]

  def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
    """{task: {metric: {step as text: value}}}, steps in order."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in self.scores.itertuples():
      by_metric = found.setdefault(row.task, {})
      by_metric.setdefault(row.metric, {})[str(row.step)] = row.value
    return found

  def last_step(self) -> int:
    return int(self.scores["step"].max())

  def protocol(self, split: str) -> dict[str, str]:
    """The protocol by which the scores of a split were made.

    Returns:
      {binding: value as text}

    Raises:
      UserError: if scores were made by different protocols.
    """
    first, *others = self.scores.drop_duplicates("config").itertuples()
    bound = _protocol(first.config, split)
    for other in others:
      found = _protocol(other.config, split)
      if key := protocol.difference(found, bound):
        one, two = (p.get(key, "not bound") for p in (bound, found))
        raise errors.UserError(
          f"{self.folder} has evaluations by different protocols: {key} is "
          f"{one} for {first.task} at step {first.step} and {two} for "
          f"{other.task} at step {other.step}: evaluate all steps again in the "
          "same way (--gin_param=\"eval_checkpoint_step = 'all'\"), or remove "
          "the folder first."
        )
    return bound

  def notes(self) -> list[str]:
    """Sentences about problems."""
    last = self.last_step()
    return [
      f"{path} is damaged: only its readable part is used."
      for path in self.damaged
    ] + [
      f"{self.folder}: {task} has no scores at step {last}; its last ones are "
      f"of step {own}: evaluate step {last} again."
      for task, own in self.scores.groupby("task")["step"].max().items()
      if own < last
    ]


def folder_of(model_dir: str, split: str) -> str:
  """The folder in which t5 wrote the evaluations of a split.

  Raises:
    UserError: if there is none; names the existing splits.
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
  there = f"only of {', '.join(splits)}; " if splits else ""
  raise errors.UserError(
    f"{model_dir} has no evaluation of the split {split!r}: {there}run "
    "hypergrid_mtf.main on it with --gin_file=experiments/local_eval.gin "
    f"--gin_param=\"run.dataset_split = '{split}'\" first."
  )


def read(folder: str) -> Evaluation:
  """Reads the event files of evaluations in a folder, from `folder_of`.

  Raises:
    UserError: if it holds no scores.
  """
  configs = eval_config.find(folder)
  there = sorted(tf.io.gfile.listdir(folder))
  names = [name for name in there if name.startswith("events.")]
  rows, damaged = [], []
  for name in names:
    path = os.path.join(folder, name)
    config, created = None, None
    try:
      for event in tf.train.summary_iterator(path):
        if created is None:
          created = event.wall_time
          before = [config for time, config in configs if time <= created]
          config = before[-1] if before else None
        for value in event.summary.value:
          parts = value.tag.split("/", 2)
          if len(parts) == 3 and parts[0] == "eval":
            score = event.step, event.wall_time, value.simple_value, config
            rows.append((*parts[1:], *score))
    except tf.errors.OpError:
      # If a run was killed while writing a file, the file's end is broken.
      damaged.append(path)
  if not rows:
    raise errors.UserError(_no_scores(folder, there, names, damaged))
  scores = pd.DataFrame(rows, columns=_COLUMNS).sort_values(_COLUMNS[:4])
  latest = scores.drop_duplicates(_COLUMNS[:3], keep="last")
  return Evaluation(folder, latest, damaged)


def read_step(model_dir: str, step: int) -> dict[str, dict[str, float]]:
  """{task: {metric: value}} on the validation split; {} if not evaluated."""
  found: dict[str, dict[str, float]] = {}
  with contextlib.suppress(errors.UserError):
    scores = read(folder_of(model_dir, "validation")).scores
    for row in scores[scores["step"] == step].itertuples():
      found.setdefault(row.task, {})[row.metric] = row.value
  return found


def _no_scores(folder, there, names, damaged) -> str:
  if damaged:
    return (
      f"{damaged[0]} is damaged, and {folder} has no other scores: evaluate "
      "again."
    )
  answers = any(name.endswith("_predictions") for name in there)
  if names and answers:
    return (
      f"{folder} has answers but no scores: the labels of this split are not "
      "public, or its tasks have no metrics; give another --split, or submit "
      "the answers with tools.submit."
    )
  return (
    f"{folder} has no scores of an "
    f"evaluation{'' if names else ' (no event file)'}: evaluate again."
  )


def bindings(path: str) -> dict[str, str]:
  """{"scope/name.parameter" or macro: value as text} of a file written by gin.

  Without imports.
  """
  with tf.io.gfile.GFile(path) as f:
    text = f.read()
  text = re.sub(r" *\\?\n[ \t]+", " ", text)  # joins the lines of a value
  return dict(re.findall(r"^([\w./]+) = (.*)$", text, re.M))


def _protocol(config: str | None, split: str) -> dict[str, str]:
  """The part of a configuration that defines an evaluation."""
  found = {"run.dataset_split": repr(split)}
  bound = bindings(config) if config else {}
  for key in _PROTOCOL:
    if value := bound.get(key):
      is_macro = value.startswith("%")
      found[key] = bound.get(value[1:], value) if is_macro else value
  # Decoding is the default, and is not listed.
  if bound.get(_MODE, "'eval'") != "'eval'":
    found[_MODE] = bound[_MODE]
  return found
