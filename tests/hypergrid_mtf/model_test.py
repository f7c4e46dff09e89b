"""Whole models: padding, gradients, settings."""

import numpy as np
import pytest

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
