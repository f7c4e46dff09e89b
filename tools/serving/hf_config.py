"""Converts between a T5 of gin files and a `T5Config` of transformers.

A `T5Config` has only sizes, the activation, and whether the classifier is the
embedding. Everything else is fixed in transformers, so our model is compared,
parameter by parameter, with the one that its `T5Config` describes, and must be
equal.
"""

import json
from collections.abc import Mapping
from typing import Any

import gin
import transformers

from hypergrid_mtf import checkpoints, errors, layers
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run.checks import training_record

VOCAB_DIVISOR = 128
# Activations of mesh_tensorflow, and their names in transformers: mtf.gelu is
# the tanh version. For a gated layer "gated-gelu" also means gelu_new.
_ACTIVATIONS = {
  ("relu",): "relu",
  ("gelu",): "gelu_new",
  ("swish",): "silu",
  ("gelu", "linear"): "gated-gelu",
  ("relu", "linear"): "gated-relu",
  ("swish", "linear"): "gated-silu",
}
_BY_NAME = {name: activation for activation, name in _ACTIVATIONS.items()}
_BY_NAME["gated-gelu_new"] = ("gelu", "linear")
# What may differ between T5s of both libraries.
_SIZES = dict(
  vocab_size=int,
  d_model=int,
  d_kv=int,
  d_ff=int,
  num_layers=int,
  num_decoder_layers=int,
  num_heads=int,
  relative_attention_num_buckets=int,
  feed_forward_proj=str,
  tie_word_embeddings=bool,
  dropout_rate=float,
  layer_norm_epsilon=float,
)
# Other settings of transformers that change results; t5 has only the value of
# its own T5.
_FIXED = (
  "decoder_start_token_id",
  "dense_act_fn",
  "eos_token_id",
  "is_encoder_decoder",
  "is_gated_act",
  "pad_token_id",
  "pruned_heads",
  "relative_attention_max_distance",
  "scale_decoder_outputs",
  "tie_encoder_decoder",
)
_BASE = "models/t5.1.0.base.gin"
_BINDINGS = """\
d_model = {d_model}
d_kv = {d_kv}
d_ff = {d_ff}
num_layers = {num_layers}
encoder/transformer.make_layer_stack.num_layers = {num_layers}
decoder/transformer.make_layer_stack.num_layers = {num_decoder_layers}
num_heads = {num_heads}
dropout_rate = {dropout_rate}
SelfAttention.relative_attention_num_buckets = {relative_attention_num_buckets}
Unitransformer.shared_embedding_and_softmax_weights = {tie_word_embeddings}
DenseReluDense.activation = {activation!r}
transformer.sublayer_rms_norm.epsilon = {layer_norm_epsilon}
utils.get_variable_dtype.master_dtype = {dtype!r}
utils.get_variable_dtype.activation_dtype = 'float32'
"""


def _make(dtype: str, sizes: dict) -> transformers.T5Config:
  return transformers.T5Config(
    architectures=["T5ForConditionalGeneration"],
    torch_dtype=dtype,
    relative_attention_max_distance=128,
    decoder_start_token_id=0,
    **sizes,
  )


def _configured(config: transformers.T5Config, dtype: str):
  """Within this context, our model of a T5Config, which gin has bound."""
  activation = list(_BY_NAME[config.feed_forward_proj])
  text = _BINDINGS.format_map(
    {
      **config.to_dict(),
      "activation": activation if activation[1:] else activation[0],
      "dtype": dtype,
    }
  )
  return model_lib.configured([_BASE], text.splitlines(), config.vocab_size)


def of_model(model, where: str, dtype: str) -> transformers.T5Config:
  """The T5Config of our model.

  Returns:
    the T5Config; gin is empty afterwards

  Raises:
    UserError: if transformers has no such model; says what differs.
  """
  for layer, _ in layers.own_layers(model):
    name = type(layer).__module__.rpartition(".")[-1]
    if name == "layers":
      name, needs = "HyperGrid", "HyperGrid.condition_on = 'task_token'"
    else:
      needs = "HyperGrid or ia3"
    raise errors.UserError(
      f"{where} has {name} layers, which Hugging Face's T5 does not have: "
      "fold it into a plain T5 for one task with python -m tools.fold, which "
      f"needs {needs}."
    )
  facts = training_record.facts(model)
  shapes = checkpoints.variable_shapes(model)
  config = _make(dtype, _sizes_of(model, facts, where))
  with _configured(config, "float32") as other:
    facts_there = training_record.facts(other)
    shapes_there = checkpoints.variable_shapes(other)
  for place, name, here, there in training_record.differences(
    facts, facts_there
  ):
    of = f" of {place}" if place else ""
    raise _no_t5(where, f"{name}{of} is {here!r}, but {there!r} there")
  for name in sorted({*shapes, *shapes_there}):
    here, there = (s.get(name, "absent") for s in (shapes, shapes_there))
    if here != there:
      raise _no_t5(where, f"the variable {name} is {here}, but {there} there")
  return config


def _no_t5(where: str, why: str) -> errors.UserError:
  return errors.UserError(f"{where} is not a Hugging Face T5: {why}.")


def _sizes_of(model, facts: training_record.Facts, where: str) -> dict:
  """A model's settings under transformers' names."""
  encoder, decoder = model.encoder, model.decoder
  try:
    attention, *_, dense = encoder.layer_stack.layers
    given: Any = facts[f"encoder/{dense.name}"]["DenseReluDense.activation"]
    sizes = dict(
      vocab_size=encoder.input_vocab_dim.size,
      d_model=encoder.model_dim.size,
      d_kv=attention.key_value_size,
      d_ff=dense.hidden_size,
      num_layers=len(encoder.layer_stack.layers) // 2,
      num_decoder_layers=len(decoder.layer_stack.layers) // 3,
      num_heads=attention.num_heads,
      relative_attention_num_buckets=attention.relative_attention_num_buckets,
      tie_word_embeddings=bool(decoder.shared_embedding_and_softmax_weights),
      dropout_rate=dense.dropout_rate or 0.0,
      layer_norm_epsilon=facts["encoder"].get(
        "sublayer_rms_norm.epsilon", 1e-6
      ),
    )
  except (AttributeError, KeyError, ValueError):
    raise _no_t5(where, "it has layers that T5 does not have") from None
  if tuple(given) not in _ACTIVATIONS:
    raise _no_t5(where, f"DenseReluDense.activation is {given!r}")
  return {**sizes, "feed_forward_proj": _ACTIVATIONS[tuple(given)]}


def read_json(path: str) -> dict:
  """The JSON object in a file; raises UserError if there is none."""
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


def of_json(given: Mapping, where: str, dtype: str) -> transformers.T5Config:
  """The T5Config in a config.json.

  Raises:
    UserError: if it is of another model, or of a T5 that t5 does not have.
  """
  kind = given.get("model_type")
  if kind not in ("t5", "mt5"):
    raise errors.UserError(
      f"{where} is of model_type {kind!r}: only 't5' and 'mt5' are T5s."
    )
  try:
    config = transformers.T5Config.from_dict(dict(given))
    sizes = {name: to(getattr(config, name)) for name, to in _SIZES.items()}
  except (TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      f"{where} does not describe a T5: {errors.sentence(e)}"
    ) from None
  activation = sizes["feed_forward_proj"]
  if activation not in _BY_NAME:
    raise errors.UserError(
      f"{where} has feed_forward_proj = {activation!r}, which is not one of "
      f"mesh_tensorflow's: {', '.join(_BY_NAME)}."
    )
  if sizes["vocab_size"] % VOCAB_DIVISOR:
    raise errors.UserError(
      f"{where} has vocab_size = {sizes['vocab_size']}, but in t5 it must be a "
      f"multiple of {VOCAB_DIVISOR}."
    )
  sizes["feed_forward_proj"] = _ACTIVATIONS[_BY_NAME[activation]]
  made = _make(dtype, sizes)
  fixed = {**made.to_dict(), "scale_decoder_outputs": made.tie_word_embeddings}
  for name in _FIXED:
    if given.get(name) not in (None, fixed[name]):
      raise errors.UserError(
        f"{where} has {name} = {given[name]!r}, which is {fixed[name]!r} in t5."
      )
  return made


def gin_text(config: transformers.T5Config, dtype: str) -> tuple[str, dict]:
  """The operative_config.gin of a model, and {variable: shape}."""
  with _configured(config, dtype) as model:
    return gin.config_str(), checkpoints.variable_shapes(model)
