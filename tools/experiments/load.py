"""The results of runs: read, and refused where they do not belong together."""

import glob
import json
import os

from hypergrid_mtf import errors
from tools.experiments import protocol
from tools.experiments import result as schema

# Of a run that was made without --seed.
NO_SEED = -1
# What every result has, from the first.
_KEYS = (
  "cell",
  "seed",
  "config",
  "config_hash",
  "protocol",
  "data",
  "steps",
  "training_seconds",
  "parameters",
  "metrics",
  "predictions",
  "hardware",
  "versions",
)


def load(path: str) -> tuple[list[dict], list[str]]:
  """Reads results, and refuses those that do not belong together.

  Args:
    path: a folder of JSON files, or one file.

  Returns:
    (results, a sentence for each file that was skipped)

  Raises:
    UserError: if there are none, or they were made by different protocols, on
      different data, or twice.
  """
  names = (
    sorted(glob.glob(os.path.join(path, "*.json")))
    if os.path.isdir(path)
    else [path]
  )
  found, skipped = [], []
  for name in names:
    try:
      with open(name) as f:
        found.append(_checked(json.load(f)))
    except OSError as e:
      raise errors.UserError(f"{name} cannot be read ({e.strerror}).") from None
    except _NotAResult as e:
      skipped.append(f"{name} is not a result ({e}): skipped.")
    except ValueError as e:
      skipped.append(f"{name} is damaged ({errors.sentence(e)}): skipped.")
    else:
      found[-1]["path"] = name
  if not found:
    raise errors.UserError(
      f"--results={path} holds no results: give the folder `results` of a "
      f"sweep. {' '.join(skipped)}".strip()
    )
  _check(found)
  return found, skipped


class _NotAResult(Exception):
  """What is wrong with the content of a file."""


def _checked(result) -> dict:
  """A result with numbers as numbers, or _NotAResult."""
  if not isinstance(result, dict) or result.get("schema") != schema.SCHEMA:
    raise _NotAResult(f'"schema" is not {schema.SCHEMA}')
  absent = [key for key in _KEYS if key not in result]
  if absent:
    raise _NotAResult(f'it has no "{absent[0]}"')
  for key in ("metrics", "predictions", "data", "config", "protocol"):
    if not isinstance(result[key], dict):
      raise _NotAResult(f'"{key}" is not an object')
  if not result["metrics"]:
    raise _NotAResult('its "metrics" are empty')
  metrics: dict[str, dict[str, dict[str, float]]] = {}
  for task, by_metric in result["metrics"].items():
    for metric, values in by_metric.items():
      for step, value in values.items():
        try:
          by_step = metrics.setdefault(task, {}).setdefault(metric, {})
          by_step[str(int(step))] = schema.number(value)
        except (TypeError, ValueError):
          raise _NotAResult(
            f"{metric} of {task} at step {step} is {value!r}, not a number"
          ) from None
  seed = NO_SEED if result["seed"] is None else result["seed"]
  return {
    **result,
    "metrics": metrics,
    "seed": seed,
    "protocol": protocol.with_defaults(result["protocol"]),
  }


def _check(found: list[dict]) -> None:
  first = found[0]
  tasks: dict[str, tuple[str, dict]] = {}
  models: dict[tuple, str] = {}
  for result in found:
    if result["protocol"] != first["protocol"]:
      keys = {**result["protocol"], **first["protocol"]}
      key = next(
        k for k in keys if result["protocol"].get(k) != first["protocol"].get(k)
      )
      raise errors.UserError(
        f"{result['path']} and {first['path']} were evaluated by different "
        f"protocols ({key} is {result['protocol'].get(key)} and "
        f"{first['protocol'].get(key)}): they cannot be in one table."
      )
    for task, data in result["data"].items():
      path, before = tasks.setdefault(task, (result["path"], data))
      if data != before:
        raise errors.UserError(
          f"{result['path']} and {path} were evaluated on different data of "
          f"{task} ({data['examples']} and {before['examples']} examples, or "
          "others): they cannot be in one table."
        )
    seed = result["seed"]
    which = "a run without seed" if seed == NO_SEED else f"seed {seed}"
    for task in result["metrics"]:
      key = result["cell"], result["seed"], task
      if key in models:
        raise errors.UserError(
          f"{result['path']} and {models[key]} are both {which} of "
          f"{result['cell']} on {task}: remove one."
        )
      models[key] = result["path"]
    configs = {
      r["config_hash"]
      for r in found
      if r["cell"] == result["cell"] and r.get("name") == result.get("name")
    }
    if len(configs) > 1:
      raise errors.UserError(
        f"the seeds of {result['cell']} have different configurations: they "
        "cannot be in one table."
      )


def by_model(
  found: list[dict], baseline: str = "vanilla", single: str = "single"
) -> dict[str, dict[int, list[dict]]]:
  """{cell: {seed: its results}}, the baseline first and single tasks last."""
  models: dict[str, dict[int, list[dict]]] = {}
  for result in sorted(
    found,
    key=lambda r: (
      r["cell"] != baseline,
      r["cell"] == single,
      r["cell"],
      r["seed"],
    ),
  ):
    by_seed = models.setdefault(result["cell"], {})
    by_seed.setdefault(result["seed"], []).append(result)
  return models
