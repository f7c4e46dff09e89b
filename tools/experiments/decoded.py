"""The answers that an evaluation decoded: which tasks and steps are there.

Read through tf.io.gfile throughout: a sweep keeps its models in the cloud.
"""

import dataclasses
import os
import re
from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from t5_tasks import mixtures
from tools.experiments import evaluation


def read_lines(path: str, count: int | None = None) -> list[str]:
  """The lines of a file of inputs, targets or predictions, as t5 wrote them.

  Only a newline ends a line: `str.splitlines` would also break a text at
  U+2028, U+0085, a form feed or a carriage return.

  Args:
    path: local or in the cloud.
    count: how many there should be. t5.models.MtfModel writes no newline at the
      end, so that its empty last line is not told from the end otherwise.

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
  """One file of predictions, a line an example.

  Attributes:
    task: whose they are; it may be the variant with a task token.
    step: of the checkpoint.
    path: of the file.
    inputs_path: of the file of the inputs that were decoded.
  """

  task: str
  step: int
  path: str
  inputs_path: str

  def lines(self, count: int) -> list[str]:
    """The predictions.

    Args:
      count: how many there should be, as for `read_lines`.
    """
    return read_lines(self.path, count)

  def inputs(self, count: int) -> list[str] | None:
    """The inputs, as t5 wrote them; None where they were not kept.

    Args:
      count: how many there should be.
    """
    if not tf.io.gfile.exists(self.inputs_path):
      return None
    return read_lines(self.inputs_path, count)


class Decoded:
  """What a folder of an evaluation holds.

  Attributes:
    folder: where it is.
  """

  def __init__(self, folder: str):
    """Lists the folder.

    Args:
      folder: local or in the cloud.

    """
    self.folder = folder
    self._found: dict[str, dict[int, Predictions]] = {}
    for name in tf.io.gfile.listdir(folder):
      match = re.fullmatch(r"(\w+)_(\d+)_predictions", name)
      if match:
        task, step = match[1], int(match[2])
        self._found.setdefault(task, {})[step] = Predictions(
          task,
          step,
          os.path.join(folder, name),
          os.path.join(folder, f"{task}_inputs"),
        )

  def _of(self, task: str) -> list[dict[int, Predictions]]:
    """Of the task and of its variant with a task token."""
    names = (task, task + mixtures.TASK_TOKEN_SUFFIX)
    return [self._found[name] for name in names if name in self._found]

  def steps(self, task: str) -> list[int]:
    """The steps at which a task, or its variant, was decoded, in order."""
    return sorted({step for found in self._of(task) for step in found})

  def at(self, task: str, step: int) -> Predictions | None:
    """The predictions of a task, or of its variant, at one step.

    Args:
      task: its name without the mark of a task token.
      step: of the checkpoint.

    Returns:
      predictions; None if it was not decoded

    Raises:
      UserError: if both the task and its variant were decoded.
    """
    found = [by_step[step] for by_step in self._of(task) if step in by_step]
    if len(found) > 1:
      raise errors.UserError(
        f"{self.folder} holds predictions of {found[0].task} and of "
        f"{found[1].task} at step {step}: remove those of the task that the "
        "model was not trained on."
      )
    return found[0] if found else None


def shown(steps: Sequence[int]) -> str:
  """Steps in words: "step 20", "steps 3, 20"."""
  return f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}"


def find(model_dir: str, split: str) -> Decoded:
  """What was decoded of a split.

  Args:
    model_dir: from --model_dir, local or in the cloud.
    split: that was decoded.

  Raises:
    UserError: if there is no such folder, or it cannot be read.
  """
  try:
    return Decoded(evaluation.folder_of(model_dir, split))
  except tf.errors.OpError as e:
    why = e.message.splitlines()[0]
    raise errors.UserError(
      f"--model_dir={model_dir} cannot be read ({why})."
    ) from None
