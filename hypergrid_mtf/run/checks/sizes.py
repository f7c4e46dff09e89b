"""Checks the lengths, the batch and the steps of a run."""

import math
import re

from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors, layers, product
from hypergrid_mtf.run import bindings, config, request


def check_lengths(run: request.Run) -> None:
  """Checks that run.sequence_length has a length for exactly each feature."""
  name = "run.sequence_length"
  told = config.place(name)
  lengths = run.lengths
  if lengths is None:
    if run.mode not in ("eval", "score_eval"):
      raise errors.UserError(
        f"{name} = None{told} takes the lengths of the examples, which mode "
        f'"{run.mode}" cannot: give an integer, or {{"inputs": 512, '
        '"targets": 128}.'
      )
    return
  features = run.mixture.output_features
  for key in lengths:
    if key not in features and key not in ("inputs", "targets"):
      raise errors.UserError(
        f"{name} = {lengths}: {run.mixture.name} has no feature "
        f"{key!r}{told}, only {', '.join(map(repr, features))}."
      )
  for feature in features:
    if feature not in lengths:
      raise errors.UserError(
        f"{name} = {lengths} has no length of the feature {feature!r} of "
        f"{run.mixture.name}{told}."
      )


def check_batch_size(run: request.Run) -> None:
  """Checks that a batch counted in tokens is a whole number of sequences."""
  name, size = "run.batch_size", run.batch_size
  if isinstance(size, int) or size[0].startswith("sequences"):
    return
  method, count = size
  told = config.place(name)
  by_sequences = method.replace("tokens", "sequences")
  if run.lengths is None:
    raise errors.UserError(
      f"{name} = {size!r}{told} counts tokens, and run.sequence_length = "
      f"None gives no length: give ('{by_sequences}', 32), for instance."
    )
  length = max(run.lengths.values())
  if count % length:
    near = [n * length for n in (count // length, count // length + 1) if n]
    raise errors.UserError(
      f"{name} = {size!r} is not a multiple of the length of a sequence"
      f"{told}: the longest of run.sequence_length = {run.lengths} is "
      f"{length}; give {' or '.join(f'({method!r}, {n})' for n in near)}, or "
      f"('{by_sequences}', {max(count // length, 1)})."
    )


def check_train_steps(run: request.Run) -> None:
  """Checks that steps computed from tokens are at least one."""
  steps = config.value("run.train_steps", utils.auto_train_steps)
  if not run.trains or not callable(steps):
    return
  size = run.batch_size
  method, rows = ("", size) if isinstance(size, int) else size
  if method.startswith("tokens") and run.lengths:
    rows //= max(run.lengths.values())
  count = steps(rows, run.lengths)
  if not bindings.is_positive(count):
    raise errors.UserError(
      f"run.train_steps{config.place('run.train_steps')} computes {count} "
      f"steps for a batch of {rows} sequences: give a number, or more "
      "auto_train_steps.train_tokens."
    )


def check_trained(run: request.Run) -> None:
  """Checks that run.variable_filter leaves something to train."""
  name = "run.variable_filter"
  if not run.trains or not isinstance(config.value(name), str):
    return
  try:
    trained = run.trained_shapes
  except re.error as e:
    raise errors.UserError(
      f"{name}{config.place(name)} is not a regular expression: {e}."
    ) from None
  if not trained:
    raise errors.UserError(
      f"{name} = {config.value(name)!r}{config.place(name)} matches no "
      "variable of the model, so nothing would be trained: give a part of the "
      "names of some, such as 'DenseReluDense', or leave it out."
    )


def note_trained(run: request.Run) -> list[str]:
  """Notes which share of the model run.variable_filter trains."""
  if not run.trains or not isinstance(config.value("run.variable_filter"), str):
    return []
  trained = run.trained_shapes
  part, total = (
    sum(map(math.prod, shapes.values())) for shapes in (trained, run.shapes)
  )
  return [
    f"trains {len(trained)} of {len(run.shapes)} variables: {part:,} of "
    f"{total:,} parameters, {100 * part / total:.3g} % (run.variable_filter)"
  ]


def check_packing(run: request.Run) -> None:
  """Checks that the requested contraction works with packed examples."""
  reader, packs = {
    "train": ("mesh_train_dataset_fn", True),
    "perplexity_eval": ("mesh_eval_dataset_fn", False),
  }.get(run.mode, (None, False))
  if not reader or not config.value(f"{reader}.pack", packs):
    return
  for layer, _ in layers.hypergrid_layers(run.model):
    if layer.contraction == "weights" and layer.gates_differ:
      raise errors.UserError(product.cost.cannot_serve_packed_rows("weights"))
