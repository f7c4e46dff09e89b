"""The answers that an evaluation decoded: which tasks and steps are there.

Read through tf.io.gfile throughout: a sweep keeps its models in the cloud.
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
    inputs_path: of the file of the inputs that were decoded; it may be missing.
  """

  task: str
  step: int
  path: str
  inputs_path: str


@dataclasses.dataclass(frozen=True)
class Decoded:
  """What a folder of an evaluation holds.

  Attributes:
    folder: where it is.
    tasks: {name without the mark of a task token: {step: Predictions}}.
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
  """What was decoded of a split.

  Args:
    model_dir: from --model_dir, local or in the cloud.
    split: that was decoded.

  Raises:
    UserError: if there is no such folder, it cannot be read, or it holds both
      a task and its variant with a task token at one step.
  """
  try:
    return read_folder(evaluation.folder_of(model_dir, split))
  except tf.errors.OpError as e:
    why = e.message.splitlines()[0]
    raise errors.UserError(
      f"--model_dir={model_dir} cannot be read ({why})."
    ) from None


def read_folder(folder: str) -> Decoded:
  """As `find`, of the folder of an evaluation."""
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
          f"{folder} holds predictions of {other.task} and of {found.task} at "
          f"step {found.step}: remove those of the task that the model was not "
          "trained on."
        )
  return Decoded(folder, tasks)
