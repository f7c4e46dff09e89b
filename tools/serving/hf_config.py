"""A T5 of t5's gin files and a `T5Config` of Hugging Face's transformers.

Both name one model in two ways. What transformers can be told is little: sizes,
the activation, and whether the classifier is the embedding. Everything else is
fixed there, so a model of ours is compared with the one that its sizes alone
describe, parameter by parameter, and has to be that one.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import gin
import transformers
from mesh_tensorflow.transformer import transformer, transformer_layers

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import gin_model, trained_model
from tools.experiments import task_gates

# Of mesh_tensorflow, and what transformers calls them: mtf.gelu is that of
# tanh. A gated layer's "gated-gelu" is read as gated by gelu_new, too.
_ACTIVATIONS = {
  ("relu",): "relu",
  ("gelu",): "gelu_new",
  ("swish",): "silu",
  ("gelu", "linear"): "gated-gelu",
  ("relu", "linear"): "gated-relu",
  ("swish", "linear"): "gated-silu",
}
_NAMES = {
  **{name: key for key, name in _ACTIVATIONS.items()},
  "gated-gelu_new": ("gelu", "linear"),
}
_ENCODER = (transformer_layers.SelfAttention, transformer_layers.DenseReluDense)
_DECODER = (
  transformer_layers.SelfAttention,
  transformer_layers.EncDecAttention,
  transformer_layers.DenseReluDense,
)
# mesh_tensorflow has no parameter for it.
_MAX_DISTANCE = 128
VOCAB_DIVISOR = 128


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What there is to say of a T5.

  Attributes:
    vocab: rows of the embedding.
    d_model: as t5 calls it, as the others are.
    d_kv: of a head.
    d_ff: of the feed-forward layer.
    encoder_layers: how many.
    decoder_layers: how many.
    heads: of an attention.
    buckets: of relative positions.
    activation: as mesh_tensorflow calls it, ("gelu", "linear") of T5 1.1.
    tied: whether the embedding is the classifier too, as in T5 1.0.
    dropout: in training.
    epsilon: of the norms.
  """

  vocab: int
  d_model: int
  d_kv: int
  d_ff: int
  encoder_layers: int
  decoder_layers: int
  heads: int
  buckets: int
  activation: tuple[str, ...]
  tied: bool
  dropout: float
  epsilon: float

  def to_config(self, dtype: str) -> transformers.T5Config:
    """As transformers has it.

    Args:
      dtype: of the weights, "float32" or "bfloat16".

    Returns:
      a T5Config
    """
    return transformers.T5Config(
      architectures=["T5ForConditionalGeneration"],
      vocab_size=self.vocab,
      d_model=self.d_model,
      d_kv=self.d_kv,
      d_ff=self.d_ff,
      num_layers=self.encoder_layers,
      num_decoder_layers=self.decoder_layers,
      num_heads=self.heads,
      relative_attention_num_buckets=self.buckets,
      relative_attention_max_distance=_MAX_DISTANCE,
      feed_forward_proj=_ACTIVATIONS[self.activation],
      tie_word_embeddings=self.tied,
      dropout_rate=self.dropout,
      layer_norm_epsilon=self.epsilon,
      decoder_start_token_id=0,
      torch_dtype=dtype,
    )

  def bindings(self, dtype: str = "float32") -> list[str]:
    """As gin bindings on top of t5's `models/t5.1.0.base.gin`.

    Args:
      dtype: of the weights.

    Returns:
      as given to --gin_param
    """
    layers = "transformer.make_layer_stack.num_layers"
    return [
      f"d_model = {self.d_model}",
      f"d_kv = {self.d_kv}",
      f"d_ff = {self.d_ff}",
      f"num_layers = {self.encoder_layers}",
      f"encoder/{layers} = {self.encoder_layers}",
      f"decoder/{layers} = {self.decoder_layers}",
      f"num_heads = {self.heads}",
      f"dropout_rate = {self.dropout}",
      f"SelfAttention.relative_attention_num_buckets = {self.buckets}",
      f"Unitransformer.shared_embedding_and_softmax_weights = {self.tied}",
      f"DenseReluDense.activation = {list(self.activation)!r}"
      if self.activation[1:]
      else f"DenseReluDense.activation = {self.activation[0]!r}",
      f"transformer.sublayer_rms_norm.epsilon = {self.epsilon}",
      f"utils.get_variable_dtype.master_dtype = {dtype!r}",
      "utils.get_variable_dtype.activation_dtype = 'float32'",
    ]


BASE = ("models/t5.1.0.base.gin",)


def of_model(model, where: str) -> Sizes:
  """The sizes of a model of ours, which has to be a T5 of transformers.

  Args:
    model: from `gin_model.build`, of the gin configuration that is bound.
    where: it comes from, for messages.

  Returns:
    them; gin is empty after

  Raises:
    UserError: if transformers has no such model, saying in what it differs.
  """
  sizes = _sizes(model, where)
  ours = trained_model.facts(model), checkpoints.variable_shapes(model)
  with gin_model.configured(BASE, sizes.bindings(), sizes.vocab) as other:
    theirs = trained_model.facts(other), checkpoints.variable_shapes(other)
  differ = trained_model.differences(ours[0], theirs[0])
  if differ:
    place, name, here, there = differ[0]
    of = f" of {place}" if place else ""
    raise _no_t5(where, f"{name}{of} is {here!r}, and {there!r} in that one")
  for name in sorted({*ours[1], *theirs[1]}):
    shapes = [s.get(name) for s in (ours[1], theirs[1])]
    if shapes[0] != shapes[1]:
      here, there = ("absent" if s is None else list(s) for s in shapes)
      raise _no_t5(where, f"the variable {name} is {here}, and {there} there")
  return sizes


def _no_t5(where: str, why: str) -> errors.UserError:
  return errors.UserError(f"{where} is not a T5 of Hugging Face's: {why}.")


def _sizes(model, where: str) -> Sizes:
  """What a model says of itself, if its layers are those of a T5."""
  if not isinstance(model, transformer.Bitransformer):
    raise _no_t5(where, "it has no encoder and decoder")
  if task_gates.gated_layers(model):
    raise errors.UserError(
      f"{where} has HyperGrid layers, which Hugging Face's T5 has not: make a "
      "plain T5 of it for one task with python -m tools.fold, which needs "
      "HyperGrid.condition_on = 'task_token'."
    )
  counts = []
  for stack, kinds in ((model.encoder, _ENCODER), (model.decoder, _DECODER)):
    layers = stack.layer_stack.layers
    for i, layer in enumerate(layers):
      kind = kinds[i % len(kinds)]
      if type(layer) is not kind:
        raise _no_t5(
          where,
          f"{stack.name}/{layer.name} is {type(layer).__name__}, and "
          f"{kind.__name__} there",
        )
    counts.append(len(layers) // len(kinds))
  attention, *_, dense = model.encoder.layer_stack.layers
  facts = trained_model.facts(model)
  epsilon: Any = facts["encoder"].get("sublayer_rms_norm.epsilon", 1e-6)
  given: Any = facts[f"encoder/{dense.name}"]["DenseReluDense.activation"]
  activation = tuple(given)
  if activation not in _ACTIVATIONS:
    raise _no_t5(where, f"DenseReluDense.activation is {list(activation)!r}")
  return Sizes(
    vocab=model.encoder.input_vocab_dim.size,
    d_model=model.encoder.model_dim.size,
    d_kv=attention.key_value_size,
    d_ff=dense.hidden_size,
    encoder_layers=counts[0],
    decoder_layers=counts[1],
    heads=attention.num_heads,
    buckets=attention.relative_attention_num_buckets,
    activation=activation,
    tied=bool(model.decoder.shared_embedding_and_softmax_weights),
    dropout=dense.dropout_rate or 0.0,
    epsilon=epsilon,
  )


def read_json(path: str) -> dict:
  """The object that a file of a model's folder holds.

  Args:
    path: of the file.

  Returns:
    a dict

  Raises:
    UserError: if it cannot be read, or holds anything else.
  """
  try:
    with open(path, encoding="utf-8") as f:
      found = json.load(f)
    if not isinstance(found, dict):
      raise ValueError("it is not an object")
    return found
  except (OSError, ValueError) as e:
    raise errors.UserError(
      f"{path} cannot be read ({errors.sentence(e)}): copy it again."
    ) from None


def of_config(given: Mapping, where: str) -> Sizes:
  """The sizes that a config.json gives.

  Args:
    given: its content.
    where: it comes from, for messages.

  Returns:
    them

  Raises:
    UserError: if it is of another model, or of a T5 that t5 has not.
  """
  kind = given.get("model_type")
  if kind not in ("t5", "mt5"):
    raise errors.UserError(
      f"{where} is of model_type {kind!r}: only 't5' and 'mt5' are T5s."
    )
  try:
    config = transformers.T5Config.from_dict(dict(given))
    tied = bool(config.tie_word_embeddings)
    activation = _NAMES.get(config.feed_forward_proj)
    sizes = Sizes(
      vocab=int(config.vocab_size),
      d_model=int(config.d_model),
      d_kv=int(config.d_kv),
      d_ff=int(config.d_ff),
      encoder_layers=int(config.num_layers),
      decoder_layers=int(config.num_decoder_layers),
      heads=int(config.num_heads),
      buckets=int(config.relative_attention_num_buckets),
      activation=activation or (),
      tied=tied,
      dropout=float(config.dropout_rate),
      epsilon=float(config.layer_norm_epsilon),
    )
  except (TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      f"{where} does not describe a T5: {errors.sentence(e)}"
    ) from None
  if activation is None:
    known = ", ".join(_NAMES)
    raise errors.UserError(
      f"{where} has feed_forward_proj = {config.feed_forward_proj!r}, which is "
      f"not one of mesh_tensorflow's: {known}."
    )
  distance = config.relative_attention_max_distance
  if distance != _MAX_DISTANCE:
    raise errors.UserError(
      f"{where} has relative_attention_max_distance = {distance}, which is "
      f"{_MAX_DISTANCE} in mesh_tensorflow."
    )
  if sizes.vocab % VOCAB_DIVISOR:
    raise errors.UserError(
      f"{where} has vocab_size = {sizes.vocab}, and t5's embeddings have a "
      f"multiple of {VOCAB_DIVISOR} rows."
    )
  return sizes


def gin_text(sizes: Sizes, dtype: str) -> tuple[str, dict]:
  """The operative_config.gin of a model of given sizes, and its variables.

  Args:
    sizes: of the model.
    dtype: of its weights.

  Returns:
    the text and {variable: shape}; gin is empty after
  """
  with gin_model.configured(BASE, sizes.bindings(dtype), sizes.vocab) as model:
    return gin.config_str(), checkpoints.variable_shapes(model)
