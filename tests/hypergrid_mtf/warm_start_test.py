"""What a model takes from a published checkpoint, and what it then computes.

With $HYPERGRID_WARM_START=base, of this size, and the differences are printed.
"""

import os

import gin
import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf import gate as gate_lib
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import vocabulary_file
from hypergrid_mtf.run.checks import training_record
from tests.hypergrid_mtf import mtf_testing, published
from tools.cost import models

SIZE = os.environ.get("HYPERGRID_WARM_START", "micro")
L2 = [f"models/{SIZE}.gin", "hypergrid/L2.gin"]
VANILLA = [*L2, "hypergrid/vanilla.gin"]
# As models/base.gin has it, being mesh_tensorflow's default.
BFLOAT16 = "utils.get_variable_dtype.master_dtype = 'bfloat16'"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  path = tmp_path_factory.mktemp("published") / "model.ckpt"
  return published.write(str(path), SIZE)


def _warm_start(model, path):
  found = checkpoints.reader_shapes(path, "here")
  shapes = checkpoints.variable_shapes(model)
  checkpoints.use_legacy_names(found, shapes)
  return found, checkpoints.warm_start(found, shapes)


def _rows(vocabulary, batch, length):
  """Rows of random tokens that end in </s> and padding, int32."""
  rng = np.random.default_rng([0, length])
  rows = rng.integers(2, vocabulary, [batch, length]).astype(np.int32)
  for row, end in zip(rows, rng.integers(1, length, batch), strict=True):
    row[end] = 1
    row[end + 1 :] = 0
  return rows


def _logits(path, files, bindings):
  """(logits [4, 16, vocabulary] after a warm start, where targets are)."""
  size = published.shapes(SIZE)["shared/embedding"][0]
  inputs, targets = (_rows(size, 4, length) for length in (64, 16))
  inputs[:, 0] = size - 1 - np.arange(4)  # task tokens
  reader = tf.train.load_checkpoint(path)
  with (
    model_lib.configured(files, [BFLOAT16, *bindings], size) as model,
    tf.Graph().as_default(),
  ):
    _, warm = _warm_start(model, path)
    assert not warm.unexpected
    there = (checkpoints.legacy_name(name) for name in warm.loaded)
    values = dict(zip(warm.loaded, map(reader.get_tensor, there), strict=True))
    tf.set_random_seed(0)
    mesh = mtf.Mesh(mtf.Graph(), "mesh")
    names = ["batch", "length"]
    out, _ = model.call_simple(
      inputs=mtf_testing.import_array(mesh, inputs, names),
      targets=mtf_testing.import_array(mesh, targets, names),
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=mtf.VariableDType(tf.bfloat16, tf.float32, tf.float32),
    )
    return mtf_testing.evaluate(mesh, out, values), targets > 0


def test_the_function_under_both_forms_of_the_gate(checkpoint, capsys):
  vanilla, real = _logits(checkpoint, VANILLA, [])
  largest = np.abs(vanilla[real]).max()
  for gate in gate_lib.GATES:
    found, _ = _logits(checkpoint, L2, [f"HyperGrid.gate = '{gate}'"])
    difference = np.abs(found - vanilla)[real].max()
    same = np.mean(found[real].argmax(-1) == vanilla[real].argmax(-1))
    if "HYPERGRID_WARM_START" in os.environ:
      with capsys.disabled():
        print(
          f"\n{SIZE}, {gate}: largest difference of a logit {difference:.3g}, "
          f"greatest logit {largest:.3g}, same token {100 * same:.1f} %"
        )
    if gate == "two_sigmoid":
      assert difference < 1e-5 * largest and same == 1
    else:
      assert difference > 0.01 * largest


@pytest.mark.parametrize("peer", models.PEERS)
def test_a_peer_starts_at_the_function_of_the_checkpoint(checkpoint, peer):
  vanilla, real = _logits(checkpoint, VANILLA, [])
  found, _ = _logits(checkpoint, [VANILLA[0], f"peers/{peer}.gin"], [])
  difference = np.abs(found - vanilla)[real].max() / np.abs(vanilla[real]).max()
  if peer.startswith("hyperprompt"):  # whose prompts are always seen
    assert difference > 1e-3
  else:
    assert difference < 1e-6


def test_slots_are_those_of_the_optimizer(checkpoint):
  size = published.shapes(SIZE)["shared/embedding"][0]
  with model_lib.configured(L2, (), size) as model:
    found, warm = _warm_start(model, checkpoint)
    with pytest.raises(errors.UserError, match="master_dtype = 'bfloat16'"):
      names = map(checkpoints.legacy_name, warm.loaded)
      checkpoints.check_dtype(checkpoint, names, "here")
  assert not warm.unexpected
  assert set(map(checkpoints.legacy_name, warm.loaded)) == set(
    published.shapes(SIZE)
  )
  assert "encoder/final_layer_norm/scale" in found
  assert len(warm.slots) >= len(warm.loaded)


def test_a_checkpoint_by_any_of_its_names(checkpoint):
  folder = os.path.dirname(checkpoint)
  assert checkpoints.of_path(f"{checkpoint}.index", "x") == checkpoint
  with pytest.raises(errors.UserError) as e:  # it has no list of checkpoints
    checkpoints.of_path(folder, "--checkpoint")
  assert "none of its checkpoints, steps 999900: give the path" in str(e.value)
  assert str(e.value).endswith(f"such as {checkpoint}.")


def test_another_function_or_vocabulary_is_refused(tmp_path):
  path = str(tmp_path / "model.ckpt-1")
  with model_lib.configured(L2, (), 384) as model:
    (tmp_path / "operative_config.gin").write_text(gin.config_str())
    training_record.check_source(model, path, "here")
    vocabulary_file.write(str(tmp_path), {"targets": {"described": "/a.model"}})
    bytes_ = {"targets": {"kind": "ByteVocabulary", "described": "bytes"}}
    with pytest.raises(errors.UserError, match="bytes here and /a.model in"):
      training_record.check_source(model, path, "here", bytes_)
  other = ["HyperGrid.gate = 'two_sigmoid'"]
  with (
    model_lib.configured(L2, other, 384) as model,
    pytest.raises(errors.UserError, match="HyperGrid.gate of .*--allow_part"),
  ):
    training_record.check_source(model, path, "here")
