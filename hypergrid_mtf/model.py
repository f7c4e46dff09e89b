"""Builds a model from gin files and bindings: the only place that does.

As in a run of t5: mesh_tensorflow's defaults, the gin files, the bindings, then
`build_model`. The checks are those of a run.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors, layers
from hypergrid_mtf.run import bindings as bindings_lib
from hypergrid_mtf.run import config


def bind(
  paths: Sequence[str], bindings: Sequence[str] = (), trains: bool = False
) -> None:
  """Parses gin files and bindings as a run does, and checks them.

  Args:
    paths: gin files, parsed after mesh_tensorflow's defaults.
    bindings: as given to --gin_param.
    trains: whether it will be trained.

  Raises:
    UserError: for what gin cannot read, nothing uses, or no model accepts.
  """
  config.parse_files([config.DEFAULTS, *paths], bindings)
  bindings_lib.check(trains, references=trains)


def build(
  inputs: int, targets: int | None = None, layout_rules=None, mesh_shape=None
):
  """Builds the model that gin describes and checks our layers in it.

  Args:
    inputs: vocabulary size of the inputs.
    targets: vocabulary size of the targets, if different.
    layout_rules: the layout that its layers know of.
    mesh_shape: the mesh that its layers know of.

  Returns:
    a transformer.Bitransformer or Unitransformer; plain Python, no graph

  Raises:
    UserError: for bindings that do not describe a model.
  """
  model_type = config.value("run.model_type", "bitransformer")
  try:
    model = utils.build_model(
      model_type=model_type,
      input_vocab_size=inputs,
      output_vocab_size=targets or inputs,
      layout_rules=layout_rules,
      mesh_shape=mesh_shape,
    )
    own = layers.own_layers(model)
    for layer, model_dim in own:
      layer.check(model_dim)
      members = config.value("Unitransformer.ensemble")
      if members and hasattr(layer, "tasks"):
        raise errors.UserError(
          f"Unitransformer.ensemble = {members!r} is an ensemble, and the "
          "variables of peers/ are those of one model: leave it out."
        )
  except errors.UserError:
    raise
  except (TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      "the gin bindings do not describe a model of run.model_type = "
      f"{model_type!r}: {errors.sentence(e)}"
    ) from None
  if own and getattr(model, "autoregressive", False):
    raise errors.UserError(
      "HyperGrid and its peers read the task from an encoder's inputs, and "
      f"run.model_type = {model_type!r} has only a decoder: use "
      '"bitransformer".'
    )
  if not own:
    _check_no_gate_is_left_out(model_type)
  return model


def _check_no_gate_is_left_out(model_type: str) -> None:
  """Refuses layers bound for a stack that the model does not have.

  The files of hypergrid/ and peers/ bind the layers of an encoder and a
  decoder; any other kind of model would silently be vanilla.
  """
  for (scope, selector), parameters in gin.config._CONFIG.items():
    own = re.search(
      "HyperGrid|HyperPrompt|IA3|Adapter", repr(parameters.get("layers"))
    )
    if own and selector.endswith("transformer.make_layer_stack"):
      name = "transformer.make_layer_stack.layers"
      name = f"{scope}/{name}" if scope else name
      raise errors.UserError(
        f"{name} has {own[0]}{config.place(name)}, and run.model_type = "
        f"{model_type!r} has no stack that reads it, so it would be a vanilla "
        "model: use 'bitransformer', or give no file of hypergrid/ or peers/."
      )


def of_mixture(mixture_or_task):
  """`build`, for the vocabularies of a seqio Mixture or Task."""
  features = mixture_or_task.output_features
  targets = features["targets"].vocabulary.vocab_size
  inputs = features.get("inputs", features["targets"]).vocabulary.vocab_size
  return build(inputs, targets)


def list_tensors(
  model, batch: int, lengths: dict[str, int], outer: int = 1
) -> list[tuple[mtf.Operation, list[mtf.Dimension]]]:
  """(Operation, dimensions of its output) of a training step's forward pass.

  Built as a symbolic Mesh TensorFlow graph; only variable names are lowered to
  TensorFlow. The model must know of no mesh: attention that knows of an unused
  axis splits the batch over it too, by a dimension with an arbitrary name.

  Args:
    model: from `build`.
    batch: sequences per step.
    lengths: {feature: tokens}.
    outer: outer batches per step.
  """
  with tf.Graph().as_default():
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "checked")
    tokens = {}
    for name in ("inputs", "targets"):
      dims = [
        mtf.Dimension("outer_batch", outer),
        mtf.Dimension("batch", batch // outer),
        mtf.Dimension("length", lengths.get(name, max(lengths.values()))),
      ]
      tokens[name] = mtf.zeros(mesh, mtf.Shape(dims), tf.int32)
    model.call_simple(
      **tokens,
      compute_loss=True,
      mode=tf.estimator.ModeKeys.TRAIN,
      variable_dtype=utils.get_variable_dtype(),
    )
  variables = [o for o in graph.operations if isinstance(o, mtf.Variable)]
  return [
    (operation, tensor.shape.dims)
    for operation in variables + graph.operations  # named ones first
    for tensor in operation.outputs
  ]


@contextlib.contextmanager
def configured(
  paths: Sequence[str],
  bindings: Sequence[str],
  vocab_size: int,
  trains: bool = False,
  **mesh,
) -> Iterator:
  """The model described by gin files; clears gin afterwards.

  Args:
    paths: as of `bind`.
    bindings: as of `bind`.
    vocab_size: of inputs and targets.
    trains: as of `bind`.
    **mesh: layout_rules and mesh_shape of `build`.
  """
  try:
    bind(paths, bindings, trains)
    yield build(vocab_size, **mesh)
  finally:
    gin.clear_config()
