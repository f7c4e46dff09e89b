"""Whole small models of the peers: packing, padding, decoding, refusals."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import dataset as transformer_dataset
from scipy import special

from hypergrid_mtf.peers import adapter, hyperprompt  # noqa: F401  (for gin)
from tests.hypergrid_mtf import decoding_test, mtf_testing
from tools.cost import models

INPUTS, TARGETS, STEPS, COUNT, TASKS = 9, 5, 4, 12, 3
SETTINGS = (
  f"num_tasks.count = {TASKS}\n"
  + """
Adapter.bottleneck = 4
Adapter.embedding_size = 4
Adapter.hidden_size = 8
HyperPrompt.prompt_length = 2
HyperPrompt.bottleneck = 4
HyperPrompt.embedding_size = 8
# A ReLU's gradient jumps where rounding moves its input past zero.
DenseReluDense.activation = 'gelu'
"""
)


def _rows():
  """Examples of three tasks, one a row and packed by t5, {feature: ids}."""
  rng = np.random.default_rng(0)
  examples = {"inputs": [], "targets": []}
  for i in range(COUNT):
    for name, longest in (("inputs", INPUTS), ("targets", TARGETS)):
      row = rng.integers(2, 60, rng.integers(3, longest + 1))
      if name == "inputs":
        row[0] = mtf_testing.VOCAB_SIZE - 1 - i % TASKS
      examples[name].append(row)
  plain = {
    "inputs": mtf_testing.pad(examples["inputs"], INPUTS),
    "targets": mtf_testing.pad(examples["targets"], TARGETS),
  }
  with tf.Graph().as_default(), tf.Session() as sess:
    dataset = transformer_dataset.pack_or_pad(
      tf.data.Dataset.from_tensor_slices(plain),
      {"inputs": 3 * INPUTS, "targets": 3 * TARGETS},
      pack=True,
    )
    rows = tf.data.make_one_shot_iterator(dataset.batch(COUNT)).get_next()
    return plain, sess.run(rows)


@pytest.mark.parametrize(
  "peer",
  [
    # Its paths are those of "sep".
    pytest.param(p, marks=pytest.mark.slow) if p == "hyperprompt_share" else p
    for p in models.PEERS
  ],
)
def test_packing_padding_and_decoding_are_exact(peer):
  plain, packed = _rows()
  wide = {k: np.pad(v, ((0, 0), (0, 3))) for k, v in plain.items()}
  # What blocks share needs two of them.
  blocks = 2 if peer == "hyperformer" else 1
  small = decoding_test.Model(
    f"peers/{peer}",
    f"{SETTINGS}num_layers = {blocks}",
    mtf_testing.VOCAB_SIZE,
  )
  fetches = {}
  with small.tf_graph.as_default():
    for name, rows in (("plain", plain), ("packed", packed), ("wide", wide)):
      train = name != "wide"
      logits, loss = small.forced(
        *(len(rows["inputs"]), rows["inputs"].shape[1]),
        rows["targets"].shape[1],
        f"{name}_",
        name == "packed",
        train,
      )
      fetches[name] = logits
      if train:
        fetches[f"{name} gradients"] = {
          variable: gradient * rows["targets"].size
          for variable, gradient in small.gradients(loss).items()
        }
    shape = COUNT, INPUTS, STEPS
    fetches["greedy"] = small.decode_with_logits(*shape)[:2]
    fetches["beams"] = small.beam_search(*shape, 3, 0.0, 0)[1:]
    fetches["forced"], _ = small.forced(*shape, "forced_")
    names = [n for n in fetches if n != "forced"]
    with small.start(fetches) as run:
      values = run(
        names,
        inputs=plain["inputs"],
        **{
          f"{name}_{k}": v
          for name, rows in (
            ("plain", plain),
            ("packed", packed),
            ("wide", wide),
          )
          for k, v in rows.items()
        },
      )
      values = dict(zip(names, values, strict=True))
      forced = []
      for targets in (values["greedy"][0], values["beams"][0][:, 0]):
        forced += run(
          ["forced"], forced_inputs=plain["inputs"], forced_targets=targets
        )
  # Rows of one example, packed rows and rows with more padding.
  want = decoding_test.example_losses(values["plain"], plain["targets"])
  assert len(np.unique(want.round(3))) == COUNT
  assert packed["inputs_segmentation"].max() > 1
  for losses in (
    decoding_test.example_losses(
      values["packed"], packed["targets"], packed["targets_segmentation"]
    ),
    decoding_test.example_losses(values["wide"], wide["targets"]),
  ):
    np.testing.assert_allclose(losses, want, rtol=1e-5)
  for name, gradient in values["plain gradients"].items():
    largest = np.abs(gradient).max()
    assert largest > 0, f"no gradient reaches {name}"
    error = np.abs(values["packed gradients"][name] - gradient).max()
    # float32 through two blocks: 2.9e-4 on a CPU without AVX-512.
    assert error < 1e-3 * largest, name
  # Every step of decoding, and the best of three beams.
  ids, logits = values["greedy"]
  np.testing.assert_allclose(logits, forced[0], rtol=0, atol=1e-4)
  np.testing.assert_array_equal(ids, forced[0].argmax(-1))
  beams, scores = (v[:, 0] for v in values["beams"])
  found = special.log_softmax(forced[1], axis=-1)
  found = np.take_along_axis(found, beams[..., None], -1)[..., 0]
  ended = np.cumsum(beams == decoding_test.EOS, axis=-1)
  found *= ended - (beams == decoding_test.EOS) == 0
  np.testing.assert_allclose(scores, found.sum(-1), rtol=0, atol=1e-4)
