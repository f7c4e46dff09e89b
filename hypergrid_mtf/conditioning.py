"""From a Context to the conditioning vector X of every token.

X is a vector of the first token of the example that a token belongs to: T5
inputs begin with the task's prefix, so that token carries the task. In the
decoder it is the encoder's first token, because the decoder's own is the same
start symbol for every task.

A row of the batch is one example (X is one vector a row), or several packed
ones (each token finds the first token of its own example by its sequence id).
"""

import dataclasses

import mesh_tensorflow as mtf

from hypergrid_mtf import errors, sharding

CONDITION_ON = ("first_token", "task_token")


@dataclasses.dataclass(frozen=True)
class FirstTokens:
  """Candidates for X, and which of them each token takes.

  Attributes:
    x: [<batch>, d_model], one example a row; or, with `selector`,
      [<batch>, memory_length, d_model].
    selector: None, or a boolean [<batch>, length, memory_length], true where
      the memory position is the first token of the token's own example. Rows of
      padding select nothing.
  """

  x: mtf.Tensor
  selector: mtf.Tensor | None = None

  def spread(self, vector: mtf.Tensor | None) -> mtf.Tensor | None:
    """A function of `x`, [..., cells], given to every token it belongs to.

    Args:
      vector: computed from `x`; None and vectors that do not depend on the
        position (global ones) pass through.

    Returns:
      [<batch>, cells], or [<batch>, length, cells] with a selector.
    """
    if vector is None or self.selector is None:
      return vector
    memory_dim = self.selector.shape.dims[-1]
    if memory_dim not in vector.shape.dims:
      return vector
    return mtf.einsum(
      [mtf.cast(self.selector, vector.dtype), vector],
      reduced_dims=[memory_dim],
    )


def one_example_a_row(sequence_id) -> bool:
  """Whether the batch is known, at graph building, to be unpacked.

  A packed data set brings segment ids of its own; without them,
  `Bitransformer` makes `minimum(inputs, 1)`, and decoding passes the integer 1.
  Anything else is treated as packed, which is right for both, only slower.

  Args:
    sequence_id: as in `transformer.Context`: a Tensor, an integer or None.

  Returns:
    a boolean
  """
  if not isinstance(sequence_id, mtf.Tensor):
    return True
  operation = sequence_id.operation
  while isinstance(operation, mtf.ops.ReshapeOperation):
    operation = operation.inputs[0].operation
  return isinstance(operation, mtf.ops.MinMaxOperation)


def first_tokens(
  context,
  x: mtf.Tensor,
  condition_on: str,
  shards: list[mtf.Dimension] | None = None,
) -> FirstTokens:
  """Finds X for a layer of an encoder or of a decoder.

  Not called at "incremental" decoding steps: the gate is a constant state then.

  Args:
    context: a transformer.Context.
    x: the layer's input, [<batch>, length, d_model].
    condition_on: one of CONDITION_ON.
    shards: from sharding.shard_dims. X gets these dimensions where its gradient
      can join one that the mesh sums without HyperGrid too. Elsewhere it is
      cheaper to sum that of the gate's vectors.

  Returns:
    a FirstTokens

  Raises:
    UserError: for a model without an encoder, or whose decoder cannot see the
      encoder's token embeddings.
  """
  shards = shards or []
  if x.shape.dims[-1].name in (d.name for d in shards):
    shards = []  # X itself is split
  if context.model.autoregressive:
    return _decoder_first_tokens(context, condition_on, shards)
  source = context.input_embeddings if condition_on == "task_token" else x
  source_id = context.sequence_id
  length_dim = context.length_dim
  if one_example_a_row(source_id):
    return FirstTokens(_at_position_zero(source, length_dim))
  memory_dim = mtf.Dimension("memory_length", length_dim.size)
  # The gradient joins that of the layer's wi.
  source = sharding.copies(source, shards)
  return FirstTokens(
    mtf.replace_dimensions(source, length_dim, memory_dim),
    _selector(
      source_id, mtf.replace_dimensions(source_id, length_dim, memory_dim)
    ),
  )


def _decoder_first_tokens(
  context, condition_on: str, shards: list[mtf.Dimension]
) -> FirstTokens:
  """X of a decoder layer: the first token of the encoder's example."""
  if context.encoder_output is None:
    raise errors.UserError(
      "HyperGrid takes its conditioning vector from an encoder, and this model "
      'is a decoder alone: use run.model_type = "bitransformer".'
    )
  memory_dim = context.encoder_length_dim
  packed = not one_example_a_row(context.encoder_sequence_id)
  if not _attention_is_split(context, shards):
    shards = []
  if condition_on == "task_token":
    source = _input_embeddings(context, memory_dim, first_only=not packed)
  elif packed:
    source = sharding.copies(context.encoder_output, shards)
  else:
    source = sharding.copies(context.encoder_output, shards)
    source = _at_position_zero(source, memory_dim)
  if not packed:
    return FirstTokens(source)  # [<batch>, d_model]
  return FirstTokens(
    source, _selector(context.sequence_id, context.encoder_sequence_id)
  )


def _attention_is_split(context, shards) -> bool:
  """Whether the gradient of the encoder's output is a sum over these shards.

  All decoder layers' attention then sends one sum, unless a term of another
  kind comes between: the gates' terms should be of the same kind.
  """
  layout = mtf.convert_to_layout_rules(context.model.layout or "")
  mesh_shape = mtf.convert_to_shape(context.model.mesh_shape or "")
  axes = [
    layout.tensor_dimension_to_mesh_axis(d, mesh_shape)
    for d in (mtf.Dimension("heads", 0), *shards)
  ]
  return len(axes) == 2 and axes[0] is not None and axes[0] == axes[1]


def _input_embeddings(context, memory_dim, first_only: bool) -> mtf.Tensor:
  """Embeddings of the encoder's input tokens, as seen from the decoder.

  Args:
    context: the decoder's Context.
    memory_dim: the length dimension of the encoder's output.
    first_only: only of the first token of each row.

  Returns:
    [<batch>, d_model] if first_only, else [<batch>, memory_length, d_model]
  """
  embedding = context.shared_params.get("embedding")
  if embedding is None:
    raise errors.UserError(
      'HyperGrid.condition_on = "task_token" gates the decoder by the '
      "embedding of the encoder's first token, so both need one embedding: set "
      "Bitransformer.shared_embedding = True, or gate the encoder alone."
    )
  ids = context.encoder_inputs
  # Beam search passes the ids with their "length" dimension not renamed.
  ids = mtf.reshape(ids, ids.shape.dims[:-1] + [memory_dim])
  if first_only:
    ids = _at_position_zero(ids, memory_dim)
  return embedding.ids_to_embedding(ids, context)


def _at_position_zero(x: mtf.Tensor, length_dim: mtf.Dimension) -> mtf.Tensor:
  """[..., length, ...] -> [..., ...] of position 0."""
  first = mtf.slice(x, 0, 1, length_dim.name)
  return mtf.reshape(first, x.shape - length_dim)


def _selector(sequence_id: mtf.Tensor, memory_id: mtf.Tensor) -> mtf.Tensor:
  """One where a memory position begins the example of a token.

  Args:
    sequence_id: int32 [<batch>, length]; 0 is padding.
    memory_id: int32 [<batch>, memory_length]; 0 is padding.

  Returns:
    [<batch>, length, memory_length], a boolean
  """
  memory_dim = memory_id.shape.dims[-1]
  before = mtf.shift(memory_id, offset=1, dim=memory_dim, wrap=False)
  begins = mtf.logical_and(  # [<batch>, memory_length]
    mtf.not_equal(memory_id, before), mtf.not_equal(memory_id, 0)
  )
  output_shape = mtf.Shape(sequence_id.shape.dims + [memory_dim])
  same = mtf.equal(sequence_id, memory_id, output_shape=output_shape)
  return mtf.logical_and(same, begins, output_shape=output_shape)
