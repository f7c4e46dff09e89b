"""To Hugging Face and back: the same function, tokens and bits; refusals."""

import json
import os
import re
import shutil
import sys
import types

import gin
import huggingface_hub
import numpy as np
import pytest
import tensorflow as tf
import transformers
from absl import flags

from hypergrid_mtf import checkpoints, errors, trained, weights
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import console, vocabulary_file
from hypergrid_mtf.run.checks import checkpoint as checkpoint_checks
from hypergrid_mtf.run.checks import training_record
from t5_tasks import vocabularies
from tests import program, testing
from tests.tools.serving import model_dirs, transformers_t5
from tools import huggingface
from tools.serving import hf_config, hf_tokenizer, hf_weights

TASK = "embedded_copy_v1_task_token"


def _to(monkeypatch, model_dir, output_dir, *arguments) -> str:
  given = [f"--model_dir={model_dir}", f"--output_dir={output_dir}"]
  program.run("tools.huggingface", ["to", *given, *arguments], monkeypatch)
  return str(output_dir)


def _from(monkeypatch, input_dir, output_dir, *arguments) -> str:
  given = [f"--input_dir={input_dir}", f"--output_dir={output_dir}"]
  program.run("tools.huggingface", ["from", *given, *arguments], monkeypatch)
  return str(output_dir)


def _values(folder) -> weights.Weights:
  path = checkpoints.latest_checkpoint(str(folder))
  names = set(checkpoints.reader_shapes(path, ""))
  return weights.read_all(path, names - {checkpoints.GLOBAL_STEP})


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
  """A T5 1.1 and what was made of it: (model_dir, transformers' folder)."""
  folder = tmp_path_factory.mktemp("t5")
  model_dir = model_dirs.make(
    folder / "model", "vanilla", model_dirs.T5_1_1, size="micro", mixture=TASK
  )  # of two layers: only the first has the positions
  with pytest.MonkeyPatch.context() as monkeypatch:
    made = _to(monkeypatch, model_dir, folder / "there")
  gin.clear_config()
  return model_dir, made


def _check_same(model_dir, there, count=8, most=8):
  inputs, targets = model_dirs.examples(TASK, count)
  with trained.open_model(str(model_dir)) as source:
    ours = model_dirs.logits(source, inputs, targets)
    tokens = model_dirs.decode(source, inputs, most)
  model = transformers_t5.load(there)
  theirs = transformers_t5.logits(model, inputs, targets)
  assert np.abs(ours - theirs)[targets > 0].max() < 1e-4
  np.testing.assert_array_equal(
    tokens, transformers_t5.greedy(model, inputs, most)
  )


def test_t5_1_1_is_the_same_there(t5):
  _check_same(*t5)


def test_t5_1_0_folded_is_the_same_there(model_dir, tmp_path, monkeypatch):
  folded = tmp_path / "folded"
  given = [f"--model_dir={model_dir}", f"--output_dir={folded}"]
  program.run(
    "tools.fold", [*given, "--task=copy", "--examples=5"], monkeypatch
  )
  there = _to(monkeypatch, folded, tmp_path / "there")
  _check_same(model_dir, there)
  card = (tmp_path / "there" / "README.md").read_text()
  assert "begin with token 342, `<extra_id_16>`" in card
  assert "- L2, sigmoid, a grid of 16 x 16 over wo, conditioned on" in card


def test_the_model_card_says_what_the_folder_says(t5, tmp_path, monkeypatch):
  model_dir, there = t5
  nothing = huggingface_hub.ModelCard.load(f"{there}/README.md")
  assert not nothing.data.eval_results
  assert "has no evaluation of this step" in nothing.content
  assert "None: it is a plain T5." in nothing.content
  assert f"- `{TASK}`" in nothing.content
  best = tmp_path / "run" / "best"  # of a training with --evaluate
  shutil.copytree(model_dir, best)
  data = {f"task {TASK}": "function > tokenize(path=/home/me/words)"}
  (best / "data.json").write_text(json.dumps(data))
  start = {"checkpoint": "/home/me/t5/model.ckpt-3"}
  (best / "warm_start.json").write_text(json.dumps(start))
  record = {"step": 8, "metrics": {TASK: {"accuracy": 61.257, "f1": None}}}
  (best.parent / "best.json").write_text(json.dumps(record))
  card = huggingface_hub.ModelCard.load(
    _to(monkeypatch, best, tmp_path / "other") + "/README.md"
  )
  assert not card.data.eval_results  # they are of another step
  record["step"] = model_dirs.STEP
  (best.parent / "best.json").write_text(json.dumps(record))
  path = _to(monkeypatch, best, tmp_path / "some") + "/README.md"
  card = huggingface_hub.ModelCard.load(path)
  (score,) = card.data.eval_results
  assert (score.dataset_name, score.metric_type) == (TASK, "accuracy")
  assert score.metric_value == 61.26 and score.dataset_type == "function"
  assert f"| `{TASK}` | function, tokenize |" in card.content
  assert "started from model.ckpt-3." in card.content
  assert "/home/me" not in card.content


def test_back_again_bit_for_bit(t5, tmp_path, monkeypatch, capsys):
  model_dir, there = t5
  back = _from(monkeypatch, there, tmp_path / "back")
  assert f"'{back}/model.ckpt-{model_dirs.STEP}'" in capsys.readouterr().out
  before, after = _values(model_dir), _values(back)
  assert set(before) == set(after)
  for name, value in before.items():
    assert value.dtype == after[name].dtype
    np.testing.assert_array_equal(value, after[name])
  assert training_record.trained_facts(
    model_dir
  ) == training_record.trained_facts(back)
  config = (tmp_path / "back" / training_record.CONFIG).read_text()
  assert f"MIXTURE_NAME = '{TASK}'" in config  # the training's own was kept
  run = types.SimpleNamespace(
    model_dir=back,
    read=[],
    latest=f"{back}/model.ckpt-{model_dirs.STEP}",
    trains=True,
    is_warm_start=False,
  )
  error = tf.errors.NotFoundError(None, None, "")
  with pytest.raises(errors.UserError, match="no optimizer state"):
    checkpoint_checks.explain_failed_restore(error, run)
  assert not vocabulary_file.difference(
    back, vocabulary_file.read(model_dir) or {}
  )


def test_public_folders_of_many_files_and_types(t5, tmp_path, monkeypatch):
  """As on the hub: no record of ours, copies of tensors, shards, bfloat16."""
  _, there = t5
  public = tmp_path / "public"
  shutil.copytree(there, public)
  for name in ("hypergrid_mtf.json", training_record.CONFIG):
    (public / name).unlink()
  tensors = {
    name: tensor.astype(tf.bfloat16.as_numpy_dtype)
    for name, tensor in hf_weights.safetensors.numpy.load_file(
      public / hf_weights.FILE
    ).items()
  }
  (public / hf_weights.FILE).unlink()
  for copy in hf_weights._COPIES[:2]:
    tensors[copy] = tensors["shared.weight"]
  old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
  tensors[old] = np.zeros([2, 2], np.float32)
  weight_map = {}
  for i, name in enumerate(sorted(tensors)):
    file = f"model-0000{i % 2 + 1}-of-00002.safetensors"
    weight_map[name] = file
  for file in set(weight_map.values()):
    part = {n: t for n, t in tensors.items() if weight_map[n] == file}
    hf_weights.safetensors.numpy.save_file(part, public / file)
  del tensors[old]
  (public / hf_weights.INDEX).write_text(json.dumps({"weight_map": weight_map}))
  back = _from(monkeypatch, public, tmp_path / "back", "--step=1000")
  assert checkpoints.step_of(checkpoints.latest_checkpoint(back)) == 1000
  values = _values(back)
  for name, value in values.items():
    expected = tensors[hf_weights.transformers_name(name)]
    turned = expected.T if expected.ndim == 2 else expected
    if name == weights.EMBEDDING:
      turned = expected
    np.testing.assert_array_equal(value, turned.astype(value.dtype))
  # Nothing names a mixture there: its vocabulary is enough.
  again = _to(monkeypatch, back, tmp_path / "again")
  found = hf_weights.load(again)
  np.testing.assert_array_equal(
    found["lm_head.weight"], tensors["lm_head.weight"].astype(np.float32)
  )


def test_a_folder_that_is_moved_is_read(tmp_path, monkeypatch):
  """With relative paths, as in the documents, and its vocabulary in it."""
  monkeypatch.chdir(tmp_path)
  name = "t5_tasks.vocabularies.use_vocabulary.name"
  task = "glue_cola_v002"
  try:
    model_dirs.make(
      "model", "vanilla", [f"{name} = {testing.PIECES!r}"], mixture=task
    )
    _to(monkeypatch, "model", "there")
    _from(monkeypatch, "there", "back")
    (tmp_path / "elsewhere").mkdir()
    os.rename("back", "elsewhere/moved")
    monkeypatch.chdir("elsewhere")
    _to(monkeypatch, "moved", "again")
  finally:
    vocabularies.use_vocabulary("t5")
  for name in (hf_weights.FILE, hf_tokenizer.SENTENCEPIECE):
    made = [tmp_path / path / name for path in ("there", "elsewhere/again")]
    assert made[0].read_bytes() == made[1].read_bytes()


def _texts():
  return [
    "copy: badge",
    "cola sentence: The cat sat on the mat.",
    "  two  blanks, é and a\ttab ",
    "",
    "12 ½ — ﬁne",
  ]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_tokens_are_the_same_there_and_back(tmp_path, kind):
  name = testing.PIECES if kind == "sentencepiece" else "bytes"
  vocabulary = vocabularies.get_vocabulary(name)
  hf_tokenizer.write(str(tmp_path), vocabulary, 128)
  tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
  for text in _texts():
    assert tokenizer(text).input_ids == [*vocabulary.encode(text), 1], text
  # A task's token, in front of its text.
  size = vocabulary.vocab_size
  marked = tokenizer("<extra_id_3>copy: badge").input_ids
  assert marked == [size - 4, *vocabulary.encode("copy: badge"), 1]
  again = hf_tokenizer.read(str(tmp_path))
  assert again.vocab_size == size and type(again) is type(vocabulary)


def test_config_of_other_sizes():
  """Names and defaults of T5Config, and sizes that differ between stacks."""
  given = dict(model_type="t5", vocab_size=384, d_model=32, d_kv=8, d_ff=48)
  given.update(num_layers=3, num_decoder_layers=1, num_heads=2)
  given.update(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
  config = hf_config.of_json(given, "x", "float32")
  assert config.feed_forward_proj == "gated-gelu"
  text, shapes = hf_config.gin_text(config, "float32")
  assert "['gelu', 'linear']" in text
  assert "encoder/block_002/layer_001/rms_norm/scale" in shapes
  assert not any("decoder/block_001" in name for name in shapes)
  assert shapes["decoder/logits/kernel"] == (32, 384)
  assert hf_config.of_json(config.to_dict(), "x", "float32") == config
  assert "make_layer_stack.num_layers = 1" in text


@pytest.mark.parametrize(
  ("changed", "match"),
  [
    (dict(model_type="bert"), "model_type 'bert': only 't5' and 'mt5'"),
    (dict(vocab_size=100), "vocab_size = 100, but in t5 .* multiple of 128"),
    (dict(feed_forward_proj="gated-tanh"), "one of mesh_tensorflow's: relu,"),
    (dict(relative_attention_max_distance=64), "= 64, which is 128 in t5"),
    (dict(eos_token_id=2, pad_token_id=1), "eos_token_id = 2, which is 1 in"),
    (dict(decoder_start_token_id=5), "decoder_start_token_id = 5, which is 0"),
    (dict(scale_decoder_outputs=False), "scale_decoder_outputs = False, which"),
    (dict(dense_act_fn="silu"), "dense_act_fn = 'silu', which is 'relu' in"),
    (dict(tie_encoder_decoder=True), "tie_encoder_decoder = True, which is F"),
    (dict(pruned_heads={"0": [1]}), "pruned_heads = .*, which is {} in t5"),
    (dict(d_model="many"), "does not describe a T5"),
  ],
)
def test_configs_that_are_refused(changed, match):
  given = dict(model_type="t5", vocab_size=128, **{}) | changed
  with pytest.raises(errors.UserError, match=match):
    hf_config.of_json(given, "config.json", "float32")


def test_every_field_that_transformers_reads_is_read_or_compared():
  folder = os.path.dirname(transformers.models.t5.__file__)
  read: set = set()
  for name in ("modeling_t5.py", "modeling_tf_t5.py"):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
      read.update(re.findall(r"\bconfig\.([a-z]\w+)", f.read()))
  assert "dense_act_fn" in read
  # What it returns, how it begins a training, set by itself, of other heads.
  no_function = {"output_attentions", "output_hidden_states", "use_cache"}
  no_function |= {"use_return_dict", "initializer_factor", "is_decoder"}
  no_function |= {"hidden_size", "n_layers"}  # other names of sizes
  no_function |= {"classifier_dropout", "num_labels", "problem_type"}
  assert read <= {*hf_config._SIZES, *hf_config._FIXED, *no_function}


@pytest.mark.parametrize(
  ("variant", "bindings", "match"),
  [
    ("L2", (model_dirs.TASK_TOKEN,), "has HyperGrid layers.*tools.fold"),
    ("../peers/ia3", (), "has ia3 layers.*tools.fold"),
    (
      "vanilla",
      ("DenseReluDense.use_bias = True",),
      "use_bias of dec.* is True",
    ),
    ("vanilla", ("DenseReluDense.activation = 'tanh'",), r"is \['tanh'\]"),
    (
      "vanilla",
      ("SelfAttention.fold_scaling_into_initializer = False",),
      "fold_scaling_into_initializer of .* is False, but True",
    ),
    (
      "vanilla",
      ("decoder/DenseReluDense.hidden_size = 32",),
      "hidden_size of decoder/block_000/layer_002 is 32, but 64 there",
    ),
  ],
)
def test_models_that_are_refused(tmp_path, variant, bindings, match):
  paths = ["models/nano.gin", f"hypergrid/{variant}.gin"]
  model_lib.bind([*paths, "experiments/embedded.gin"], bindings)
  with pytest.raises(errors.UserError, match=match):
    hf_config.of_model(model_lib.build(384), "--model_dir=x", "float32")


def _change(**given):
  """A function that changes the config.json of a folder."""

  def change(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **given}))

  return change


def _add_a_token(name, key):
  """A function that adds a token to a file of the tokenizer of a folder."""

  def add(folder):
    path = folder / name
    given = json.loads(path.read_text()) if path.exists() else {}
    if name == "added_tokens.json":
      given["<sep>"] = 384
    elif key == "added_tokens_decoder":
      given[key]["384"] = {"content": "<sep>"}
    else:
      given[key] = [*given.get(key, ()), {"id": 384, "content": "<sep>"}]
    path.write_text(json.dumps(given))

  return add


def _cut(left):
  def cut(folder):
    path = folder / hf_weights.FILE
    path.write_bytes(path.read_bytes()[:left])

  return cut


def _name_a_file_outside(folder):
  index = {"weight_map": {"shared.weight": "../model.safetensors"}}
  (folder / hf_weights.INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
  ("damage", "match"),
  [
    (_cut(-100), "model.safetensors is damaged or not a safetensors file"),
    (_cut(0), "model.safetensors is damaged or not a safetensors file"),
    (_name_a_file_outside, "is not an index of weight files in this fold"),
    (
      lambda f: (f / hf_weights.FILE).rename(f / "pytorch_model.bin"),
      "has no model.safetensors, and pytorch_model.bin needs",
    ),
    (_change(d_ff=32), "wi_0.weight in .* is .256, 64., which does not match"),
    (_change(num_layers=3), "encoder.block.2.* is missing"),
    (
      _change(tie_word_embeddings=True),
      "has a lm_head.weight that differs from shared.weight",
    ),
    (lambda f: (f / "config.json").write_text("{"), "config.json cannot be"),
    (
      lambda f: (f / "config.json").unlink(),
      "is not a local folder with a config.json",
    ),
    *(
      (_add_a_token(*where), "has the added token '<sep>', which")
      for where in (
        ("added_tokens.json", None),
        ("tokenizer_config.json", "additional_special_tokens"),
        ("tokenizer_config.json", "added_tokens_decoder"),
        ("tokenizer.json", "added_tokens"),
      )
    ),
    (
      lambda f: (f / "tokenizer_config.json").unlink(),
      "has no spiece.model, .* or give --vocabulary",
    ),
  ],
)
def test_folders_that_are_refused(t5, tmp_path, monkeypatch, damage, match):
  folder = tmp_path / "there"
  shutil.copytree(t5[1], folder)
  damage(folder)
  with pytest.raises(errors.UserError, match=match):
    _from(monkeypatch, folder, tmp_path / "back")
  assert sorted(os.listdir(tmp_path)) == ["there"]


def test_a_direction_is_needed(capsys, monkeypatch):
  monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
  for words in (["to", "from"], ["there"], []):
    monkeypatch.setattr(sys, "argv", ["x", *words])
    with pytest.raises(SystemExit) as e:
      console.read_flags("__main__", verbs=huggingface.VERBS)
    assert e.value.code == 2
  said = capsys.readouterr().err
  assert "unexpected argument 'from'" in said
  assert said.count("the first argument must be to or from") == 2


def test_other_vocabularies_and_folders_are_refused(t5, tmp_path, monkeypatch):
  model_dir, there = t5
  out = tmp_path / "out"
  with pytest.raises(errors.UserError, match="has its own"):
    _to(monkeypatch, model_dir, out, f"--vocabulary={testing.PIECES}")
  with pytest.raises(errors.UserError, match="is not that of the model"):
    _from(monkeypatch, there, out, f"--vocabulary={testing.PIECES}")
  with pytest.raises(errors.UserError, match="already exists"):
    _to(monkeypatch, model_dir, there)
  with pytest.raises(errors.UserError, match="has no operative_config.gin"):
    _to(monkeypatch, tmp_path, out)
  with pytest.raises(errors.UserError, match="is not a local folder with a"):
    _from(monkeypatch, tmp_path / "none", out)
  with pytest.raises(
    errors.UserError, match="rows, which does not fit the voca"
  ):
    hf_tokenizer.check_size(
      vocabularies.get_vocabulary(testing.PIECES), 384, "--model_dir=x"
    )
