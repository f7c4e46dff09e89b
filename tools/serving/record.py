"""What a client of an exported model must know, as JSON beside it."""

import json

import seqio
import tensorflow as tf

from hypergrid_mtf import __version__, errors
from tools.experiments import evaluation
from tools.serving import task_fields, text_model, trained, weights

NAME = "hypergrid_mtf.json"
SCHEMA = 1


def make(source: trained.Trained, options: text_model.Options) -> dict:
  """The record of an export.

  Args:
    source: the model.
    options: of the export.

  Returns:
    what `json` takes
  """
  parameters, _ = weights.size(source.weights)
  how = options.decoding
  return {
    "schema": SCHEMA,
    "made_by": f"hypergrid_mtf {__version__}",
    "step": source.step,
    "config_hash": source.config_hash,
    "mixture": source.mixture.name,
    "tasks": {
      task.name: _task(task) for task in seqio.get_subtasks(source.mixture)
    },
    "vocabulary": source.vocabulary,
    "parameters": parameters,
    "limits": {
      "inputs": options.inputs,
      "targets": options.targets,
      "outputs": how.max_tokens,
    },
    "decoding": {
      "beam_size": how.beam_size,
      "temperature": how.temperature,
      "top_k": how.top_k,
      "alpha": how.alpha,
    },
    "signatures": text_model.SIGNATURES,
    "metrics": _metrics(source),
  }


def _task(task: seqio.Task) -> dict:
  found = task_fields.of_task(task)
  return {
    "prefix": found.prefix,
    "fields": list(found.fields),
    "labels": list(found.labels),
  }


def _metrics(source: trained.Trained) -> dict:
  """{task: {metric: value}} of the step, where it was evaluated."""
  try:
    found = evaluation.read(evaluation.folder_of(source.folder, "validation"))
  except errors.UserError:
    return {}
  chosen: dict[str, dict] = {}
  for task, by_metric in found.metrics().items():
    for metric, by_step in by_metric.items():
      if str(source.step) in by_step:
        chosen.setdefault(task, {})[metric] = by_step[str(source.step)]
  return chosen


def read(path: str) -> dict | None:
  """A record.

  Args:
    path: of the file.

  Returns:
    as `make` gave it; None if there is none

  Raises:
    UserError: if it cannot be read.
  """
  if not tf.io.gfile.exists(path):
    return None
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    if found["schema"] != SCHEMA or not isinstance(found["tasks"], dict):
      raise ValueError("it is not a record of an export")
    return found
  except (ValueError, KeyError, TypeError, tf.errors.OpError) as e:
    raise errors.UserError(
      f"{path} cannot be read ({errors.sentence(e)}): export the model again."
    ) from None
