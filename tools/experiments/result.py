"""Results of runs: collects, writes as JSON, reads and checks them."""

import contextlib
import glob
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable

import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import console
from tools import environment
from tools.experiments import decoded, evaluation, protocol

SCHEMA = 1
# The seed of a run without --seed.
NO_SEED = -1
# Bindings that say where, when or with which seed to run, not what.
_NOT_CONFIG = (
  "run.model_dir",
  "run.eval_summary_dir",
  "mesh_train_dataset_fn.seed",
)
# How a training resumes does not matter either; also keeps old hashes valid.
_RESUMING = {"run.skip_seen_data": "False", "run.seen_data_init_step": "0"}
_LOSSES = 200  # points of a curve
# The fields that the tables need.
_KEYS = """cell seed config config_hash protocol data steps training_seconds
  parameters metrics hardware versions"""


def config_of(path: str) -> dict[str, str]:
  """The bindings that define a run, from its training's operative_config.gin.

  Returns:
    as `evaluation.bindings`; a file's path (a vocabulary) becomes its name and
    the hash of its bytes.
  """
  config = {}
  for name, value in evaluation.bindings(path).items():
    if name.split("/")[-1] in _NOT_CONFIG:
      continue
    value = _RESUMING.get(name, value)
    text = value.strip("'\"")
    if os.path.isabs(text) and tf.io.gfile.exists(text):
      value = os.path.basename(text)
      if not tf.io.gfile.isdir(text):
        with tf.io.gfile.GFile(text, "rb") as f:
          value += f" ({_digest(f.read())})"
    config[name] = value
  return config


def config_hash(config: dict[str, str]) -> str:
  """A hash of a configuration: twelve hexadecimal digits."""
  return _digest(json.dumps(config, sort_keys=True).encode())


def _digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:12]


def _data(folder: str, tasks: Iterable[str]) -> dict[str, dict]:
  """{task: {examples, hash of inputs and targets}} of an evaluation."""
  found = {}
  for task in tasks:
    paths = [f"{folder}/{task}_{name}" for name in ("inputs", "targets")]
    # A task without texts before tokenization has no inputs.
    inputs, targets = (
      decoded.read_lines(path) if tf.io.gfile.exists(path) else []
      for path in paths
    )
    if targets:
      digest = _digest("\n".join(inputs + targets).encode())
      found[task] = dict(examples=len(targets), hash=digest)
  return found


def read_training(model_dir: str) -> tuple[float, dict[str, float]]:
  """Reads the event files of a training.

  Returns:
    (wall time in seconds without pauses, {step as text: loss}); about _LOSSES
    losses are kept
  """
  total, losses = 0.0, {}
  for name in sorted(tf.io.gfile.listdir(model_dir)):
    if not name.startswith("events.out."):
      continue
    path = os.path.join(model_dir, name)
    times = []
    # If a run was killed while writing a file, the file's end is broken.
    with contextlib.suppress(tf.errors.DataLossError):
      for event in tf.train.summary_iterator(path):
        times.append(event.wall_time)
        for value in event.summary.value:
          if value.tag == "loss":
            losses[event.step] = value.simple_value
    if times:
      total += max(times) - min(times)
  steps = sorted(losses)
  kept = steps[:: 1 + len(steps) // _LOSSES]
  return total, {str(step): losses[step] for step in kept}


def count_parameters(model_dir: str, trained: str = "") -> dict[str, int]:
  """Parameters of the last checkpoint, without optimizer slots.

  Args:
    model_dir: of a trained run.
    trained: a pattern of the variables that were trained.

  Returns:
    the content of "parameters" in a result
  """
  path = checkpoints.latest_checkpoint(model_dir)
  if path is None:
    raise errors.UserError(f"{model_dir} has no checkpoint.")
  count = dict(total=0, beside_embedding=0, trained=0)
  for name, shape in checkpoints.reader_shapes(path, "its latest").items():
    if re.search(r"_slot_\w+$", name) or name == checkpoints.GLOBAL_STEP:
      continue
    size = math.prod(shape)
    count["total"] += size
    count["beside_embedding"] += size if name != "shared/embedding" else 0
    count["trained"] += size if re.search(trained, name) else 0
  return count


def collect(
  model_dir: str, cell: str, seed: int | None, split: str = "validation"
) -> dict:
  """Collects the result of a run.

  Args:
    model_dir: of a trained and evaluated run.
    cell: the name of the model of which the run is one seed (or one task).
    seed: from --seed, or None.
    split: the evaluated split.

  Returns:
    the content of the JSON file, described in docs/experiments.md

  Raises:
    UserError: if the run is not finished.
  """
  config_path = os.path.join(model_dir, "operative_config.gin")
  if not tf.io.gfile.exists(config_path):
    raise errors.UserError(
      f"{model_dir} has no operative_config.gin: give the folder of a run that "
      "was trained with hypergrid_mtf.main."
    )
  folder = evaluation.folder_of(model_dir, split)
  found = evaluation.read(folder)
  asked_for = found.protocol(split)
  for sentence in found.notes():
    console.say(sentence)
  metrics = found.metrics()
  config = config_of(config_path)
  # As text: None, a pattern in quotes, or a reference to a function.
  pattern = re.fullmatch("'(.*)'", config.get("run.variable_filter", ""))
  seconds, losses = read_training(model_dir)
  return dict(
    schema=SCHEMA,
    cell=cell,
    seed=seed,
    config=config,
    config_hash=config_hash(config),
    protocol=asked_for,
    data=_data(folder, metrics),
    steps=found.last_step(),
    training_seconds=round(seconds, 1),
    losses=losses,
    parameters=count_parameters(model_dir, pattern[1] if pattern else ""),
    metrics=metrics,
    **environment.describe(),
  )


def to_text(result: dict) -> str:
  """A result as one line of standard JSON, which has no nan.

  A number that is not finite becomes the text "nan", "inf" or "-inf".
  """

  def finite(value):
    if isinstance(value, dict):
      return {key: finite(part) for key, part in value.items()}
    return value if math.isfinite(value) else str(value)

  parts = {key: finite(result.get(key, {})) for key in ("metrics", "losses")}
  text = json.dumps({**result, **parts}, allow_nan=False)
  return text + "\n"


def load(path: str) -> tuple[list[dict], list[str]]:
  """Reads results that belong together.

  Args:
    path: a folder of JSON files, or one file.

  Returns:
    (results, a sentence for each file that was skipped)

  Raises:
    UserError: if there are none, or they do not belong together.
  """
  names = [path]
  if os.path.isdir(path):
    names = sorted(glob.glob(os.path.join(glob.escape(path), "*.json")))
  found, skipped = [], []
  for name in names:
    try:
      with open(name) as f:
        found.append(_parsed(json.load(f), name))
    except OSError as e:
      raise errors.UserError(f"{name} cannot be read ({e.strerror}).") from None
    except json.JSONDecodeError as e:
      skipped.append(f"{name} is damaged ({errors.sentence(e)}): skipped.")
    except (TypeError, ValueError, KeyError, AttributeError) as e:
      why = errors.sentence(e)
      skipped.append(f"{name} is not a result ({why}): skipped.")
  if not found:
    raise errors.UserError(
      f"--results={path} has no results: give the folder `results` of a "
      f"sweep. {' '.join(skipped)}".strip()
    )
  check(found)
  return found, skipped


def _parsed(result: dict, path: str) -> dict:
  """Parses a result; texts such as "nan" become numbers."""
  if result.get("schema") != SCHEMA:
    raise ValueError(f'"schema" is not {SCHEMA}')
  if absent := [key for key in _KEYS.split() if key not in result]:
    raise ValueError(f'it has no "{absent[0]}"')
  for key in ("metrics", "data", "config", "protocol"):
    if not isinstance(result[key], dict):
      raise ValueError(f'"{key}" is not an object')
  metrics = {
    task: {metric: _numbers(values) for metric, values in by_metric.items()}
    for task, by_metric in result["metrics"].items()
  }
  if not metrics:
    raise ValueError('its "metrics" are empty')
  losses = _numbers(result.get("losses", {}))
  seed = NO_SEED if result["seed"] is None else result["seed"]
  return {
    **result,
    **dict(metrics=metrics, losses=losses, seed=seed, path=path),
  }


def _numbers(by_step: dict) -> dict[str, float]:
  return {str(int(step)): float(value) for step, value in by_step.items()}


def check(found: list[dict]) -> None:
  """Refuses results that cannot be in the same table."""
  first = found[0]
  data: dict[str, dict] = {}
  models: dict[tuple, dict] = {}
  configs: dict[tuple, str] = {}
  for result in found:
    path, cell, seed = (result[key] for key in ("path", "cell", "seed"))
    if key := protocol.difference(result["protocol"], first["protocol"]):
      shown = [r["protocol"].get(key, "not bound") for r in (result, first)]
      raise errors.UserError(
        f"{path} and {first['path']} were evaluated by different protocols "
        f"({key} is {shown[0]} and {shown[1]}): they cannot be in the same "
        "table."
      )
    for task, own in result["data"].items():
      before = data.setdefault(task, result)
      if own != before["data"][task]:
        raise errors.UserError(
          f"{path} and {before['path']} were evaluated on different data of "
          f"{task} ({own['examples']} and {before['data'][task]['examples']} "
          "examples, or different ones): they cannot be in the same table."
        )
    for task in result["metrics"]:
      before = models.setdefault((cell, seed, task), result)
      if before is not result:
        which = "a run without seed" if seed == NO_SEED else f"seed {seed}"
        raise errors.UserError(
          f"{path} and {before['path']} are both {which} of {cell} on {task}: "
          "remove one."
        )
    name = cell, result.get("name")
    if configs.setdefault(name, result["config_hash"]) != result["config_hash"]:
      raise errors.UserError(
        f"the seeds of {cell} have different configurations: they cannot be in "
        "the same table."
      )


def in_order(found: list[dict], baseline: str, single: str) -> list[dict]:
  """The baseline first, single tasks last; seeds in order."""

  def key(result):
    cell = result["cell"]
    return cell != baseline, cell == single, cell, result["seed"]

  return sorted(found, key=key)
