"""Packed and unpacked sequences of the same examples, in one model."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import dataset as transformer_dataset

from . import decoding_test, mtf_testing

LENGTH, TARGETS = decoding_test.LENGTH, decoding_test.STEPS  # of one example
PACKED_LENGTH, PACKED_TARGETS = 192, 48  # of a packed row


@functools.cache
def _rows(shared_data, count):
  """Real examples, one per sequence, and packed by t5's own packer.

  Args:
    shared_data: the folder of the benchmark files, a pathlib.Path
    count: the number of examples

  Returns:
    {feature: [rows, length]} of both, with the examples in the same order
  """
  texts = decoding_test.real_texts(shared_data, count)
  inputs = [decoding_test.encode(i, LENGTH) for i, _ in texts]
  targets = [decoding_test.encode(t, TARGETS) for _, t in texts]
  plain = {
    "inputs": mtf_testing.pad(inputs, LENGTH),
    "targets": mtf_testing.pad(targets, TARGETS),
  }
  with tf.Graph().as_default(), tf.Session() as sess:
    dataset = transformer_dataset.pack_or_pad(
      tf.data.Dataset.from_tensor_slices(plain),
      {"inputs": PACKED_LENGTH, "targets": PACKED_TARGETS},
      pack=True,
    )
    rows = tf.data.make_one_shot_iterator(dataset.batch(count)).get_next()
    return plain, sess.run(rows)


# Each value of each hyperparameter.
SETTINGS = [
  ("L2", "first_token", "wo"),
  ("LG", "first_token", "wo"),
  ("GL", "task_token", "wi"),
  ("row", "first_token", "wi"),
  ("col", "task_token", "wo"),
  ("GG", "first_token", "wo"),
  ("L2", "task_token", "wi"),
]


@pytest.mark.parametrize(
  ("setting", "contraction"),
  [
    *((setting, None) for setting in SETTINGS),
    (SETTINGS[0], "plain"),
    (SETTINGS[-1], "plain"),
  ],
  ids=str,
)
def test_packing_does_not_change_the_loss_of_a_real_example(
  setting, contraction, shared_data
):
  plain, packed = _rows(shared_data, 50)
  # Between them, every kind of variable.
  wants_gradients = setting in SETTINGS[:2]
  variant, *others = setting
  bindings = decoding_test.bindings(*others, contraction)
  bindings += f"{decoding_test.MICRO}\nnum_layers = 1"
  if wants_gradients:
    # The gradient of a ReLU jumps where rounding moves its input past zero.
    bindings += "\nDenseReluDense.activation = 'gelu'"
  micro = decoding_test.Model(variant, bindings)
  with micro.tf_graph.as_default():
    fetches = {}
    for name, features in (("plain", plain), ("packed", packed)):
      rows, targets_length = features["targets"].shape
      logits, loss = micro.forced(
        rows,
        features["inputs"].shape[1],
        targets_length,
        prefix=f"{name}_",
        packed=name == "packed",
        train=wants_gradients,
      )
      fetches[name] = logits
      if wants_gradients:
        fetches[f"{name} gradients"] = {
          variable: gradient * features["targets"].size
          for variable, gradient in micro.gradients(loss).items()
        }
    with micro.start(fetches) as run:
      values = run(
        **{f"plain_{k}": v for k, v in plain.items()},
        **{f"packed_{k}": v for k, v in packed.items()},
      )
  want = decoding_test.example_losses(values["plain"], plain["targets"])
  got = decoding_test.example_losses(
    values["packed"], packed["targets"], packed["targets_segmentation"]
  )
  assert packed["inputs_segmentation"].max() > 2
  assert len(packed["inputs"]) < len(want) == len(got)
  assert len(np.unique(want.round(4))) == len(want)  # no two alike
  # Relative to the size of the loss where it is large.
  assert (np.abs(got - want) / np.maximum(1, np.abs(want))).max() < 1e-5
  for name, gradient in values.get("plain gradients", {}).items():
    scale = np.abs(gradient).max()
    assert scale > 0, f"no gradient reaches {name}"
    found = values["packed gradients"][name]
    np.testing.assert_allclose(
      found, gradient, rtol=0, atol=2e-4 * scale, err_msg=name
    )


def test_padding_changes_no_loss():
  rows = mtf_testing.random_features({"inputs": 12, "targets": 6})
  wide = {k: np.pad(v, ((0, 0), (0, 5))) for k, v in rows.items()}
  losses = []
  for features in (rows, wide):
    small = mtf_testing.Model(bindings="num_layers = 1")
    with small.tf_graph.as_default():
      given = {k: small.feature(k, *v.shape) for k, v in features.items()}
      logits, _ = small.call(given, train=False)
      with small.start({"logits": logits}) as run:
        (found,) = run(["logits"], **features)
    losses.append(decoding_test.example_losses(found, features["targets"]))
  np.testing.assert_allclose(*losses, rtol=1e-5)
