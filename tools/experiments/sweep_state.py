"""Where the parts of a sweep are, and how far each run has come."""

import contextlib
import dataclasses
import json
import os
import shlex

import pandas as pd
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from tools.experiments import sweep_file

TRAINED = "trained.json"  # in the folder of a model whose training ended


@dataclasses.dataclass(frozen=True)
class Places:
  """Where the parts of a sweep are.

  Attributes:
    output_dir: of results and logs, local.
    models_dir: of the models, local or in the cloud.
  """

  output_dir: str
  models_dir: str

  @property
  def in_the_cloud(self) -> bool:
    return "://" in self.models_dir

  def model(self, run: sweep_file.Run) -> str:
    return os.path.join(self.models_dir, run.name, f"seed{run.seed}")

  def result(self, run: sweep_file.Run) -> str:
    return os.path.join(self.output_dir, "results", f"{run.label}.json")

  def log(self, run: sweep_file.Run) -> str:
    return os.path.join(self.output_dir, "logs", f"{run.label}.log")


def state(run: sweep_file.Run, places: Places) -> str:
  """Where a run stands: "done", "trained", "begun" or "to do".

  Args:
    run: one of a sweep.
    places: of the sweep.

  Returns:
    one of the four

  Raises:
    UserError: for a result that was made by other flags.
  """
  path = places.result(run)
  if os.path.exists(path):
    try:
      with open(path) as f:
        made_by = json.load(f)["flags"]
    except (ValueError, KeyError, TypeError):
      raise errors.UserError(
        f"{path} is damaged: remove it, and the run is done again."
      ) from None
    if made_by != flags_text(run):
      raise errors.UserError(
        f"{path} was made by other flags than the sweep has now for "
        f"{run.name}: give another --output_dir, or remove it."
      )
    return "done"
  with contextlib.suppress(errors.UserError):  # its own run will say it
    if training(run, places):
      return "trained"
  return "begun" if tf.io.gfile.isdir(places.model(run)) else "to do"


def training(run: sweep_file.Run, places: Places) -> dict | None:
  """What is kept of a training that came to its end.

  Args:
    run: one of a sweep.
    places: of the sweep.

  Returns:
    `seconds`, `cores` and `versions`; None if its model is not there,
    not whole, or of other flags
  """
  path = os.path.join(places.model(run), TRAINED)
  if not tf.io.gfile.exists(path):
    return None
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    same = found["flags"] == shlex.join(run.flags)
    seconds, cores, versions = (
      found[key] for key in ("seconds", "cores", "versions")
    )
  except (ValueError, KeyError, TypeError):
    return None
  if not same or not checkpoints.latest_checkpoint(places.model(run)):
    return None
  return dict(seconds=seconds, cores=cores, versions=versions)


def flags_text(run: sweep_file.Run) -> str:
  """The flags of a run as its result keeps them."""
  return shlex.join(run.flags + ("--",) + run.eval_flags)


def status(runs: list[sweep_file.Run], places: Places) -> pd.DataFrame:
  """One row a model, one column a seed."""
  frame: dict[str, dict[str, str]] = {}
  for run in runs:
    frame.setdefault(f"seed {run.seed}", {})[run.name] = state(run, places)
  return pd.DataFrame(frame).reindex(dict.fromkeys(r.name for r in runs))
