"""Finds the answers of evaluations: which tasks and steps were decoded.

Uses tf.io.gfile throughout, because models may be in the cloud.
"""

import dataclasses
import os
import re
from collections.abc import Iterable

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from t5_tasks import mixtures
from tools.experiments import evaluation


def read_lines(path: str, count: int | None = None) -> list[str]:
  """The lines of t5's file of inputs, targets or predictions.

  Only a newline ends a line: `str.splitlines` would also split at U+2028,
  U+0085, form feeds and carriage returns.

  Args:
    path: local or in the cloud.
    count: the expected number. t5.models.MtfModel writes no newline at the end,
      so otherwise an empty last line looks like the end.

  Raises:
    UserError: if it cannot be read, or is not UTF-8.
  """
  try:
    with tf.io.gfile.GFile(path, "rb") as f:
      text = f.read().decode("utf-8")
  except UnicodeDecodeError as e:
    line = e.object.count(b"\n", 0, e.start) + 1
    raise errors.UserError(
      f"{path} is damaged: line {line} is not UTF-8 text; evaluate again."
    ) from None
  except tf.errors.OpError as e:
    why = e.message.removeprefix(f"{path}; ")
    raise errors.UserError(f"{path} cannot be read ({why}).") from None
  lines = text.split("\n")
  if not lines[-1] and len(lines) != count:
    lines.pop()
  return lines


@dataclasses.dataclass(frozen=True)
class Predictions:
  """One file of predictions, one line per example.

  Attributes:
    task: their task, possibly the variant with a task token.
    step: of the checkpoint.
    path: of the file.
    inputs_path: path of the file of decoded inputs; it may be missing.
  """

  task: str
  step: int
  path: str
  inputs_path: str


@dataclasses.dataclass(frozen=True)
class Decoded:
  """The content of an evaluation's folder.

  Attributes:
    folder: where it is.
    tasks: {name without task token suffix: {step: Predictions}}.
  """

  folder: str
  tasks: dict[str, dict[int, Predictions]]

  def steps(self, task: str) -> list[int]:
    return sorted(self.tasks.get(task, {}))


def show_steps(steps: Iterable[int]) -> str:
  """Steps in words: "step 20", "steps 3, 20"."""
  texts = [str(step) for step in sorted(steps)]
  return f"step{'s' * (len(texts) > 1)} {', '.join(texts)}"


def find(model_dir: str, split: str) -> Decoded:
  """Finds what was decoded of a split.

  Raises:
    UserError: if there is no such folder, it cannot be read, or it has both a
      task and its task token variant at one step.
  """
  try:
    return read_folder(evaluation.folder_of(model_dir, split))
  except tf.errors.OpError as e:
    why = e.message.splitlines()[0]
    raise errors.UserError(
      f"--model_dir={model_dir} cannot be read ({why})."
    ) from None


def read_folder(folder: str) -> Decoded:
  """As `find`, for an evaluation's folder."""
  tasks: dict[str, dict[int, Predictions]] = {}
  for name in sorted(tf.io.gfile.listdir(folder)):
    if match := re.fullmatch(r"(\w+)_(\d+)_predictions", name):
      path = os.path.join(folder, name)
      inputs = os.path.join(folder, f"{match[1]}_inputs")
      found = Predictions(match[1], int(match[2]), path, inputs)
      by_step = tasks.setdefault(mixtures.base_name(found.task), {})
      other = by_step.setdefault(found.step, found)
      if other != found:
        raise errors.UserError(
          f"{folder} has predictions of {other.task} and of {found.task} at "
          f"step {found.step}: remove those of the task that the model was not "
          "trained on."
        )
  return Decoded(folder, tasks)
