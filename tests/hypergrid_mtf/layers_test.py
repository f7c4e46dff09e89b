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


def _conditions(source, source_ids, token_ids):
  """X of every token: the first source position with the token's id."""
  out = np.full(token_ids.shape + source.shape[-1:], np.nan)
  for b in range(len(token_ids)):
    for t, segment in enumerate(token_ids[b]):
      if segment:
        first = int(np.flatnonzero(source_ids[b] == segment)[0])
        out[b, t] = source[b, first]
  return out


def _orders(variant, packed):
  """The orders that can serve: GG has one gate, whatever is packed."""
  return [
    order
    for order in product.cost.CHOICES
    if order != "weights" or not packed or variant == "GG"
  ]


def _errors(
  variant="L2",
  decoder=False,
  packed=False,
  dtype=mtf_testing.FLOAT32,
  gate="sigmoid",
  gated_kernel="wo",
  activations=("relu",),
  condition_on="first_token",
  rows=ROWS,
  cols=COLS,
  gradients=True,
  orders=None,
  on_tpu=False,
  run=tf.Session.run,
):
  """Builds one layer in every order, runs it, and compares with the oracle.

  Args that are not the layer's: `orders` of contraction, None for all that can
  serve; `on_tpu`, for what the layer does on a TPU; and `run`, a function of a
  session and tensors.

  Returns:
    {order: (largest absolute error of y, of all gradients)}, and the largest
    absolute value of y and of the gradients. Gradients are those of a random
    weighing of y, for the layer's input, what X is taken from, and each
    variable.
  """
  rng = np.random.default_rng(0)
  activation_dtype = dtype.activation_dtype
  x = rng.normal(size=(BATCH, LENGTH, D_MODEL))
  memory = rng.normal(size=(BATCH, MEMORY, D_MODEL))
  embeddings = rng.normal(size=(BATCH, LENGTH, D_MODEL))
  dy = rng.normal(size=x.shape)
  if activation_dtype == tf.bfloat16:  # both sides see the same rounded inputs
    bf16 = tf.bfloat16.as_numpy_dtype
    x, memory, embeddings, dy = (
      v.astype(bf16).astype(float) for v in (x, memory, embeddings, dy)
    )
  ids = SEGMENTS if packed else np.minimum(SEGMENTS, 1)
  memory_ids = MEMORY_SEGMENTS if packed else np.minimum(MEMORY_SEGMENTS, 1)
  dy *= (ids > 0)[..., None]
  with tf.Graph().as_default():
    graph = mtf.Graph()
    mesh = mtf_testing.mesh(graph, on_tpu)
    names = ["batch", "length", "d_model"]
    x_mtf, dy_mtf, embeddings_mtf = (
      mtf_testing.import_array(mesh, v, names, activation_dtype)
      for v in (x, dy, embeddings)
    )
    memory_mtf = mtf_testing.import_array(
      mesh, memory, ["batch", "memory_length", "d_model"], activation_dtype
    )
    id_mtf = mtf_testing.import_array(mesh, ids, names[:2])
    memory_id_mtf = mtf_testing.import_array(
      mesh, memory_ids, ["batch", "memory_length"]
    )
    if not packed:  # as Bitransformer makes them
      id_mtf = mtf.minimum(id_mtf, 1)
      memory_id_mtf = mtf.minimum(memory_id_mtf, 1)
    context = mtf_testing.fake_context(
      mesh,
      x_mtf,
      x_mtf.shape.dims[-1],
      decoder,
      variable_dtype=dtype,
      sequence_id=id_mtf,
      encoder_sequence_id=memory_id_mtf,
      encoder_output=memory_mtf,
    )
    context.input_embeddings = embeddings_mtf
    source_mtf = memory_mtf if decoder else embeddings_mtf
    inputs = [x_mtf, source_mtf]
    ys, grads = {}, {}
    for order in orders or _orders(variant, packed):
      layer = layers.HyperGrid(
        variant=variant,
        grid_rows=rows,
        grid_cols=cols,
        gate=OWN_GATES.get(gate, gate),
        gated_kernel=gated_kernel,
        condition_on=condition_on,
        contraction=order,
        hidden_size=D_FF,
        activation=list(activations),
        dropout_rate=0.5,  # must not act outside training
      )
      with tf.variable_scope("layer", reuse=tf.AUTO_REUSE):
        ys[order] = layer.call(context, x_mtf)
      if gradients:
        wrt = inputs + [v.outputs[0] for v in graph.trainable_variables]
        loss = mtf.reduce_sum(ys[order] * dy_mtf)
        grads[order] = mtf.gradients([loss], wrt)
    variables = [v.name.removeprefix("layer/") for v in graph.all_variables]
    lowering = mtf_testing.lower(graph, mesh)

    def export(t):
      return tf.cast(lowering.export_to_tf_tensor(t), tf.float32)

    ys = {k: export(y) for k, y in ys.items()}
    grads = {
      k: [
        tf.zeros(t.shape.to_integer_list) if g is None else export(g)
        for g, t in zip(gs, wrt, strict=True)
      ]
      for k, gs in grads.items()
    }
    with mtf_testing.session(lowering) as sess:
      params = mtf_testing.random_params(rng, "layer/")
      mtf_testing.set_masters(sess, lowering, params)
      got, got_grads = run(sess, [ys, grads])
  if decoder:
    source, source_ids = memory, memory_ids
  else:
    source, source_ids = embeddings if condition_on == "task_token" else x, ids
  conditions = _conditions(source, source_ids, ids)
  params = {k.removeprefix("layer/"): v for k, v in params.items()}
  short = {k: k.removeprefix("hypergrid/") for k in params}
  params = {short[k]: v for k, v in params.items()}
  config = dict(
    variant=variant,
    rows=1 if variant == "col" else rows,
    cols=1 if variant == "row" else cols,
    gate=gate,
    gated_kernel=gated_kernel,
    gated_kernel_name=(
      "wo"
      if gated_kernel == "wo"
      else ("wi" if len(activations) == 1 else "wi_0")
    ),
    activations=activations,
  )
  want = np.stack(
    [oracle.feed_forward(x[b], conditions[b], params, config) for b in range(3)]
  )
  real = ids > 0
  assert np.isfinite(want[real]).all()
  want_grads = []
  if gradients:
    each = [
      oracle.gradients(x[b], conditions[b], params, config, dy[b])
      for b in range(BATCH)
    ]
    dx = np.stack([e[0] for e in each])
    of_conditions = np.stack([e[1] for e in each])
    dsource = np.zeros_like(source)
    _scatter_conditions(dsource, of_conditions, source_ids, ids)
    if source is x:
      dx += dsource
      dsource = np.zeros_like(embeddings)
    of_params = {k: sum(e[2][k] for e in each) for k in params}
    want_grads = [dx, dsource, *(of_params[short[v]] for v in variables)]
  errors_of = {}
  for order, y in got.items():
    assert np.isfinite(y).all()
    errors_of[order] = (
      np.abs(y - want)[real].max(),
      max(
        (
          np.abs(g - w).max()
          for g, w in zip(got_grads.get(order, []), want_grads, strict=True)
        ),
        default=0,
      ),
    )
  scales = (
    np.abs(want[real]).max(),
    max((np.abs(w).max() for w in want_grads), default=0),
  )
  return errors_of, scales


def _scatter_conditions(dsource, dconditions, source_ids, token_ids):
  """Adds the gradient of each token's X to where X was taken from."""
  for b in range(len(token_ids)):
    for t, segment in enumerate(token_ids[b]):
      if segment:
        first = int(np.flatnonzero(source_ids[b] == segment)[0])
        dsource[b, first] += dconditions[b, t]


def _assert_close(found, scales):
  for order, (error, of_gradients) in found.items():
    assert error < 1e-5, order
    assert of_gradients < 1e-5 * max(scales[1], 1), order


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("variant", gate_lib.VARIANTS)
def test_agrees_with_the_oracle(variant, decoder, packed):
  _assert_close(*_errors(variant, decoder, packed))


@pytest.mark.parametrize("variant", gate_lib.VARIANTS)
def test_bfloat16_agrees_with_the_oracle(variant):
  decoder = variant in ("LG", "row", "GG")  # some of each
  # A ReLU may flip where its input is rounded, which says nothing of the gate.
  found, scales = _errors(
    variant, decoder, dtype=mtf_testing.BFLOAT16, activations=("linear",)
  )
  for order, found_errors in found.items():
    # bfloat16 has 8 bits: kernels, gates, h and sums are each rounded.
    for error, scale in zip(found_errors, scales, strict=True):
      assert error < 0.03 * scale, order


@pytest.mark.parametrize(
  "config",
  [
    {"gate": "two_sigmoid"},
    {"gate": "tanh"},
    {"gate": "tanh", "variant": "row", "packed": True, "decoder": True},
    {"gated_kernel": "wi"},
    {"gated_kernel": "wi", "packed": True, "decoder": True},
    {"activations": ("gelu", "linear")},
    {"activations": ("gelu", "linear"), "gated_kernel": "wi", "packed": True},
    {"condition_on": "task_token"},
    {"condition_on": "task_token", "packed": True},
    {"rows": 1, "cols": 12},
    {"rows": 24, "cols": 1},
    {"rows": 1, "cols": 1, "packed": True},
  ],
  ids=str,
)
def test_other_settings_agree_with_the_oracle(config):
  one = len(config.get("activations", ["relu"])) == 1
  _assert_close(*_errors(**config, gradients=one))


# Gates of two sides, of one, and one for all rows.
@pytest.mark.parametrize(
  ("variant", "packed"),
  [("L2", False), ("L2", True), ("row", False), ("col", True), ("GG", False)],
)
@pytest.mark.parametrize("on_tpu", [False, True])
def test_xla_compiles_every_order(variant, packed, on_tpu):
  orders = [o for o in _orders(variant, packed) if o != "auto"]
  found, scales = _errors(
    variant,
    decoder=packed,  # one of each: the compiler takes most of the time
    packed=packed,
    orders=orders,
    on_tpu=on_tpu,
    run=mtf_testing.run_compiled,
  )
  assert list(found) == orders
  _assert_close(found, scales)


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
  return mtf_testing.fake_context(mesh, x, x.shape.dims[-1], **kwargs), x


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
      lowering = mtf_testing.lower(context.mesh.graph, context.mesh)
      y = lowering.export_to_tf_tensor(y)
      with mtf_testing.session(lowering) as sess:
        mtf_testing.set_masters(sess, lowering, weights)
        outs.append(sess.run(y))
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
    _errors("L2", decoder, packed=True, orders=["weights"])
  assert all(
    w in str(e.value) for w in ("'weights'", "packed", "'rows'", "'cols'")
  )


if __name__ == "__main__":  # python -m tests.hypergrid_mtf.layers_test
  print("largest absolute error against float64: of y, of the gradients")
  for of_variant in gate_lib.VARIANTS:
    for of_decoder in (False, True):
      for of_packed in (False, True):
        for of_dtype in (mtf_testing.FLOAT32, mtf_testing.BFLOAT16):
          bf16 = of_dtype == mtf_testing.BFLOAT16  # where a ReLU may flip
          of_orders, largest = _errors(
            of_variant,
            of_decoder,
            of_packed,
            of_dtype,
            activations=("linear" if bf16 else "relu",),
          )
          print(
            of_variant,
            "decoder" if of_decoder else "encoder",
            "packed" if of_packed else "unpacked",
            of_dtype.activation_dtype.name,
            *(f"{k} {a:.1e} {b:.1e}" for k, (a, b) in of_orders.items()),
            f"(values to {largest[0]:.1f}, {largest[1]:.1f})",
          )
