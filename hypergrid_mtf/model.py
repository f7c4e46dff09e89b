"""From gin files and bindings to a model: the one way there is.

Like a run of t5: mesh_tensorflow's defaults, the gin files, the bindings, and
`build_model` of what gin then says. The checks are those of a run.
"""

import contextlib
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
  """Makes gin's configuration that of a run, and checks it as one.

  Args:
    paths: of gin files, after mesh_tensorflow's defaults.
    bindings: as given to --gin_param.
    trains: whether a step of training will be made of it.

  Raises:
    UserError: for what gin cannot read, nothing reads, or no model takes.
  """
  config.parse_files([config.DEFAULTS, *paths], bindings)
  bindings_lib.check(trains, references=trains)


def build(
  inputs: int, targets: int | None = None, layout_rules=None, mesh_shape=None
):
  """Builds the model that gin describes and checks its HyperGrid layers.

  Args:
    inputs: size of the vocabulary of the inputs.
    targets: of the targets, if it is another.
    layout_rules: what its layers know of the layout.
    mesh_shape: what its layers know of the mesh.

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
    gated = layers.hypergrid_layers(model)
    for layer, model_dim in gated:
      layer.check(model_dim)
  except errors.UserError:
    raise
  except (TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      "the gin bindings do not describe a model of run.model_type = "
      f"{model_type!r}: {errors.sentence(e)}"
    ) from None
  if gated and getattr(model, "autoregressive", False):
    raise errors.UserError(
      "HyperGrid takes its conditioning vector from an encoder, and "
      f"run.model_type = {model_type!r} has only a decoder: use "
      '"bitransformer".'
    )
  if not gated:
    _check_no_gate_is_left_out(model_type)
  return model


def _check_no_gate_is_left_out(model_type: str) -> None:
  """Refuses layers that are bound for a stack which a model does not have.

  The files of hypergrid/ bind those of an encoder and a decoder; a model of
  another kind has neither, and would be vanilla without a word.
  """
  for (scope, selector), parameters in gin.config._CONFIG.items():
    if selector.endswith("transformer.make_layer_stack") and (
      "HyperGrid" in repr(parameters.get("layers"))
    ):
      name = "transformer.make_layer_stack.layers"
      name = f"{scope}/{name}" if scope else name
      raise errors.UserError(
        f"{name} has HyperGrid{config.place(name)}, and run.model_type = "
        f"{model_type!r} has no stack that reads it, so nothing would be "
        "gated: use 'bitransformer', or give no file of hypergrid/."
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

  Built as a graph of Mesh TensorFlow, which is symbolic: nothing of it is
  lowered to TensorFlow but the names of variables. The model is one that knows
  of no mesh: attention that knows of an axis without work splits the batch once
  more for it, by a dimension of any name.

  Args:
    model: from `build`.
    batch: sequences of a step.
    lengths: {feature: tokens}.
    outer: outer batches of a step.
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
    for operation in variables + graph.operations  # those with names first
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
  """The model that some gin files describe; gin is empty after.

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
