"""Whether a checkpoint fits a model is known before any graph is built."""

import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors

from . import mtf_testing


@pytest.fixture(scope="module")
def shapes():
  return checkpoints.variable_shapes(mtf_testing.small_model("L2"))


def _save(path, shapes):
  with tf.Graph().as_default(), tf.Session() as sess:
    for name, shape in shapes.items():
      tf.get_variable(name, shape)
    sess.run(tf.global_variables_initializer())
    return tf.train.Saver().save(sess, str(path), global_step=7)


def test_a_checkpoint_of_the_same_model_fits(tmp_path, shapes):
  slots = {"shared/embedding_slot_v": (64, 16), "global_step": ()}
  path = _save(tmp_path / "model.ckpt", {**shapes, **slots})
  checkpoints.check_fits(path, shapes, "here", same_model=True)


def test_another_size_names_both_shapes(tmp_path, shapes):
  path = _save(tmp_path / "model.ckpt", {**shapes, "shared/embedding": (64, 8)})
  with pytest.raises(errors.UserError) as e:
    checkpoints.check_fits(path, shapes, "--model_dir=x", same_model=False)
  message = str(e.value)
  assert "[64, 8]" in message and "[64, 16]" in message
  assert "shared/embedding" in message and "--model_dir=x" in message


def test_a_vanilla_checkpoint_fits_only_a_warm_start(tmp_path, shapes):
  vanilla = {n: s for n, s in shapes.items() if "/hypergrid/" not in n}
  path = _save(tmp_path / "model.ckpt", vanilla)
  checkpoints.check_fits(path, shapes, "here", same_model=False)
  with pytest.raises(errors.UserError, match="absent there"):
    checkpoints.check_fits(path, shapes, "here", same_model=True)


def test_more_layers_than_the_model_are_refused(tmp_path, shapes):
  more = {"encoder/block_002/layer_001/DenseReluDense/wi/kernel": (16, 32)}
  path = _save(tmp_path / "model.ckpt", {**shapes, **more})
  with pytest.raises(errors.UserError, match="block_002"):
    checkpoints.check_fits(path, shapes, "here", same_model=True)


def test_what_is_no_checkpoint_is_said(tmp_path, shapes):
  with pytest.raises(errors.UserError, match="cannot be read"):
    checkpoints.check_fits(
      str(tmp_path / "none"), shapes, "here", same_model=True
    )
