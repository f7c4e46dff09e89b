"""The results of runs: read, and refused where they do not belong together."""

import collections
import glob
import json
import os

from hypergrid_mtf import errors
from tools import results

# Of a run that was made without --seed.
NO_SEED = -1


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
        result = json.load(f)
      if result["schema"] != results.SCHEMA or not result["metrics"]:
        raise KeyError("schema")
    except OSError as e:
      raise errors.UserError(f"{name} cannot be read ({e.strerror}).") from None
    except (ValueError, KeyError, TypeError) as e:
      what = "is damaged" if isinstance(e, ValueError) else "is no result"
      skipped.append(f"{name} {what}: skipped.")
      continue
    result["path"] = name
    if result["seed"] is None:
      result["seed"] = NO_SEED
    found.append(result)
  if not found:
    raise errors.UserError(
      f"--results={path} holds no results: give the folder `results` of a "
      f"sweep. {' '.join(skipped)}".strip()
    )
  _check(found)
  return found, skipped


def _check(found: list[dict]) -> None:
  first = found[0]
  tasks = {}
  models = {}
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
    for task in result["metrics"]:
      key = result["cell"], result["seed"], task
      if key in models:
        raise errors.UserError(
          f"{result['path']} and {models[key]} are both seed "
          f"{result['seed']} of {result['cell']} on {task}: remove one."
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
  models = collections.defaultdict(lambda: collections.defaultdict(list))
  for result in sorted(
    found,
    key=lambda r: (
      r["cell"] != baseline,
      r["cell"] == single,
      r["cell"],
      r["seed"],
    ),
  ):
    models[result["cell"]][result["seed"]].append(result)
  return models
