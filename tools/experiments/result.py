"""Everything that is kept of a run, read from the files that it left."""

import contextlib
import hashlib
import json
import math
import os
import re

import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import console
from tools import environment
from tools.experiments import answers, evaluation, lines, protocol

SCHEMA = 1
# Bindings that say where, when or with which seed, and not what.
_NOT_CONFIG = (
  "run.model_dir",
  "run.eval_summary_dir",
  "mesh_train_dataset_fn.seed",
)


def config_of(path: str) -> dict[str, str]:
  """The bindings that make a run what it is, free of places.

  Args:
    path: of the operative_config.gin of its training.

  Returns:
    as `evaluation.bindings`; a file that is named by its path (a vocabulary) is
    its name and the hash of its bytes.
  """
  config = {}
  for name, value in evaluation.bindings(path).items():
    if name.split("/")[-1] in _NOT_CONFIG:
      continue
    text = value.strip("'\"")
    if os.path.isabs(text) and tf.io.gfile.exists(text):
      value = os.path.basename(text)
      if not tf.io.gfile.isdir(text):
        with tf.io.gfile.GFile(text, "rb") as f:
          digest = hashlib.sha256(f.read()).hexdigest()[:12]
        value += f" ({digest})"
    config[name] = value
  return config


def as_json(value: float) -> float | str:
  """A metric as standard JSON has it: "nan", "inf" or "-inf" are texts."""
  return value if math.isfinite(value) else str(value)


def number(value: float | str) -> float:
  """A metric of a result's JSON, also one that is "nan" or an old file's NaN.

  Args:
    value: from `metrics`, as json.load gives it.

  Returns:
    the number; nan where the evaluation gave none
  """
  return float(value)


def config_hash(config: dict[str, str]) -> str:
  """Twelve hexadecimal digits of a configuration."""
  text = json.dumps(config, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _digest(texts: list[str]) -> str:
  return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _predictions(folder: str, metrics: dict) -> tuple[dict, dict]:
  """Data and answers of each task.

  Returns:
    {task: {examples, hash}}, {task: {step: from `answers.pack`}}
  """
  names = set(tf.io.gfile.listdir(folder))

  # t5's model API alone writes outputs, and a newline in a text as it is.
  from_api = any(name.endswith("_outputs") for name in names)

  def read(name, count=None):
    path = os.path.join(folder, name)
    return lines.read_lines(path, count if from_api else None)

  def fits(name, found, of, wanted):
    if len(found) == len(wanted):
      return True
    differ = (
      f"{os.path.join(folder, name)} holds {len(found):,} lines, and {of} "
      f"beside it {len(wanted):,}"
    )
    if not from_api:
      raise errors.UserError(
        f"{differ}: they are of different evaluations, so evaluate all steps "
        "again (--gin_param=\"eval_checkpoint_step = 'all'\")."
      )
    console.say(
      f"{differ}: texts of several lines, as the model API writes them, cannot "
      "be told apart, so scores are kept and no answers."
    )
    return False

  data = {}
  predictions: dict[str, dict[str, dict]] = {}
  steps = [protocol.chosen_steps(metrics, c) for c in protocol.CHECKPOINTS]
  for task in metrics:
    inputs_name, targets_name = f"{task}_inputs", f"{task}_targets"
    if targets_name not in names:
      continue
    # A task without texts before tokenization has no inputs.
    inputs = read(inputs_name) if inputs_name in names else []
    targets = read(targets_name, len(inputs))
    if inputs and not fits(targets_name, targets, inputs_name, inputs):
      continue
    data[task] = dict(examples=len(targets), hash=_digest(inputs + targets))
    for step in sorted({chosen[task] for chosen in steps}):
      name = f"{task}_{step}_predictions"
      if name not in names:
        continue
      found = read(name, len(targets))
      if fits(name, found, targets_name, targets):
        scores = {
          m: v[str(step)] for m, v in metrics[task].items() if str(step) in v
        }
        predictions.setdefault(task, {})[str(step)] = answers.pack(
          task, found, targets, scores
        )
  return data, predictions


def training_seconds(model_dir: str) -> float:
  """Wall time of training, from its event files; pauses do not count."""
  total = 0.0
  for name in tf.io.gfile.listdir(model_dir):
    if not name.startswith("events.out."):
      continue
    path = os.path.join(model_dir, name)
    times = []
    # A file that was being written when its run was killed has a broken end.
    with contextlib.suppress(tf.errors.DataLossError):
      for event in tf.train.summary_iterator(path):
        times.append(event.wall_time)
    if times:
      total += max(times) - min(times)
  return total


def count_parameters(model_dir: str) -> tuple[int, int]:
  """Parameters of the last checkpoint, the optimizer's slots aside.

  Args:
    model_dir: of a run that was trained.

  Returns:
    (all of them, those beside the embedding)
  """
  path = checkpoints.latest_checkpoint(model_dir)
  if path is None:
    raise errors.UserError(f"{model_dir} holds no checkpoint.")
  total = embedding = 0
  for name, shape in checkpoints.reader_shapes(path, "its latest").items():
    if re.search(r"_slot_\w+$", name) or name == checkpoints.GLOBAL_STEP:
      continue
    size = math.prod(shape)
    total += size
    embedding += size if name == "shared/embedding" else 0
  return total, total - embedding


def collect(
  model_dir: str, cell: str, seed: int | None, split: str = "validation"
) -> dict:
  """Everything that is kept of a run.

  Args:
    model_dir: of a run that was trained and evaluated.
    cell: the name of what the run is one seed (or one task) of.
    seed: from --seed, or None.
    split: that it was evaluated on.

  Returns:
    what the JSON holds; docs/result_schema.md describes it

  Raises:
    UserError: if the run is not finished.
  """
  config_path = os.path.join(model_dir, "operative_config.gin")
  if not tf.io.gfile.exists(config_path):
    raise errors.UserError(
      f"{model_dir} holds no operative_config.gin: give the folder of a run "
      "that was trained with hypergrid_mtf.main."
    )
  folder = evaluation.folder_of(model_dir, split)
  found = evaluation.read(folder)
  asked_for = found.protocol(split)
  for sentence in found.notes():
    console.say(sentence)
  metrics = found.metrics()
  data, predictions = _predictions(folder, metrics)
  config = config_of(config_path)
  total, embedding_free = count_parameters(model_dir)
  return dict(
    schema=SCHEMA,
    cell=cell,
    seed=seed,
    config=config,
    config_hash=config_hash(config),
    protocol=asked_for,
    data=data,
    steps=found.steps()[-1],
    training_seconds=round(training_seconds(model_dir), 1),
    parameters=dict(total=total, beside_embedding=embedding_free),
    metrics={
      task: {
        metric: {step: as_json(v) for step, v in values.items()}
        for metric, values in by_metric.items()
      }
      for task, by_metric in metrics.items()
    },
    predictions=predictions,
    **environment.describe(),
  )


def to_text(result: dict) -> str:
  """The file of a result: one line of standard JSON."""
  return json.dumps(result, allow_nan=False) + "\n"
