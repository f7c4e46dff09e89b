"""Checks of a run, before any graph of it is built.

Each check raises UserError: what is wrong, where it came from, what would be
right.
"""

import importlib.util

import gin
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors, layers, product
from hypergrid_mtf.run import console, gin_files, gin_statements, request


def check_sizes(mixture_or_task, asked: request.Request) -> None:
  """Checks the bindings that the size of a batch is computed from.

  Args:
    mixture_or_task: a seqio Mixture or Task, whose features have the lengths.
    asked: the run.

  Raises:
    UserError: naming the binding, its value, and what would be right.
  """
  lengths = _check_lengths(mixture_or_task, asked)
  batch_size = _check_batch_size(lengths, asked)
  if asked.trains and batch_size and lengths:
    _check_train_steps(batch_size, lengths)


def _is_positive(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_lengths(mixture_or_task, asked) -> dict[str, int] | None:
  """Checks run.sequence_length, and returns it as a dict."""
  name = "run.sequence_length"
  lengths = gin_files.value(name)
  told = gin_statements.told(name)
  example = 'give an integer, or {"inputs": 512, "targets": 128}.'
  if lengths is None:
    if asked.mode not in ("eval", "score_eval"):
      raise errors.UserError(
        f"{name} = None{told} takes the lengths of the examples, which mode "
        f'"{asked.mode}" cannot: {example}'
      )
    return None
  if _is_positive(lengths):
    return {"inputs": lengths, "targets": lengths}
  if not (
    isinstance(lengths, dict) and all(map(_is_positive, lengths.values()))
  ):
    raise errors.UserError(
      f"{name} = {lengths!r} is not a length{told}: {example}"
    )
  features = mixture_or_task.output_features
  for key in lengths:
    if key not in features and key not in ("inputs", "targets"):
      raise errors.UserError(
        f"{name} = {lengths}: {mixture_or_task.name} has no feature "
        f"{key!r}{told}, only {', '.join(map(repr, features))}."
      )
  for feature in features:
    if feature not in lengths:
      raise errors.UserError(
        f"{name} = {lengths} has no length of the feature {feature!r} of "
        f"{mixture_or_task.name}{told}."
      )
  return lengths


def _check_batch_size(lengths, asked) -> int | None:
  """Checks run.batch_size, and returns it in sequences of one replica."""
  name = "run.batch_size"
  batch_size = gin_files.value(name, ("tokens_per_replica", 2048))
  told = gin_statements.told(name)
  if _is_positive(batch_size):
    return batch_size
  methods = [
    f"{what}_per_{share}"
    for what in ("sequences", "tokens")
    for share in ("batch", "replica")
  ]
  if not (
    isinstance(batch_size, list | tuple)
    and len(batch_size) == 2
    and batch_size[0] in methods
    and _is_positive(batch_size[1])
  ):
    raise errors.UserError(
      f"{name} = {batch_size!r} is not a batch size{told}: give a positive "
      f"integer, or a pair such as ('tokens_per_batch', 4096) with one of "
      f"{methods}."
    )
  method, size = batch_size
  if method.startswith("sequences"):
    return size
  by_sequences = method.replace("tokens", "sequences")
  if lengths is None:
    raise errors.UserError(
      f"{name} = {batch_size!r}{told} counts tokens, and run.sequence_length = "
      f"None gives no length: give ('{by_sequences}', 32), for instance."
    )
  length = max(lengths.values())
  sequences = size // length
  if size % length == 0:
    return sequences
  found = gin_statements.origin(name)
  if sequences and not asked.trains and found and found.source == "shipped":
    # A default of t5's files, made for lengths that are powers of two. What is
    # decoded or scored does not depend on it.
    fitting = (method, sequences * length)
    gin.bind_parameter(name, fitting)
    console.say(
      f"{name} = {fitting}: {size} tokens ({found.where}) are not a multiple "
      f"of {length}"
    )
    return sequences
  near = [n * length for n in (sequences, sequences + 1) if n]
  raise errors.UserError(
    f"{name} = {batch_size!r} is not a multiple of the length of a sequence"
    f"{told}: the longest of run.sequence_length = {lengths} is {length}; give "
    f"{' or '.join(f'({method!r}, {n})' for n in near)}, or "
    f"('{by_sequences}', {max(sequences, 1)})."
  )


def _check_train_steps(batch_size: int, lengths: dict[str, int]) -> None:
  """Checks that steps that are computed from tokens are not none."""
  steps = gin_files.value("run.train_steps", utils.auto_train_steps)
  if callable(steps):
    count = steps(batch_size, lengths)
    if not _is_positive(count):
      told = gin_statements.told("run.train_steps")
      raise errors.UserError(
        f"run.train_steps{told} computes {count} "
        f"steps for a batch of {batch_size} sequences: give a number, or more "
        "auto_train_steps.train_tokens."
      )


def check_custom_ops() -> None:
  """Packs with TensorFlow's operations where tensor2tensor's are not there.

  Public operative configs bind them; TensorFlow's do the same, more slowly.
  """
  name = "pack_dataset.use_custom_ops"
  if gin_files.value(name) and not importlib.util.find_spec("tensor2tensor"):
    told = gin_statements.told(name)
    gin.bind_parameter(name, False)
    console.say(
      f"{name} = False: the operations it asks for are tensor2tensor's, which "
      f"is not installed{told}"
    )


def check_packing(model, asked: request.Request) -> None:
  """Checks that the forced order of contraction serves the rows of the run.

  Args:
    model: from `gin_model.build`.
    asked: the run.
  """
  reader, packs = {
    "train": ("mesh_train_dataset_fn", True),
    "perplexity_eval": ("mesh_eval_dataset_fn", False),
  }.get("train" if asked.trains else asked.mode, (None, False))
  if not reader or not gin_files.value(f"{reader}.pack", packs):
    return
  for layer, _ in layers.hypergrid_layers(model):
    if layer.contraction == "weights" and layer.gates_differ:
      raise errors.UserError(product.cost.cannot_serve_packed_rows("weights"))
