"""Checks of a run, before any graph of it is built.

Each check raises UserError: what is wrong, where it came from, what would be
right.
"""

from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors, layers, projection
from hypergrid_mtf.launch import gin_files, request


def check_sizes() -> None:
  """Checks the bindings that the size of a run is computed from."""
  batch_size = gin_files.value("run.batch_size", 1)
  methods = [
    f"{what}_per_{share}"
    for what in ("sequences", "tokens")
    for share in ("batch", "replica")
  ]
  by_method = (
    isinstance(batch_size, list | tuple)
    and len(batch_size) == 2
    and batch_size[0] in methods
    and isinstance(batch_size[1], int)
  )
  if not (by_method or isinstance(batch_size, int)):
    raise errors.UserError(
      f"run.batch_size = {batch_size!r} is no batch size: give an integer, "
      f"or a pair such as ('tokens_per_batch', 4096) with one of {methods}."
    )
  lengths = gin_files.value("run.sequence_length")
  if lengths is not None and not (
    isinstance(lengths, int)
    or (
      isinstance(lengths, dict)
      and all(isinstance(n, int) and n > 0 for n in lengths.values())
    )
  ):
    raise errors.UserError(
      f"run.sequence_length = {lengths!r} is no length: give an integer, or "
      '{"inputs": 512, "targets": 128}.'
    )
  gin_files.value("run.train_steps")  # an undefined macro is refused here


def build_model(mixture_or_task):
  """Builds the configured model and checks its HyperGrid layers.

  Args:
    mixture_or_task: a seqio Mixture or Task, whose vocabularies size it.

  Returns:
    a transformer.Bitransformer or Unitransformer; plain Python, no graph.
  """
  features = mixture_or_task.output_features
  targets = features["targets"].vocabulary.vocab_size
  inputs = features.get("inputs", features["targets"]).vocabulary.vocab_size
  model_type = gin_files.value("run.model_type", "bitransformer")
  try:
    model = utils.build_model(
      model_type=model_type,
      input_vocab_size=inputs,
      output_vocab_size=targets,
    )
    gated = layers.hypergrid_layers(model)
    for layer, model_dim in gated:
      layer.check(model_dim)
  except errors.UserError:
    raise
  except (TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      f"the gin bindings describe no model of run.model_type = {model_type!r}: "
      f"{errors.sentence(e)}"
    ) from None
  if gated and getattr(model, "autoregressive", False):
    raise errors.UserError(
      "HyperGrid takes its conditioning vector from an encoder, and "
      f"run.model_type = {model_type!r} is a decoder alone: use "
      '"bitransformer".'
    )
  return model


def check_packing(model, asked: request.Request) -> None:
  """Checks that the forced order of contraction serves the rows of the run.

  Args:
    model: from `build_model`.
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
      raise errors.UserError(projection.cannot_serve_packed_rows("weights"))
