"""The training data goes on where it was when a training was interrupted.

The order of the examples follows from the seed, so a run that goes on from step
n skips the n batches that it has seen. t5 can do that (`run.skip_seen_data`);
here it is done unless that is bound. `<model_dir>/data_order.json` says from
which step the present order counts: a warm start begins at its checkpoint's
step, and other data, or another seed, begin where they were given.
"""

import contextlib
import functools
import json
import os
from unittest import mock

import tensorflow.compat.v1 as tf
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import console, files, gin_files

NAME = "data_order.json"
_BINDINGS = (
  "run.train_dataset_fn",
  "run.batch_size",
  "run.sequence_length",
  "run.ensemble_inputs",
  "mesh_train_dataset_fn.seed",
  "mesh_train_dataset_fn.shuffle",
  "mesh_train_dataset_fn.pack",
  "mesh_train_dataset_fn.use_cached",
  "pack_dataset.use_custom_ops",
  "tsv_dataset_fn.filename",
)


def what_orders(mixture: str | None) -> dict[str, str]:
  """What the order of the batches follows from, as text.

  Args:
    mixture: its name.

  Returns:
    {name: value}
  """
  found = {"mixture": str(mixture)}
  for name in _BINDINGS:
    value = gin_files.value(name)
    if value is not None:
      found[name] = str(getattr(value, "__name__", value))
  return found


def first_step(model_dir: str, order: dict[str, str], began: int) -> int:
  """The step from which the order of a training counts, which is recorded.

  Args:
    model_dir: of a training; only its one writer may call this.
    order: from `what_orders`.
    began: the step that a training in an empty folder begins at.

  Returns:
    the global step of its first batch
  """
  path = os.path.join(model_dir, NAME)
  latest = checkpoints.latest_checkpoint(model_dir)
  now = began if latest is None else checkpoints.step_of(latest) or 0
  recorded = _read(path) if latest else {}
  if recorded:
    before, step = recorded["order"], recorded["first_step"]
    if before == order and step <= now:
      return step
    names = before.keys() | order.keys()
    other = sorted(n for n in names if before.get(n) != order.get(n))
    console.say(
      f"the training data begin anew at step {now}: "
      + (f"{other[0]} is another than before" if other else f"{path} is newer")
    )
  elif latest and order.get("mesh_train_dataset_fn.seed"):
    # A training of an earlier version, which had no such file.
    now = began
  files.write(path, json.dumps(dict(first_step=now, order=order)) + "\n")
  return now


def _read(path: str) -> dict:
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    return dict(order=dict(found["order"]), first_step=int(found["first_step"]))
  except (ValueError, KeyError, TypeError, tf.errors.OpError):
    return {}


def goes_on_by_itself() -> bool:
  """Whether the user bound one of t5's own ways to go on (or not to)."""
  names = ("run.skip_seen_data", "run.checkpoint_input_pipeline")
  return any(gin_files.value(name) is not None for name in names)


@contextlib.contextmanager
def going_on(first: int):
  """Within this context, trainings of t5 skip the batches that they have seen.

  Args:
    first: the global step of the first batch.
  """
  original = tpu_estimator.TPUEstimator.train

  @functools.wraps(original)
  def train(self, input_fn, *args, **kwargs):
    latest = self.latest_checkpoint()
    seen = (checkpoints.step_of(latest) or 0) - first if latest else 0

    def rest(params):
      data = input_fn(params)
      if seen <= 0:
        return data
      console.say(f"skipping the {seen} batches that were seen before")
      return data.skip(seen)

    return original(self, rest, *args, **kwargs)

  with mock.patch.object(tpu_estimator.TPUEstimator, "train", train):
    yield
