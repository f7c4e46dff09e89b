"""An exported model next to Mesh TensorFlow's own graphs of fixed sizes."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mesh_tensorflow.transformer import utils
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2

from hypergrid_mtf import checkpoints, errors, trained, weights
from t5_tasks import embedded
from tests import beam_search, program
from tests.hypergrid_mtf import mtf_testing
from tests.tools.serving import model_dirs
from tests.tools.serving.conftest import OUTPUTS
from tools.cost import models
from tools.serving import gated_product, options, saved_model, text_model

INPUTS = 24
# With a task's token, which is an id that no other text has.
TEXTS = ["<extra_id_16>abc", "<extra_id_17>abc", "abc", "z<extra_id_16>"]
TEXTS += ["", "rot: " + "z" * 60]
TARGETS = ["abc", "x", "", "abcdefghijkl", "ab", "c"]
VOCABULARY = embedded.OUTPUT_FEATURES["inputs"].vocabulary


def _ids(texts, length):
  """[N, length], as `utils.encode_inputs` makes them, with tasks' tokens."""
  plain = [t.split(">", 1)[1] if t.startswith("<") else t for t in texts]
  ids = utils.encode_inputs(plain, VOCABULARY, "bitransformer", 1, length)
  for row, text in enumerate(texts):
    if text.startswith("<extra_id_"):
      k = int(text[len("<extra_id_") : text.index(">")])
      token = VOCABULARY.vocab_size - 1 - k
      ids[row] = np.concatenate([[token], ids[row, :-1]])
  return ids


def _decoded(source, texts=TEXTS, **how):
  """Answers of `Bitransformer.decode`, as texts."""
  return _texts(model_dirs.decode(source, _ids(texts, INPUTS), OUTPUTS, **how))


def _texts(ids):
  clean = utils.clean_decodes(tf.constant(ids))
  return VOCABULARY.decode_tf(clean).numpy().tolist()


def _answers(source, texts=TEXTS, **how):
  how = options.Options(INPUTS, OUTPUTS, OUTPUTS, **how)
  made = text_model.TextModel(source, how, [text_model.ANSWER])
  return made.functions[text_model.ANSWER](tf.constant(texts))


def test_a_saved_model_answers_and_scores(model_dir, saved_model, monkeypatch):
  """From the command to a loaded SavedModel, for several sizes of a batch."""
  loaded = tf.saved_model.load(str(saved_model / "7"))
  answer = loaded.signatures["serving_default"]
  score = loaded.signatures["score"]
  found = answer(inputs=tf.constant(TEXTS))
  with trained.open_model(model_dir) as source:
    assert found["outputs"].numpy().tolist() == _decoded(source)
    wanted = _ids(TARGETS, OUTPUTS)
    logits = model_dirs.logits(source, _ids(TEXTS, INPUTS), wanted)
  logits -= np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
  each = np.take_along_axis(logits, wanted[..., None], axis=-1)[..., 0]
  scores = score(inputs=tf.constant(TEXTS), targets=tf.constant(TARGETS))
  np.testing.assert_allclose(
    scores["scores"], np.sum(each * (wanted > 0), axis=-1), atol=1e-4
  )
  # An answer that has ended scores as the same target does.
  whole = ~found["outputs_cut"].numpy()
  again = score(inputs=tf.constant(TEXTS), targets=found["outputs"])["scores"]
  np.testing.assert_allclose(
    found["scores"].numpy()[whole], again.numpy()[whole], atol=1e-4
  )
  assert found["inputs_cut"].numpy().tolist() == [0, 0, 0, 0, 0, 1]
  assert scores["targets_cut"].numpy().tolist() == [0, 0, 0, 1, 0, 0]
  for i, text in enumerate(TEXTS):
    one = answer(inputs=tf.constant([text]))
    assert one["outputs"].numpy()[0] == found["outputs"].numpy()[i]
    np.testing.assert_allclose(
      one["scores"][0], found["scores"][i], rtol=1e-5, atol=1e-5
    )
  none = answer(inputs=tf.constant([], tf.string))
  assert none["outputs"].shape == none["scores"].shape == (0,)
  # Next to it, what a client must know.
  content = json.loads((saved_model / "7/hypergrid_mtf.json").read_text())
  assert content["tasks"]["embedded_rot_v1_task_token"] == "<extra_id_19>"
  assert content["limits"] == {"inputs": 24, "targets": 6, "outputs": 6}
  assert content["step"] == 7 and content["vocabulary"]["inputs"]["ids"] > 256
  config = (saved_model / "models.config").read_text()
  assert 'base_path: "/models/saved"' in config and 'name: "saved"' in config
  request = json.loads((saved_model / "request.json").read_text())
  rows = tf.constant(request["inputs"]["inputs"])
  signature = loaded.signatures[request["signature_name"]]
  assert signature(inputs=rows)["outputs"].shape == (1,)
  # No file of it names a folder of the machine that made it.
  for path in saved_model.rglob("*"):
    if path.is_file():
      assert str(saved_model.parent).encode() not in path.read_bytes(), path
  given = [f"--model_dir={model_dir}", f"--output_dir={saved_model}"]
  with pytest.raises(errors.UserError, match="already exists"):
    program.run("tools.export", given, monkeypatch)


def test_a_checkpoint_that_a_training_replaces(
  model_dir, tmp_path, monkeypatch, capsys
):
  """While it is exported: folder and record are those of the newer one."""
  copy, written = tmp_path / "copy", []
  shutil.copytree(model_dir, copy)

  def replace(given, read=options.read_flags):
    path = checkpoints.path_of(str(copy), 7)
    names = set(checkpoints.reader_shapes(path, "")) - {checkpoints.GLOBAL_STEP}
    weights.write(str(copy), 9, weights.read_all(path, names))
    for file in copy.glob("model.ckpt-7.*"):
      file.unlink()
    return read(given)

  def write(folder, source, how):
    written.append((folder, source.step))

  monkeypatch.setattr(options, "read_flags", replace)
  monkeypatch.setattr(saved_model, "write", write)
  given = [f"--model_dir={copy}", f"--output_dir={tmp_path / 'out'}"]
  program.run("tools.export", given, monkeypatch)
  assert written == [(str(tmp_path / "out" / "9"), 9)]
  assert "a training removed the checkpoint" in capsys.readouterr().out


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


def _message(file, named, /, **fields):
  """A message type, {name: (number, kind)}; a kind is a type or a message."""
  message = file.message_type.add(name=named)
  for field, (number, kind) in fields.items():
    kinds = dict(number=number, label=1 + 2 * (kind == ".warmup.Input"))
    added = message.field.add(name=field, **kinds)
    added.type = 9  # a text
    if kind.startswith("."):
      added.type, added.type_name = 11, kind


def test_warm_up_requests_are_answered(saved_model):
  """Read by messages that have the field numbers of TensorFlow Serving."""
  file = descriptor_pb2.FileDescriptorProto(
    name="warmup.proto", package="warmup"
  )
  file.dependency.append(tensor_pb2.DESCRIPTOR.name)
  _message(file, "Log", predict_log=(6, ".warmup.Predict"))
  _message(file, "Predict", request=(1, ".warmup.Request"))
  _message(
    file, "Request", model_spec=(1, ".warmup.Spec"), inputs=(2, ".warmup.Input")
  )
  _message(file, "Spec", name=(1, "text"), signature_name=(3, "text"))
  _message(file, "Input", key=(1, "text"), value=(2, ".tensorflow.TensorProto"))
  pool = descriptor_pool.Default()
  pool.Add(file)
  log = message_factory.GetMessageClass(
    pool.FindMessageTypeByName("warmup.Log")
  )
  path = saved_model / "7/assets.extra/tf_serving_warmup_requests"
  loaded = tf.saved_model.load(str(saved_model / "7"))
  rows = [
    log.FromString(record.numpy()).predict_log.request
    for record in tf.data.TFRecordDataset(str(path))
  ]
  assert {r.model_spec.signature_name for r in rows} == set(loaded.signatures)
  for row in rows:
    assert row.model_spec.name == "saved"
    given = {i.key: tf.constant(tf.make_ndarray(i.value)) for i in row.inputs}
    found = loaded.signatures[row.model_spec.signature_name](**given)
    assert found["scores"].shape == (1,)


# Width, alpha, and the tokens of a beam that compete, 0 for all.
SEARCHES = [(4, 0.6, 2), (4, 0.6, 0), (8, 0.0, 3)]


def test_beams_are_those_of_numpy_and_t5(tmp_path):
  texts = [
    f"{function}: {string}"
    for i, function in enumerate(embedded.FUNCTIONS)
    for string in embedded.strings("validation")[2 * i : 2 * i + 2]
  ]
  ids, found = _ids(texts, INPUTS), []
  # Where both share an embedding, random weights say one token all the time.
  folder = model_dirs.make(tmp_path, bindings=model_dirs.T5_1_1[1:])
  with trained.open_model(folder) as source:
    for width, alpha, prefilter in SEARCHES:
      how = {"beam_size": width, "alpha": alpha, "num_prefilter": prefilter}
      made = _answers(source, texts, **how)
      found.append(made["outputs"].numpy().tolist())
      best = model_dirs.search(source, ids, OUTPUTS, width, alpha, prefilter)
      tokens = [tokens for _, tokens in best]
      assert found[-1] == _texts(mtf_testing.pad(tokens, OUTPUTS))
      scores = [
        score * (beam_search.penalty(len(of), alpha) if 1 in of else 1)
        for score, of in best
      ]
      np.testing.assert_allclose(made["scores"], scores, atol=1e-4)
    # Nothing is said of what competes: all have one default.
    how = {"beam_size": SEARCHES[0][0], "alpha": SEARCHES[0][1]}
    assert _decoded(source, texts, **how) == found[0]
    assert options.Options(1, 1, 1).num_prefilter == SEARCHES[0][-1]
  assert min(len(set(found[0])), len(set(found[2]))) > 10
  assert found[0] != found[1]  # so the test sees what competes


@pytest.mark.slow
def test_drawing_from_one_token_is_greedy(model_dir):
  """And a draw of one model is not that of the next time."""
  with trained.open_model(model_dir) as source:
    found = _answers(source, temperature=1.0, top_k=1)["outputs"]
    assert found.numpy().tolist() == _decoded(source)
    how = options.Options(INPUTS, OUTPUTS, OUTPUTS, temperature=1.0)
    made = text_model.TextModel(source, how, [text_model.ANSWER])
    texts = tf.constant(TEXTS[:1] * 50)
    drawn = made.functions[text_model.ANSWER]
    rows = [drawn(texts)["outputs"].numpy().tolist() for _ in "ab"]
    assert rows[0] != rows[1] and len(set(rows[0])) > 10


def _of_variants(*names):
  return [
    *names,
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in (*models.KNOWN, *(f"peers/{peer}" for peer in models.PEERS))
      if name not in (*names, *models.PEERS, "L2")
    ),
  ]


@pytest.mark.parametrize(
  "variant", _of_variants("peers/ia3", "peers/hyperprompt_global")
)
def test_other_variants(tmp_path, variant):
  texts = [f"<extra_id_{k}>abcdefgh"[: 16 + k] for k in (16, 17, 20, 23)]
  folder = model_dirs.make(tmp_path, variant, mixture="embedded_v1_task_token")
  with trained.open_model(folder) as source:
    found = _answers(source, texts)["outputs"].numpy().tolist()
    assert found == _decoded(source, texts)


@pytest.mark.parametrize(("rows", "cols"), [(8, 4), (8, 1), (1, 4)])
def test_orders_of_the_gated_product(rows, cols):
  """Each of them, and the one that is chosen, next to the equation."""
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
    for tokens, x, right in (
      (True, h, expected),
      (False, h[:, 0], expected[:, 0]),
    ):
      y = gated_product.product(x, tf.constant(w), g, rows, cols, tokens)
      found.append((y, right))
    for y, right in found:
      np.testing.assert_allclose(y, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--beam_size=0"], "--beam_size=0 is too small"),
    (["--beam_size=2", "--temperature=1"], "=1.0 samples"),
    (["--num_prefilter=1"], "--num_prefilter=1 leaves a search too few"),
    (["--keep_top_k=5"], "--keep_top_k=5 is for sampling"),
    (["--keep_top_k=0", "--temperature=1"], "not a number of tokens"),
    (["--step=5"], "--step=5 is not a checkpoint of .* steps 7"),
    (["--model_dir=/"], "has no operative_config.gin"),
  ],
)
def test_what_cannot_be_exported(
  model_dir, tmp_path, monkeypatch, flags, message
):
  given = [f"--model_dir={model_dir}", f"--output_dir={tmp_path}", *flags]
  with pytest.raises(errors.UserError, match=message):
    program.run("tools.export", given, monkeypatch)
