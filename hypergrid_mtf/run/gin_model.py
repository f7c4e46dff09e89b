"""From gin files and bindings to a model: the one way there is.

Like a run of t5: mesh_tensorflow's defaults, the gin files, the bindings, and
`build_model` of what gin then says. The checks are those of a run.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

import gin
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors, layers
from hypergrid_mtf.run import (
  gin_faults,
  gin_files,
  gin_statements,
  gin_unread,
  values,
)

# What mesh_tensorflow's own main parses before anything else.
DEFAULTS = os.path.join(os.path.dirname(utils.__file__), "gin", "defaults.gin")


def parse(
  paths: Sequence[str],
  bindings: Sequence[str] = (),
  skip_unknown: bool = False,
  clears: bool = True,
) -> None:
  """Makes gin's configuration that of some files and bindings.

  It is not closed, since a model needs less than a run.

  Args:
    paths: of gin files, as given to --gin_file.
    bindings: as given to --gin_param.
    skip_unknown: pass over bindings of what is not imported.
    clears: whether what was bound before goes.

  Raises:
    UserError: for what gin cannot read.
  """
  gin_files.add_search_paths()
  if clears:
    gin.clear_config()  # opens it too
  with gin.unlock_config():
    gin_files.parse(
      gin.parse_config_files_and_bindings,
      list(paths),
      list(bindings),
      finalize_config=False,
      skip_unknown=skip_unknown,
    )


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
  parse([DEFAULTS, *paths], bindings)
  gin_unread.check_macros()
  gin_unread.check_scopes()
  if trains:
    gin_faults.check_references()
  values.check_bindings(trains)


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
  model_type = gin_files.value("run.model_type", "bitransformer")
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
    if not selector.endswith("transformer.make_layer_stack"):
      continue
    if "HyperGrid" not in repr(parameters.get("layers")):
      continue
    name = "transformer.make_layer_stack.layers"
    name = f"{scope}/{name}" if scope else name
    raise errors.UserError(
      f"{name} has HyperGrid{gin_statements.told(name)}, and run.model_type = "
      f"{model_type!r} has no stack that reads it, so nothing would be gated: "
      "use 'bitransformer', or give no file of hypergrid/."
    )


def of_mixture(mixture_or_task):
  """`build`, for the vocabularies of a mixture.

  Args:
    mixture_or_task: a seqio Mixture or Task.

  Returns:
    as `build`
  """
  features = mixture_or_task.output_features
  targets = features["targets"].vocabulary.vocab_size
  inputs = features.get("inputs", features["targets"]).vocabulary.vocab_size
  return build(inputs, targets)


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

  Yields:
    as `build` returns it
  """
  try:
    bind(paths, bindings, trains)
    yield build(vocab_size, **mesh)
  finally:
    gin.clear_config()
