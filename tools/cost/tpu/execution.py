"""Executes a training step's program on virtual CPU devices, one a core.

Variables begin with values that depend on their names alone, so that the same
step on another mesh, or in other microbatches, must end with the same ones.
"""

import math
import os
import tempfile
import zlib

import numpy as np

from hypergrid_mtf.run import meshes
from tools.cost import benchmark_cases as cases
from tools.cost import benchmark_worker, collectives, models
from tools.cost.tpu import client, program, sent

_EXAMPLES_PER_ROW = 3  # of a packed row


def execute(
  step: collectives.Step,
  setting: models.Setting,
  cores: list[list[int]],
) -> tuple[dict, dict[str, np.ndarray]]:
  """One step of a model.

  Args:
    step: what is computed; without dropout, or cores differ.
    setting: the model.
    cores: coordinates [x, y, z, core] of the cores of a TPU, as many as the
      step's mesh; one, for that core alone.

  Returns:
    what is known of the program ("loop", "sent" of `sent.count`, "spread": the
    largest difference between replicas of one thing, beside its largest value),
    and {name in a checkpoint: its new value}, with "loss"

  Raises:
    UserError: for what describes no model.
  """
  mesh_shape = step.mesh_shape if len(cores) > 1 else ""
  mesh = meshes.parse(mesh_shape, step.layout, "the mesh", "the layout")
  case = cases.Case(
    "train_packed" if step.packed else "train",
    step.batch,
    step.inputs,
    step.targets,
    _EXAMPLES_PER_ROW if step.packed else 1,
  )
  bindings = (
    *step.bindings,
    f"run.mesh_shape = {mesh_shape!r}",
    f"run.layout_rules = {step.layout!r}",
  )
  job = benchmark_worker.Job(step.size, case, setting, gin_params=bindings)
  with tempfile.TemporaryDirectory() as folder:
    hlo = os.path.join(folder, "program.hlo")
    values = os.path.join(folder, "values.npz")
    written = program.write(program.Request(job, mesh, cores), hlo)
    np.savez(values, **_arguments(written, cases.features(case)))
    client.execute(written, hlo, values)
    with np.load(values) as results:
      found, spread = _gather(written, results)
    known = {
      "loop": written["loop"],
      "sent": sent.count(hlo, written["loop"]),
      "spread": spread,
    }
  return known, found


def start(name: str, shape) -> np.ndarray:
  """The value of a variable before the step.

  Args:
    name: in a checkpoint.
    shape: of the whole variable.

  Returns:
    float32 [*shape]
  """
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  value = 0.05 * rng.standard_normal(shape).astype(np.float32)
  if "_slot_" in name:  # Adafactor's: means of squares
    return np.square(value)
  return value + 1 if name.endswith("scale") else value


def compare(
  one: dict[str, np.ndarray], other: dict[str, np.ndarray]
) -> dict[str, float | int | str]:
  """How far two executions of a step are apart.

  Args:
    one: from `execute`.
    other: likewise.

  Returns:
    "loss" of the first, "loss_error" and "error" (the largest of a variable:
    absolute, beside the variable's largest value), "worst" (its name),
    "variables", and "changed", how many the step changed
  """
  if one.keys() != other.keys():
    raise ValueError(f"not in both: {sorted(one.keys() ^ other.keys())}")
  errors = {k: _difference(one[k], other[k]) for k in one}
  loss_error = errors.pop("loss")
  worst = max(errors, key=errors.__getitem__)
  return {
    "loss": float(one["loss"]),
    "loss_error": loss_error,
    "error": errors[worst],
    "worst": worst,
    "variables": len(errors),
    "changed": sum(
      bool((one[k] != start(k, one[k].shape)).any()) for k in errors
    ),
  }


def _difference(one: np.ndarray, other: np.ndarray) -> float:
  """The largest difference beside the largest value."""
  if not (np.isfinite(one).all() and np.isfinite(other).all()):
    return math.inf
  scale = np.abs(one).max() or 1.0
  return float(np.abs(one - other).max() / scale)


def _arguments(written: dict, features: dict) -> dict[str, np.ndarray]:
  """Arguments of all replicas, [replicas, ...], by their numbers."""
  replicas = range(written["replicas"])
  found = {}
  for i, argument in enumerate(written["arguments"]):
    if argument["kind"] == "variable":
      whole = _whole(written, argument)
      each = [whole[_place(written, argument, r)] for r in replicas]
    elif argument["kind"] == "feature":
      each = [features[argument["name"]] for _ in replicas]
    else:
      each = [np.zeros((), argument["dtype"]) for _ in replicas]
    found[str(i)] = np.stack(each)
  return found


def _whole(written: dict, variable: dict) -> np.ndarray:
  shape = _whole_shape(written, variable)
  if variable["stacked"]:
    return np.stack([start(name, shape[1:]) for name in variable["masters"]])
  return start(variable["name"], shape)


def _gather(written: dict, results) -> tuple[dict[str, np.ndarray], float]:
  """The results by name, and how far replicas are apart."""
  found, spread = {}, 0.0
  for i, result in enumerate(written["results"]):
    each = results[str(i)]
    if result["kind"] == "output":
      whole = each[0]
      again = [whole] * len(each)
    else:
      whole = np.full(_whole_shape(written, result), np.nan, np.float32)
      places = [_place(written, result, r) for r in range(len(each))]
      for place, piece in zip(places, each, strict=True):
        whole[place] = piece
      again = [whole[place] for place in places]
    scale = np.abs(whole).max() or 1.0
    spread = max(
      spread,
      *(
        float(np.abs(a - b).max() / scale)
        for a, b in zip(again, each, strict=True)
      ),
    )
    if result["kind"] == "output":
      found[result["name"]] = whole
      continue
    for k, name in enumerate(result["masters"]):
      found[name] = whole[k] if result["stacked"] else whole
  return found, spread


def _place(written: dict, variable: dict, replica: int) -> tuple:
  """Where the slice of a replica is in the whole variable."""
  sizes = [size for _, size in written["mesh"]]
  at = np.unravel_index(written["logical"][replica], sizes)
  begins = [
    at[variable["split"][d]] * n if d in variable["split"] else 0
    for d, n in enumerate(variable["shape"])
  ]
  return tuple(
    slice(b, b + n) for b, n in zip(begins, variable["shape"], strict=True)
  )


def _whole_shape(written: dict, variable: dict) -> list[int]:
  sizes = [size for _, size in written["mesh"]]
  return [
    n * (sizes[variable["split"][d]] if d in variable["split"] else 1)
    for d, n in enumerate(variable["shape"])
  ]
