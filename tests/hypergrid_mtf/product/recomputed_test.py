"""Matrix products of the layer's training step, before and after XLA on a CPU.

The gradient of `rows` makes partial products again, so that they need not be
kept in memory. Products are counted by their multiplications, of which h wo has
one unit. What a TPU's compiler makes of them: tools/dev/tpu_layer_test.py.
"""

import math
import re

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import layers
from tests.hypergrid_mtf import mtf_testing

# Large enough for all products of the gate to be a fraction of one unit.
BATCH, LENGTH, D_MODEL, D_FF, ROWS, COLS = 2, 12, 96, 192, 4, 3
# wi and wo: forward, and the gradients of their inputs and of themselves.
VANILLA = 6


def _products(text: str) -> float:
  """Multiplications in all products of a program, in those of h wo."""
  shapes = dict(re.findall(r"%?([\w.-]+) = \w+\[([\d,]*)\]", text))
  total = 0

  def sizes(name):
    return [int(n) for n in shapes[name].split(",") if n]

  dots = re.findall(
    r"%?([\w.-]+) = \S+ dot\((?:\S+ )?%?([\w.-]+), .*?"
    r"lhs_contracting_dims=\{([\d,]*)\}",
    text,
  )
  for name, left, contracted in dots:
    over = [sizes(left)[int(d)] for d in contracted.split(",") if d]
    total += math.prod(sizes(name)) * math.prod(over)
  return total / (BATCH * LENGTH * D_MODEL * D_FF)


def _programs(order: str, packed: bool) -> list[str]:
  """The training step of a layer as it is given to XLA, and compiled."""
  rng = np.random.default_rng(0)
  names = ["batch", "length", "d_model"]
  shape = BATCH, LENGTH, D_MODEL
  mtf_graph = mtf.Graph()
  with tf.Graph().as_default():
    mesh = mtf.Mesh(mtf_graph, "mesh")
    x, dy = (
      mtf_testing.import_array(mesh, rng.normal(size=shape), names, tf.float32)
      for _ in range(2)
    )
    ids = 1 + np.arange(LENGTH) * np.ones([BATCH, 1]) // 5
    sequence_id: mtf.Tensor | int = 1
    if packed:
      sequence_id = mtf_testing.import_array(
        mesh, ids.astype(np.int32), names[:2]
      )
    context = mtf_testing.fake_context(
      x, sequence_id=sequence_id, mode=tf.estimator.ModeKeys.TRAIN
    )
    layer = layers.HyperGrid(
      grid_rows=ROWS,
      grid_cols=COLS,
      contraction=order,
      hidden_size=D_FF,
      activation="relu",
      dropout_rate=0.0,
    )
    y = layer.call(context, x)
    variables = [v.outputs[0] for v in mtf_graph.trainable_variables]
    results = [y, *mtf.gradients([y], [x, *variables], [dy])]

    def programs(sess, fetches):
      return [
        mtf_testing.compiled(sess, fetches, stage)
        for stage in ("hlo", "optimized_hlo")
      ]

    return mtf_testing.evaluate(mesh, results, run=programs)


@pytest.mark.parametrize(
  ("order", "packed", "made_again"),
  [("plain", True, 0), ("rows", True, 1), ("cols", True, 0)]
  + [("weights", False, 0)],
)
def test_products_of_a_training_step(order, packed, made_again):
  written, compiled = map(_products, _programs(order, packed))
  # The products of the conditioning are the fraction.
  assert VANILLA + made_again < written < VANILLA + made_again + 0.25
  # Control dependencies alone say that it is to be made again: TensorFlow's
  # executor follows them; XLA does not know them, and makes the product once.
  assert VANILLA < compiled < VANILLA + 0.25
