"""Mean gates of each task in a trained model."""

import numpy as np

from hypergrid_mtf import errors
from hypergrid_mtf.run import examples as examples_lib
from hypergrid_mtf.run.checks import data as data_checks
from tools.serving import trained


def _examples(task, length: int, count: int, split: str) -> np.ndarray:
  """Token ids of the first examples of a task, [count, length], padded."""
  lengths = {"inputs": length, "targets": length}
  found = examples_lib.first_examples([task], split, count, lengths)
  out = np.zeros((count, length), np.int32)
  for row, example in zip(out, found.get(task.name, ()), strict=False):
    row[: len(example["inputs"])] = example["inputs"]
  return out


def task_gates(
  model_dir: str,
  examples: int = 32,
  split: str = "validation",
  data_dir: str | None = None,
) -> dict[str, dict[str, np.ndarray]]:
  """Mean gate of each task in each gated layer.

  Args:
    model_dir: of a trained HyperGrid model.
    examples: how many examples of each task.
    split: the split to read; tasks without it are left out.
    data_dir: the TFDS data folder; None for the default of TFDS.

  Returns:
    {task: {"encoder/block_000": [grid_rows, grid_cols], …}}; a variant that
    gates one side alone gives one row or one column.

  Raises:
    UserError: for a model without HyperGrid layers or without a checkpoint, or
      where the data or the split is not there.
  """
  tasks: dict = {}
  with trained.open_model(model_dir) as source:
    if not source.mixture:
      raise errors.UserError(
        f"{source.config} names no mixture (mesh_train_dataset_fn."
        "mixture_or_task_name): put back the file that the training wrote."
      )
    data_checks.check_data(source.mixture, data_dir)
    data_checks.check_split(source.mixture, split)
    named = trained.gated_layers(source.model)
    if not named:
      raise errors.UserError(
        f"--model_dir={model_dir} is a vanilla model: it has no gates to draw."
      )
    length = trained.sequence_lengths()["inputs"]
    rows = {
      task.name: _examples(task, length, examples, split)
      for task in source.tasks
      if split in task.splits
    }
    found = trained.compute_gates(source, rows.values())
    for (task, ids), gates in zip(rows.items(), found, strict=True):
      tasks[task] = {
        name.rpartition("/")[0]: _as_grid(value, layer, ids[:, 0] > 0)
        for (name, layer), value in zip(named, gates, strict=True)
      }
  return tasks


def _as_grid(value: np.ndarray, layer, present: np.ndarray) -> np.ndarray:
  """[examples, …] -> mean [grid_rows, grid_cols] over examples that exist."""
  value = value.astype(np.float32)
  if layer.variant != "GG":  # global gates are the same for every example
    value = value[present].mean(axis=0)
  return value.reshape(layer.grid_rows.size, layer.grid_cols.size)
