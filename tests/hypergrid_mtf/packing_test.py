"""Packed and unpacked rows of the same examples, through one model.

`python -m tests.hypergrid_mtf.packing_test` prints the figures for all
settings.
"""

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
  """Real examples, one a row, and several a row by t5's own packer.

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


def _losses(setting, plain, packed, contraction=None, wants_gradients=False):
  """The loss of each example, unpacked and packed.

  Args:
    setting: as decoding_test.SETTINGS
    plain: as from _rows
    packed: as from _rows
    contraction: of HyperGrid; None: as the gin files have it
    wants_gradients: whether to return those of the summed losses too

  Returns:
    losses [examples] of both, and {variable: gradient} of both
  """
  variant, *others = setting
  bindings = decoding_test.MICRO + decoding_test.bindings(*others, contraction)
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
        fetches |= {
          f"{name} {variable}": gradient * features["targets"].size
          for variable, gradient in micro.gradients(loss).items()
        }
    with micro.start(fetches) as run:
      values = run(
        **{f"plain_{k}": v for k, v in plain.items()},
        **{f"packed_{k}": v for k, v in packed.items()},
      )
  gradients = [
    {
      key.removeprefix(name): value
      for key, value in values.items()
      if key.startswith(name)
    }
    for name in ("plain ", "packed ")
  ]
  return (
    decoding_test.example_losses(values["plain"], plain["targets"]),
    decoding_test.example_losses(
      values["packed"], packed["targets"], packed["targets_segmentation"]
    ),
    gradients,
  )


def _relative_errors(got, want):
  """Differences, where large relative to the size of the loss."""
  return np.abs(got - want) / np.maximum(1, np.abs(want))


# Each value of each hyperparameter; the program below has all combinations.
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
  setting, contraction, shared_data, record_property
):
  plain, packed = _rows(shared_data, 50)
  # Between them, every kind of variable.
  wants_gradients = setting in SETTINGS[:2]
  want, got, (plain_gradients, packed_gradients) = _losses(
    setting, plain, packed, contraction, wants_gradients
  )
  assert packed["inputs_segmentation"].max() > 2
  assert len(packed["inputs"]) < len(want) == len(got)
  assert len(np.unique(want.round(4))) == len(want)  # no two alike
  record_property("largest error", float(_relative_errors(got, want).max()))
  assert _relative_errors(got, want).max() < 1e-5
  for name, gradient in plain_gradients.items():
    scale = np.abs(gradient).max()
    assert scale > 0, f"no gradient reaches {name}"
    np.testing.assert_allclose(
      packed_gradients[name], gradient, rtol=0, atol=2e-4 * scale, err_msg=name
    )


def main():
  """Prints the figures of the closing note."""
  count = 200
  shared_data = decoding_test.shared_data_folder()
  plain, packed = _rows(shared_data, count)
  per_row = packed["inputs_segmentation"].max(-1)
  print(
    f"{count} real examples in {len(per_row)} packed rows of {PACKED_LENGTH} "
    f"(at most {per_row.max()} a row): largest difference of an example's loss,"
    " absolute and relative"
  )
  for setting in decoding_test.ALL_SETTINGS:
    want, got, _ = _losses(setting, plain, packed)
    print(
      *setting,
      f"{np.abs(got - want).max():.1e} of {np.abs(want).max():.0f}",
      f"{_relative_errors(got, want).max():.1e}",
      flush=True,
    )


if __name__ == "__main__":  # python -m tests.hypergrid_mtf.packing_test
  main()
