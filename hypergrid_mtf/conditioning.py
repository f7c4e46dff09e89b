"""Finds the conditioning vector X of every token in a Context.

X is a vector of the first token of a token's own example: T5 inputs begin with
the task's prefix, so the first token identifies the task. In the decoder it is
the encoder's first token, because the decoder's own first token is the same
start symbol for every task.

A sequence of the batch is one example (one X per sequence), or several packed
ones (each token finds its example's first token by its sequence id).
"""

import dataclasses

import mesh_tensorflow as mtf

from hypergrid_mtf import errors

CONDITION_ON = ("first_token", "task_token")


@dataclasses.dataclass(frozen=True)
class FirstTokens:
  """Candidates for X, and which one each token uses.

  Attributes:
    x: [<batch>, d_model], one example per sequence; or, with `selector`,
      [<batch>, memory_length, d_model].
    selector: None, or a boolean [<batch>, length, memory_length], true where
      the memory position is the first token of the token's own example. Padding
      selects nothing.
  """

  x: mtf.Tensor
  selector: mtf.Tensor | None = None

  def to_tokens(self, vectors: mtf.Tensor) -> mtf.Tensor:
    """Maps vectors made from `x`, [..., cells], to the tokens they belong to.

    Returns:
      [<batch>, cells], or [<batch>, length, cells] with a selector.
    """
    if self.selector is None:
      return vectors
    return mtf.einsum(
      [mtf.cast(self.selector, vectors.dtype), vectors],
      reduced_dims=[self.selector.shape.dims[-1]],
    )


def is_known_unpacked(sequence_id) -> bool:
  """Whether each sequence is known to be one example when the graph is built.

  A packed data set has its own segment ids; without them, `Bitransformer` uses
  `minimum(inputs, 1)`, and decoding passes the integer 1. Anything else is
  treated as packed, which is correct for both, only slower.

  Args:
    sequence_id: as in `transformer.Context`: a Tensor, an integer or None.
  """
  if not isinstance(sequence_id, mtf.Tensor):
    return True
  operation = sequence_id.operation
  while isinstance(operation, mtf.ops.ReshapeOperation):
    operation = operation.inputs[0].operation
  return isinstance(operation, mtf.ops.MinMaxOperation)


def find_source(context, x: mtf.Tensor, condition_on: str) -> mtf.Tensor:
  """The vectors that contain X, for a layer of an encoder or of a decoder.

  Args:
    context: a transformer.Context, not of an "incremental" decoding step.
    x: the layer's input, [<batch>, length, d_model].
    condition_on: one of CONDITION_ON.

  Returns:
    [<batch>, length or memory_length, d_model], or X itself, [<batch>, d_model]

  Raises:
    UserError: for a model without an encoder, or if the decoder cannot use the
      encoder's token embeddings.
  """
  if not context.model.autoregressive:
    return context.input_embeddings if condition_on == "task_token" else x
  if context.encoder_output is None:
    raise errors.UserError(
      "HyperGrid takes its conditioning vector from an encoder, and this model "
      'has only a decoder: use run.model_type = "bitransformer".'
    )
  if condition_on == "first_token":
    return context.encoder_output
  embedding = context.shared_params.get("embedding")
  if embedding is None:
    raise errors.UserError(
      'HyperGrid.condition_on = "task_token" gates the decoder by the '
      "embedding of the encoder's first token, so both must share one "
      "embedding: set Bitransformer.shared_embedding = True, or gate only the "
      "encoder."
    )
  ids, memory_dim = context.encoder_inputs, context.encoder_length_dim
  # Beam search passes the ids without renaming their "length" dimension.
  ids = mtf.reshape(ids, ids.shape.dims[:-1] + [memory_dim])
  if is_known_unpacked(context.encoder_sequence_id):
    ids = _at_position_zero(ids, memory_dim)
  return embedding.ids_to_embedding(ids, context)


def first_tokens(context, source: mtf.Tensor) -> FirstTokens:
  """Finds each token's X among the vectors of `find_source`."""
  if context.model.autoregressive:
    memory_id, memory_dim = (
      context.encoder_sequence_id,
      context.encoder_length_dim,
    )
  else:
    memory_id, memory_dim = context.sequence_id, context.length_dim
  if is_known_unpacked(memory_id):
    return FirstTokens(_at_position_zero(source, memory_dim))
  if not context.model.autoregressive:
    length_dim = context.length_dim
    memory_dim = mtf.Dimension("memory_length", length_dim.size)
    source = mtf.replace_dimensions(source, length_dim, memory_dim)
    memory_id = mtf.replace_dimensions(memory_id, length_dim, memory_dim)
  return FirstTokens(source, _selector(context.sequence_id, memory_id))


def _at_position_zero(x: mtf.Tensor, length_dim: mtf.Dimension) -> mtf.Tensor:
  """[..., length, ...] -> [..., ...] of position 0, if there are positions."""
  if length_dim not in x.shape.dims:
    return x
  first = mtf.slice(x, 0, 1, length_dim.name)
  return mtf.reshape(first, x.shape - length_dim)


def _selector(sequence_id: mtf.Tensor, memory_id: mtf.Tensor) -> mtf.Tensor:
  """True where a memory position is the first token of a token's example.

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


def task_of_tokens(
  context, tasks: mtf.Dimension, keep: bool = True
) -> mtf.Tensor:
  """The task of each token, from its example's task token.

  The inputs of task k begin with the id `vocab_size - 1 - k` (see
  `t5_tasks.task_tokens`). Decoding computes it once, so each layer must call
  this once.

  Args:
    context: a transformer.Context.
    tasks: one for each task token.
    keep: records it for decoding; False if a layer records something else.

  Returns:
    one-hot [<batch>, (length,) tasks] in the activations' type; zeros if the
    example begins with another id, and for padding in packed sequences
  """
  if context.mode == "incremental":
    return context.get_constant_state()
  first = first_tokens(context, _task_of_first(context, tasks))
  task = first.to_tokens(first.x)
  if keep and context.mode == "first_part":
    context.record_constant_state(task)
  return task


def task_of_memory(context, tasks: mtf.Dimension) -> mtf.Tensor:
  """The task of each encoder token that the decoder attends to.

  Returns:
    [<batch>, (memory_length,) tasks]
  """
  source = _task_of_first(context, tasks)
  memory_id, memory_dim = (
    context.encoder_sequence_id,
    context.encoder_length_dim,
  )
  if is_known_unpacked(memory_id):
    return _at_position_zero(source, memory_dim)
  firsts_dim = mtf.Dimension("first_length", memory_dim.size)
  first_id = mtf.replace_dimensions(memory_id, memory_dim, firsts_dim)
  source = mtf.replace_dimensions(source, memory_dim, firsts_dim)
  return FirstTokens(source, _selector(memory_id, first_id)).to_tokens(source)


def _task_of_first(context, tasks: mtf.Dimension) -> mtf.Tensor:
  """One-hot tasks of all input ids; zeros for ids without a task."""
  ids, length_dim = context.inputs, context.length_dim
  if context.model.autoregressive:
    ids, length_dim = context.encoder_inputs, context.encoder_length_dim
    # Beam search passes the ids with their "length" dimension not renamed.
    ids = mtf.reshape(ids, ids.shape.dims[:-1] + [length_dim])
  task = context.model.input_vocab_size_unpadded - 1 - ids
  return mtf.one_hot(task, tasks, dtype=context.activation_dtype)
