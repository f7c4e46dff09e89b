"""Whole models: vanilla against Hugging Face, padding, gradients, settings."""

import numpy as np
import pytest
import tensorflow as tf2

from . import decoding_test, mtf_testing

LENGTH, TARGETS = 12, 6


def _examples(count, seed=0):
  """Token ids of examples of different lengths; each ends in EOS, 1."""
  rng = np.random.default_rng(seed)
  out = []
  for _ in range(count):
    inputs = rng.integers(3, 60, rng.integers(3, 6))
    targets = rng.integers(3, 60, rng.integers(1, 3))
    out.append((np.append(inputs, 1), np.append(targets, 1)))
  return out


def _unpacked(examples):
  return {
    "inputs": mtf_testing.pad([i for i, _ in examples], LENGTH),
    "targets": mtf_testing.pad([t for _, t in examples], TARGETS),
  }


def _packed(examples):
  """Two examples a row, as t5's packing lays them out."""
  features = {}
  for key, at, length in (("inputs", 0, LENGTH), ("targets", 1, TARGETS)):
    rows, segments, positions = [], [], []
    for pair in zip(examples[::2], examples[1::2], strict=True):
      parts = [example[at] for example in pair]
      rows.append(np.concatenate(parts))
      segments.append(np.repeat([1, 2], [len(p) for p in parts]))
      positions.append(np.concatenate([np.arange(len(p)) for p in parts]))
    features[key] = mtf_testing.pad(rows, length)
    features[f"{key}_segmentation"] = mtf_testing.pad(segments, length)
    features[f"{key}_position"] = mtf_testing.pad(positions, length)
  return features


class _Run:
  """A model on some features: logits, loss and gradients as NumPy."""

  def __init__(
    self, features, layers="L2", bindings="", scale=1.0, gradients=False
  ):
    small = mtf_testing.Model(layers, bindings)
    with small.tf_graph.as_default():
      given = {k: small.feature(k, *v.shape) for k, v in features.items()}
      logits, loss = small.call(given)
      fetches = {"logits": logits, "loss": loss, "gradients": {}}
      if gradients:
        fetches["gradients"] = small.gradients(loss)
      self.weights = small.random_weights(scale=scale)
      with small.start(fetches, scale=scale) as run:
        result = run(**features)
    self.logits = result["logits"]
    self.loss = result["loss"]
    self.gradients = result["gradients"]


def test_recomputed_gradients_are_the_same():
  features = _packed(_examples(4))
  recompute = "transformer.LayerStack.recompute_grads = True"
  a = _Run(features, gradients=True)
  b = _Run(features, bindings=recompute, gradients=True)
  np.testing.assert_allclose(a.loss, b.loss, rtol=1e-6)
  for name, gradient in a.gradients.items():
    np.testing.assert_allclose(
      b.gradients[name],
      gradient,
      atol=1e-5 * np.abs(gradient).max(),
      err_msg=name,
    )


def test_padding_never_changes_a_gate():
  examples = _examples(4)
  a = _unpacked(examples)
  wide = {k: np.pad(v, ((0, 0), (0, 5))) for k, v in a.items()}
  short = _Run(a)
  long = _Run(wide)
  np.testing.assert_allclose(
    decoding_test.example_losses(long.logits, wide["targets"]),
    decoding_test.example_losses(short.logits, a["targets"]),
    rtol=1e-5,
  )


@pytest.mark.parametrize("layers", ["vanilla", "L2"])
def test_gated_gelu_and_encoder_only(layers):
  bindings = "DenseReluDense.activation = ['gelu', 'linear']"
  run = _Run(_unpacked(_examples(2)), layers, bindings)
  names = set(run.weights)
  prefix = "encoder/block_000/layer_001/DenseReluDense/"
  assert {prefix + "wi_0/kernel", prefix + "wi_1/kernel"} <= names
  assert any("/hypergrid/" in n for n in names) == (layers == "L2")
  assert np.isfinite(run.logits).all()


def test_two_sigmoid_with_zero_maps_is_the_vanilla_model():
  features = _unpacked(_examples(4))
  vanilla = _Run(features, "vanilla")
  gated = _Run(features, "L2", "HyperGrid.gate = 'two_sigmoid'", scale=0.0)
  halved = _Run(features, "L2", scale=0.0)
  np.testing.assert_allclose(gated.logits, vanilla.logits, atol=1e-4)
  assert np.abs(halved.logits - vanilla.logits).max() > 0.1


def _hugging_face_logits(weights, features, gated_gelu):
  """The same weights in Hugging Face's TF T5.

  Args:
    weights: {Mesh TensorFlow variable name: value}
    features: inputs and targets
    gated_gelu: T5 1.1's feed-forward layer and untied classifier

  Returns:
    [batch, TARGETS, vocab]
  """
  import transformers

  config = transformers.T5Config(
    vocab_size=mtf_testing.VOCAB_SIZE,
    d_model=16,
    d_kv=8,
    d_ff=32,
    num_layers=2,
    num_decoder_layers=2,
    num_heads=2,
    relative_attention_num_buckets=32,
    dropout_rate=0.0,
    feed_forward_proj="gated-gelu" if gated_gelu else "relu",
    tie_word_embeddings=not gated_gelu,
    decoder_start_token_id=0,
  )
  model = transformers.TFT5ForConditionalGeneration(config)
  inputs = tf2.constant(features["inputs"])
  shifted = np.pad(features["targets"][:, :-1], ((0, 0), (1, 0)))
  arguments = dict(
    input_ids=inputs,
    attention_mask=tf2.cast(inputs > 0, tf2.int32),
    decoder_input_ids=tf2.constant(shifted),
    decoder_attention_mask=tf2.cast(features["targets"] > 0, tf2.int32),
  )
  model(**arguments)  # makes the variables
  values = {}
  for stack in ("encoder", "decoder"):
    for block in range(2):
      ours = f"{stack}/block_{block:03d}"
      theirs = f"{stack}/block_._{block}/layer_._"
      attentions = [("SelfAttention", 0)]
      if stack == "decoder":
        attentions.append(("EncDecAttention", 1))
      feed_forward = len(attentions)
      for kind, at in attentions:
        for letter in "qkvo":
          values[f"{theirs}{at}/{kind}/{letter}/kernel"] = weights[
            f"{ours}/layer_{at:03d}/{kind}/{letter}"
          ]
        if block == 0 and kind == "SelfAttention":
          values[f"{theirs}{at}/{kind}/relative_attention_bias/embeddings"] = (
            weights[f"{ours}/layer_{at:03d}/{kind}/relative_attention_bias"].T
          )
      for kernel in ("wi_0", "wi_1", "wo") if gated_gelu else ("wi", "wo"):
        values[f"{theirs}{feed_forward}/DenseReluDense/{kernel}/kernel"] = (
          weights[
            f"{ours}/layer_{feed_forward:03d}/DenseReluDense/{kernel}/kernel"
          ]
        )
      for at in range(feed_forward + 1):
        values[f"{theirs}{at}/layer_norm/weight"] = weights[
          f"{ours}/layer_{at:03d}/rms_norm/scale"
        ]
    values[f"{stack}/final_layer_norm/weight"] = weights[
      f"{stack}/rms_norm/scale"
    ]
  values["shared/embeddings"] = weights["shared/embedding"]
  if gated_gelu:
    values["lm_head/kernel"] = weights["decoder/logits/kernel"]
  unset = []
  for variable in model.weights:
    name = variable.name.split(":")[0]
    match = [
      k
      for k in values
      if name.endswith("/" + k)
      or name.endswith(k.replace("/embeddings", "/weight"))
    ]
    if len(match) != 1:
      unset.append(name)
      continue
    variable.assign(values[match[0]].reshape(variable.shape))
  assert not unset, f"no value for {unset}"
  return model(**arguments).logits.numpy()


@pytest.mark.parametrize("gated_gelu", [False, True])
def test_vanilla_is_hugging_faces_t5(gated_gelu):
  bindings = (
    "DenseReluDense.activation = ['gelu', 'linear']\n"
    "Unitransformer.shared_embedding_and_softmax_weights = False\n"
    if gated_gelu
    else ""
  )
  features = _unpacked(_examples(4))
  run = _Run(features, "vanilla", bindings)
  want = _hugging_face_logits(run.weights, features, gated_gelu)
  real = features["targets"] > 0
  np.testing.assert_allclose(run.logits[real], want[real], atol=2e-4)
