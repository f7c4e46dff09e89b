"""An exported model beside Mesh TensorFlow's own graphs of fixed sizes."""

import json

import gin
import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow as tf
from mesh_tensorflow import placement_mesh_impl
from mesh_tensorflow.transformer import utils
from tensorflow.core.protobuf import saved_model_pb2

import t5_tasks
from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import gin_model
from t5_tasks import embedded
from tests import program
from tools.serving import (
  decoding,
  export_folder,
  gated_product,
  record,
  text_model,
  trained,
  weights,
)

INPUTS, OUTPUTS = 24, 6
TEXTS = ["copy: abc", "reverse: abcdefgh", "", "rot: " + "z" * 60, "sort: ba"]
VOCABULARY = embedded.OUTPUT_FEATURES["inputs"].vocabulary


def write_model(folder, variant="L2", mixture="embedded_v1", *bindings):
  """A model_dir with a configuration and a checkpoint of random weights."""
  files = ["models/nano.gin", f"hypergrid/{variant}.gin"]
  gin_model.bind(
    [*files, "experiments/embedded.gin"],
    [f"MIXTURE_NAME = {mixture!r}", *bindings],
  )
  (folder / "operative_config.gin").write_text(gin.config_str())
  known = t5_tasks.mixtures.get_mixture_or_task(mixture)
  shapes = checkpoints.variable_shapes(gin_model.of_mixture(known))
  rng = np.random.default_rng(0)
  values = {n: rng.normal(size=s).astype("float32") for n, s in shapes.items()}
  weights.write(str(folder), 7, values)
  gin.clear_config()
  return str(folder)


def ids_of(texts, length):
  """[N, length], as `utils.encode_inputs` makes them."""
  return utils.encode_inputs(texts, VOCABULARY, "bitransformer", 1, length)


def lowered(source, function, **features):
  """A function of mtf tensors in a graph of fixed sizes, and run."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "fixed")
    given = {
      name: mtf.import_fully_replicated(
        mesh,
        tf.constant(ids),
        mtf.Shape(
          [
            mtf.Dimension("batch", ids.shape[0]),
            mtf.Dimension("length", ids.shape[1]),
          ]
        ),
      )
      for name, ids in features.items()
    }
    output = mtf.anonymize(function(**given))
    impl = placement_mesh_impl.PlacementMeshImpl(
      mtf.Shape([]), mtf.LayoutRules([]), [""]
    )
    lowering = mtf.Lowering(graph, {mesh: impl}, autostack=False)
    found = lowering.export_to_tf_tensor(output)
    for variable in tf.compat.v1.global_variables():
      value = source.weights[variable.op.name]
      sess.run(tf.compat.v1.assign(variable, tf.constant(value)))
    return sess.run(found)


def decoded(source, texts, **how):
  """Answers of `Bitransformer.decode`, as texts."""
  ids = lowered(
    source,
    lambda inputs: source.model.decode(
      inputs,
      variable_dtype=mtf.VariableDType(tf.float32),
      max_decode_length=OUTPUTS,
      **how,
    ),
    inputs=ids_of(texts, INPUTS),
  )
  clean = utils.clean_decodes(tf.constant(ids))
  return VOCABULARY.decode_tf(clean).numpy().tolist()


def scored(source, texts, targets):
  """Log-likelihoods of targets, from the logits of `call_simple`."""
  wanted = ids_of(targets, OUTPUTS)
  logits = lowered(
    source,
    lambda inputs, targets: source.model.call_simple(
      inputs, targets, compute_loss=False, mode="score"
    )[0],
    inputs=ids_of(texts, INPUTS),
    targets=wanted,
  )
  logits -= np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
  each = np.take_along_axis(logits, wanted[..., None], axis=-1)[..., 0]
  return np.sum(each * (wanted > 0), axis=-1)


def _made(source, **how):
  """A model that answers."""
  asked = decoding.Decoding(max_tokens=OUTPUTS, **how)
  options = text_model.Options(INPUTS, OUTPUTS, asked)
  return text_model.TextModel(source, options, [text_model.ANSWER])


def _answers(made, texts):
  found = made.functions[text_model.ANSWER](tf.constant(texts))
  return {name: value.numpy() for name, value in found.items()}


def test_a_saved_model_answers_and_scores(model_dir, saved_model, monkeypatch):
  """From the command to a loaded SavedModel, for several sizes of a batch."""
  output_dir = saved_model
  loaded = tf.saved_model.load(str(output_dir / "7"))
  answer = loaded.signatures["serving_default"]
  score = loaded.signatures["score"]
  found = answer(inputs=tf.constant(TEXTS))
  with trained.opened(model_dir) as source:
    assert found["outputs"].numpy().tolist() == decoded(source, TEXTS)
    targets = ["abc", "x", "", "abcdefghijkl", "ab"]
    scores = score(inputs=tf.constant(TEXTS), targets=tf.constant(targets))
    expected = scored(source, TEXTS, targets)
    np.testing.assert_allclose(scores["scores"], expected, atol=1e-4)
  assert found["inputs_cut"].numpy().tolist() == [0, 0, 0, 1, 0]
  assert scores["targets_cut"].numpy().tolist() == [0, 0, 0, 1, 0]
  assert found["outputs"].shape == found["scores"].shape == (len(TEXTS),)
  alone = [answer(inputs=tf.constant([text])) for text in TEXTS]
  for i, one in enumerate(alone):
    assert one["outputs"].numpy()[0] == found["outputs"].numpy()[i]
    np.testing.assert_allclose(
      one["scores"][0], found["scores"][i], rtol=1e-5, atol=1e-5
    )
  none = answer(inputs=tf.constant([], tf.string))
  assert none["outputs"].shape == none["scores"].shape == (0,)
  # Beside it, what a client must know.
  content = json.loads((output_dir / "7" / record.NAME).read_text())
  assert content["tasks"]["embedded_rot_v1"]["prefix"] == "rot: "
  assert content["limits"] == {"inputs": 24, "targets": 6, "outputs": 6}
  assert content["step"] == 7 and content["vocabulary"]["inputs"]["ids"] > 256
  config = (output_dir / export_folder.CONFIG).read_text()
  assert f'base_path: "{output_dir}"' in config and 'name: "saved"' in config
  request = json.loads((output_dir / export_folder.REQUEST).read_text())
  signature = request["signature_name"]
  rows = tf.constant(request["inputs"]["inputs"])
  assert loaded.signatures[signature](inputs=rows)["outputs"].shape == (1,)
  given = [f"--model_dir={model_dir}", f"--output_dir={output_dir}"]
  with pytest.raises(errors.UserError, match="is there already"):
    program.run("tools.export", given, monkeypatch)


def test_a_loop_reads_no_variable(saved_model):
  """A look-up in a variable has it copied whenever it is read."""
  content = saved_model_pb2.SavedModel()
  path = saved_model / "7" / "saved_model.pb"
  content.ParseFromString(path.read_bytes())
  functions = content.meta_graphs[0].graph_def.library.function
  ops = {f.signature.name: [n.op for n in f.node_def] for f in functions}
  loops = [ops[name] for name in ops if "while_body" in name]
  assert loops and not any("ReadVariableOp" in found for found in loops)
  assert any("ReadVariableOp" in found for found in ops.values())
  assert not any("ResourceGather" in found for found in ops.values())


def test_beams_are_those_of_t5(model_dir):
  with trained.opened(model_dir) as source:
    made = _made(source, beam_size=4)
    found = _answers(made, TEXTS)
    assert found["outputs"].tolist() == decoded(source, TEXTS, beam_size=4)


@pytest.mark.slow
def test_drawing_from_one_token_is_greedy(model_dir):
  """And a draw of one model is not that of the next time."""
  with trained.opened(model_dir) as source:
    made = _made(source, temperature=1.0, top_k=1)
    found = _answers(made, TEXTS)["outputs"].tolist()
    assert found == decoded(source, TEXTS)
    drawn = _made(source, temperature=1.0)
    rows = [_answers(drawn, TEXTS[:1] * 50)["outputs"].tolist() for _ in "ab"]
    assert rows[0] != rows[1] and len(set(rows[0])) > 10


def test_a_reserved_token_in_front(tmp_path):
  """A task's token is an id that no text has."""
  folder = write_model(tmp_path, "L2", "embedded_v1_task_token")
  with trained.opened(folder) as source:
    made = _made(source)
    texts = ["<extra_id_8>abc", "<extra_id_9>abc", "abc", "a<extra_id_8>"]
    found = _answers(made, texts)["outputs"].tolist()
    ids = ids_of(["abc", "abc", "abc", "a<extra_id_8>"], INPUTS)
    for row, k in ((0, 8), (1, 9)):
      token = [VOCABULARY.vocab_size - 1 - k]
      ids[row] = np.concatenate([token, ids[row, :-1]])
    expected = lowered(
      source,
      lambda inputs: source.model.decode(inputs, max_decode_length=OUTPUTS),
      inputs=ids,
    )
    clean = utils.clean_decodes(tf.constant(expected))
    assert found == VOCABULARY.decode_tf(clean).numpy().tolist()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["LG", "GG", "row", "col", "vanilla"])
def test_other_variants(tmp_path, variant):
  folder = write_model(tmp_path, variant)
  with trained.opened(folder) as source:
    found = _answers(_made(source), TEXTS)["outputs"].tolist()
    assert found == decoded(source, TEXTS)


@pytest.mark.parametrize(("rows", "cols"), [(8, 4), (8, 1), (1, 4)])
def test_orders_of_the_gated_product(rows, cols):
  """Each of them, and the one that is chosen, beside the equation."""
  rng = np.random.default_rng(0)
  w = rng.normal(size=(16, 12)).astype(np.float32)
  for n, t in ((2, 5), (9, 2), (3, 400), (1, 1), (1, 7), (0, 3)):
    h = tf.constant(rng.normal(size=(n, t, 16)), tf.float32)
    g = rng.random((n, rows, cols), np.float32)
    psi = np.repeat(np.repeat(g, 16 // rows, 1), 12 // cols, 2)
    expected = np.einsum("ntf,nfm->ntm", h, psi * w)
    by_row = tf.reshape(w, [rows, 16 // rows, 12])
    wide = np.repeat(g, 12 // cols, 2).transpose(1, 0, 2)  # [R, N, M]
    found = [
      (gated_product._rows_at_once(h[:, 0], by_row, wide), expected[:, 0]),
      (gated_product._row_by_row(h[:, 0], by_row, wide), expected[:, 0]),
      (gated_product._row_by_row(h, by_row, wide[:, :, None]), expected),
    ]
    if n:  # outside of a graph, map_fn knows no shape of nothing
      y = gated_product._weights(h, by_row, tf.constant(g))
      found.append((y, expected))
    for y, right in found:
      np.testing.assert_allclose(y, right, rtol=1e-4, atol=1e-4)
    args = h, tf.constant(w), g
    y = gated_product.product(*args, rows=rows, cols=cols, tokens=True)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    args = h[:, 0], tf.constant(w), g
    y = gated_product.product(*args, rows=rows, cols=cols, tokens=False)
    np.testing.assert_allclose(y, expected[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--beam_size=0"], "--beam_size=0 is too small"),
    (["--beam_size=2", "--temperature=1"], "draws at random"),
    (["--keep_top_k=5"], "--keep_top_k=5 is for drawing"),
    (["--keep_top_k=0", "--temperature=1"], "not a number of tokens"),
    (["--step=5"], "--step=5 is not a checkpoint"),
  ],
)
def test_what_cannot_be_exported(
  model_dir, tmp_path, monkeypatch, flags, message
):
  given = [f"--model_dir={model_dir}", f"--output_dir={tmp_path}", *flags]
  with pytest.raises(errors.UserError, match=message):
    program.run("tools.export", given, monkeypatch)
