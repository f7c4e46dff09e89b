"""The layer against a float64 oracle: variants, stacks, packing, types."""

import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer_layers

from hypergrid_mtf import conditioning, errors, layers, product
from hypergrid_mtf import gate as gate_lib

from . import mtf_testing, oracle

BATCH, LENGTH, MEMORY, D_MODEL, D_FF, ROWS, COLS = 3, 7, 9, 12, 24, 4, 6
# Two examples in row 0, three in row 1, one and no padding in row 2.
SEGMENTS = np.array(
  [[1, 1, 1, 2, 2, 2, 0], [1, 2, 2, 3, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1]],
  np.int32,
)
MEMORY_SEGMENTS = np.array(
  [
    [1, 1, 2, 2, 2, 2, 0, 0, 0],
    [1, 1, 1, 1, 2, 3, 3, 3, 0],
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
  ],
  np.int32,
)
# Gates of a user's own, by their names in the oracle.
OWN_GATES = {"tanh": mtf.tanh}


def _orders(variant, packed):
  """The possible orders: GG has one gate, even if packed."""
  return [
    order
    for order in product.cost.CHOICES
    if order != "weights" or not packed or variant == "GG"
  ]


def _check(
  variant="L2",
  decoder=False,
  packed=False,
  dtype=mtf_testing.FLOAT32,
  tolerance=1e-5,
  gradients=True,
  orders=None,
  on_tpu=False,
  run=tf.Session.run,
  **settings,
):
  """Compares one layer, in every order, with the oracle.

  Gradients are those of a random weighing of y, for the layer's input, what X
  is taken from, and each variable.

  Args:
    variant: of the layer.
    decoder: whether it is one of a decoder.
    packed: whether rows hold several examples.
    dtype: a VariableDType.
    tolerance: largest error, where the largest value is 1.
    gradients: whether they are compared too.
    orders: of contraction; None for all that can serve.
    on_tpu: for what the layer does on a TPU.
    run: as in mtf_testing.evaluate.
    **settings: of the layer.
  """
  config = {
    "variant": variant,
    "grid_rows": ROWS,
    "grid_cols": COLS,
    "gate": "sigmoid",
    "gated_kernel": "wo",
    "condition_on": "first_token",
    "activation": ["relu"],
    **settings,
  }
  rng = np.random.default_rng(0)
  x, memory, embeddings, dy = (
    rng.normal(size=(BATCH, length, D_MODEL))
    for length in (LENGTH, MEMORY, LENGTH, LENGTH)
  )
  if dtype.activation_dtype == tf.bfloat16:  # both sides see the same inputs
    bf16 = tf.bfloat16.as_numpy_dtype
    x, memory, embeddings, dy = (
      v.astype(bf16).astype(float) for v in (x, memory, embeddings, dy)
    )
  ids, memory_ids = SEGMENTS, MEMORY_SEGMENTS
  if not packed:
    ids, memory_ids = np.minimum(ids, 1), np.minimum(memory_ids, 1)
  real = ids > 0
  dy *= real[..., None]

  with tf.Graph().as_default():
    mesh = mtf_testing.mesh(mtf.Graph(), on_tpu)
    names = ["batch", "length", "d_model"]
    memory_names = ["batch", "memory_length", "d_model"]
    x_mtf, dy_mtf, embeddings_mtf, memory_mtf = (
      mtf_testing.import_array(mesh, value, of, dtype.activation_dtype)
      for value, of in (
        *((value, names) for value in (x, dy, embeddings)),
        (memory, memory_names),
      )
    )
    id_mtf = mtf_testing.import_array(mesh, ids, names[:2])
    memory_id_mtf = mtf_testing.import_array(mesh, memory_ids, memory_names[:2])
    if not packed:  # as Bitransformer makes them
      id_mtf = mtf.minimum(id_mtf, 1)
      memory_id_mtf = mtf.minimum(memory_id_mtf, 1)
    context = mtf_testing.fake_context(
      x_mtf,
      decoder,
      variable_dtype=dtype,
      sequence_id=id_mtf,
      encoder_sequence_id=memory_id_mtf,
      encoder_output=memory_mtf,
    )
    context.input_embeddings = embeddings_mtf
    inputs = [x_mtf, memory_mtf if decoder else embeddings_mtf]
    fetches = {}
    for order in orders or _orders(variant, packed):
      gate = OWN_GATES.get(config["gate"], config["gate"])
      layer = layers.HyperGrid(
        **{**config, "gate": gate},
        contraction=order,
        hidden_size=D_FF,
        dropout_rate=0.5,  # must not act outside training
      )
      with tf.variable_scope("layer", reuse=tf.AUTO_REUSE):
        y = layer.call(context, x_mtf)
      fetches[order] = [y]
      if gradients:
        variables = [v.outputs[0] for v in mesh.graph.trainable_variables]
        wrt = [*inputs, *variables]
        found = mtf.gradients([mtf.reduce_sum(y * dy_mtf)], wrt)
        fetches[order] += [
          mtf.zeros_like(t) if g is None else g
          for g, t in zip(found, wrt, strict=True)
        ]
    kernels = [v.name for v in mesh.graph.all_variables]
    values = mtf_testing.random_params(rng, "layer/")
    got = mtf_testing.evaluate(mesh, fetches, values, run)

  short = {k: k.split("/", 1)[1].removeprefix("hypergrid/") for k in values}
  params = {short[k]: value for k, value in values.items()}
  source, source_ids = (memory, memory_ids) if decoder else (x, ids)
  if not decoder and config["condition_on"] == "task_token":
    source = embeddings
  # Each token's X is the first of the source that its example has.
  b, t = np.nonzero(real)
  first = (source_ids[b] == ids[b, t][:, None]).argmax(1)
  conditions = np.full(x.shape, np.nan)
  conditions[b, t] = source[b, first]
  rows = list(zip(x, conditions, dy, strict=True))
  want = [np.stack([oracle.feed_forward(*r[:2], params, config) for r in rows])]
  assert np.isfinite(want[0][real]).all()
  if gradients:
    dx, of_conditions, of_params = zip(
      *(oracle.gradients(*r[:2], params, config, r[2]) for r in rows),
      strict=True,
    )
    dx, dsource = np.stack(dx), np.zeros_like(source)
    np.add.at(dsource, (b, first), np.stack(of_conditions)[b, t])
    if source is x:
      dx, dsource = dx + dsource, np.zeros_like(embeddings)
    want += [dx, dsource]
    want += [sum(of[short[name]] for of in of_params) for name in kernels]
  assert list(got) == (orders or _orders(variant, packed))
  for order, found in got.items():
    assert np.isfinite(found[0]).all()
    for i, (a, w) in enumerate(zip(found, want, strict=True)):
      a, w = (a, w) if i else (a[real], w[real])
      largest = np.abs(w).max()
      atol = tolerance * largest
      np.testing.assert_allclose(a, w, rtol=0, atol=atol, err_msg=order)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("variant", gate_lib.VARIANTS)
def test_agrees_with_the_oracle(variant, decoder, packed):
  _check(variant, decoder, packed)


@pytest.mark.parametrize("variant", gate_lib.VARIANTS)
def test_bfloat16_agrees_with_the_oracle(variant):
  decoder = variant in ("LG", "row", "GG")  # some of each
  # bfloat16 has 8 bits: kernels, gates, h and sums are each rounded. A ReLU may
  # flip where its input is rounded, which has nothing to do with the gate.
  bfloat16 = {"dtype": mtf_testing.BFLOAT16, "tolerance": 0.03}
  _check(variant, decoder, activation=["linear"], **bfloat16)


@pytest.mark.parametrize(
  "config",
  [
    {"gate": "two_sigmoid"},
    {"gate": "tanh"},
    {"gate": "tanh", "variant": "row", "packed": True, "decoder": True},
    {"gated_kernel": "wi"},
    {"gated_kernel": "wi", "packed": True, "decoder": True},
    {"activation": ["gelu", "linear"]},
    {"activation": ["gelu", "linear"], "gated_kernel": "wi", "packed": True},
    {"condition_on": "task_token"},
    {"condition_on": "task_token", "packed": True},
    {"grid_rows": 1, "grid_cols": 12},
    {"grid_rows": 24, "grid_cols": 1},
    {"grid_rows": 1, "grid_cols": 1, "packed": True},
  ],
  ids=str,
)
def test_other_settings_agree_with_the_oracle(config):
  # The oracle has gradients of one factor.
  _check(**config, gradients=len(config.get("activation", "1")) == 1)


# Gates of two sides, of one, and one for all rows.
@pytest.mark.parametrize(
  ("variant", "packed"),
  [("L2", False), ("L2", True), ("row", False), ("col", True), ("GG", False)],
)
@pytest.mark.parametrize("on_tpu", [False, True])
def test_xla_compiles_every_order(variant, packed, on_tpu):
  _check(
    variant,
    decoder=packed,  # one of each: the compiler takes most of the time
    packed=packed,
    orders=[o for o in _orders(variant, packed) if o != "auto"],
    on_tpu=on_tpu,
    run=mtf_testing.run_compiled,
  )


def _shapes(layer):
  """Variables that a layer makes, {name: shape}."""
  with tf.Graph().as_default():
    context, x = _context()
    layer.call(context, x)
    variables = tf.global_variables()
    return {v.op.name: tuple(v.shape.as_list()) for v in variables}


@pytest.mark.parametrize(
  ("activation", "use_bias"), [("relu", False), (["gelu", "linear"], True)]
)
@pytest.mark.parametrize("variant", gate_lib.VARIANTS)
def test_variables_are_vanillas_and_the_formulas(variant, activation, use_bias):
  dense = dict(hidden_size=D_FF, activation=activation, use_bias=use_bias)
  vanilla = _shapes(transformer_layers.DenseReluDense(**dense))
  ours = _shapes(
    layers.HyperGrid(variant=variant, grid_rows=ROWS, grid_cols=COLS, **dense)
  )
  assert {k: v for k, v in ours.items() if k in vanilla} == vanilla
  extra = {k: v for k, v in ours.items() if k not in vanilla}
  assert all(k.startswith("hypergrid/") for k in extra)
  # Written out from the paper's table, not from the code.
  want = {
    "L2": D_MODEL * (ROWS + COLS),
    "LG": D_MODEL * ROWS + COLS,
    "GL": ROWS + D_MODEL * COLS,
    "row": D_MODEL * ROWS,
    "col": D_MODEL * COLS,
    "GG": ROWS + COLS,
  }[variant]
  assert sum(int(np.prod(s)) for s in extra.values()) == want


def test_scope_is_vanillas():
  layer = layers.HyperGrid(hidden_size=D_FF)
  # transformer.sublayer_call_layer opens this scope.
  assert layer.__class__.__name__ == "DenseReluDense"


def _context(x=None, **kwargs):
  """A Context in a graph of its own, and x as its layer's input."""
  if x is None:
    x = np.zeros((1, 2, D_MODEL), np.float32)
  mesh = mtf.Mesh(mtf.Graph(), "mesh")
  x = mtf_testing.import_array(mesh, x, ["batch", "length", "d_model"])
  return mtf_testing.fake_context(x, **kwargs), x


def test_two_sigmoid_starts_at_vanilla():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(2, 5, D_MODEL)).astype(np.float32)
  weights = {
    "wi/kernel": rng.normal(size=(D_MODEL, D_FF)),
    "wo/kernel": rng.normal(size=(D_FF, D_MODEL)),
  }
  outs = []
  for variant in [None, *gate_lib.VARIANTS]:
    layer = transformer_layers.DenseReluDense(hidden_size=D_FF)
    if variant:
      layer = layers.HyperGrid(
        variant=variant,
        gate="two_sigmoid",
        grid_rows=ROWS,
        grid_cols=COLS,
        hidden_size=D_FF,
      )
    with tf.Graph().as_default():
      context, given = _context(x)
      y = layer.call(context, given)
      outs.append(mtf_testing.evaluate(context.mesh, y, weights))
  for out in outs[1:]:
    np.testing.assert_allclose(out, outs[0], rtol=1e-5, atol=1e-4)


def test_a_gate_and_a_product_can_be_handed_in():
  layer = layers.HyperGrid(
    grid_rows=ROWS, grid_cols=COLS, hidden_size=D_FF, gated_kernel="wi"
  )
  made, own = [], []

  def make_gate(context, x, make=layer.make_gate):
    made.append(make(context, x))
    return made[-1]

  def gated_product(h, kernel, gate, order, where):
    own.append((gate, order, where.train, kernel.shape.dims[-1].name))
    return product.gated(h, kernel, gate, order, where)

  layer.make_gate, layer.gated_product = make_gate, gated_product
  with tf.Graph().as_default():
    layer.call(*_context())
  assert own == [(made[0], "auto", False, "d_ff")]


@pytest.mark.parametrize(
  ("kwargs", "words"),
  [
    ({"variant": "LL"}, ["variant", "'LL'", "'L2'"]),
    ({"gate": "tanh"}, ["gate", "'tanh'", "'sigmoid'"]),
    ({"condition_on": "mean"}, ["condition_on", "'mean'", "'first_token'"]),
    ({"gated_kernel": "wx"}, ["gated_kernel", "'wx'", "'wo'"]),
    ({"contraction": "row"}, ["contraction", "'row'", "'rows'", "'auto'"]),
  ],
)
def test_unknown_choices_name_the_known_ones(kwargs, words):
  with pytest.raises(errors.UserError) as e:
    layers.HyperGrid(hidden_size=D_FF, **kwargs)
  assert all(w in str(e.value) for w in words)


@pytest.mark.parametrize(
  ("kwargs", "numbers"),
  [
    ({"grid_rows": 5}, ["5", "24", "d_ff"]),
    ({"grid_cols": 5}, ["5", "12", "d_model"]),
    ({"grid_rows": 0}, ["0", "24"]),
    ({"grid_cols": 2.0}, ["2.0", "12"]),
    ({"gated_kernel": "wi", "grid_rows": 24}, ["24", "12", "d_model"]),
  ],
)
def test_grids_that_do_not_divide_name_both_numbers(kwargs, numbers):
  layer = layers.HyperGrid(
    hidden_size=D_FF, **{"grid_rows": 4, "grid_cols": 4, **kwargs}
  )
  with pytest.raises(errors.UserError) as e:
    layer.check(mtf.Dimension("d_model", D_MODEL))
  assert all(n in str(e.value) for n in numbers)


def test_a_decoder_alone_is_refused():
  with tf.Graph().as_default():
    context, x = _context(decoder=True)
    with pytest.raises(errors.UserError, match="bitransformer"):
      conditioning.find_source(context, x, "first_token")


@pytest.mark.parametrize("decoder", [False, True])
def test_an_order_that_cannot_serve_names_those_that_can(decoder):
  with pytest.raises(errors.UserError) as e:
    _check("L2", decoder, packed=True, orders=["weights"])
  assert all(
    w in str(e.value) for w in ("'weights'", "packed", "'rows'", "'cols'")
  )
