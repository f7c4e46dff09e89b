"""From which step the order of the training data counts."""

import gin
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf.run import data_order

ORDER = {"mixture": "a", "mesh_train_dataset_fn.seed": "1"}


def _save(folder, step):
  with tf.Graph().as_default(), tf.Session() as sess:
    tf.get_variable("global_step", initializer=tf.constant(step, tf.int64))
    sess.run(tf.global_variables_initializer())
    saver = tf.train.Saver()
    saver.save(sess, f"{folder}/model.ckpt", step, write_meta_graph=False)


def test_the_order_counts_from_where_it_was_given(tmp_path, capsys):
  folder = str(tmp_path)
  assert data_order.first_step(folder, ORDER, began=100) == 100
  _save(tmp_path, 120)
  assert data_order.first_step(folder, ORDER, began=100) == 100
  assert not capsys.readouterr().out
  other = {**ORDER, "run.batch_size": "8"}
  assert data_order.first_step(folder, other, began=100) == 120
  said = capsys.readouterr().out
  assert "begin anew at step 120: run.batch_size is another" in said
  _save(tmp_path, 130)
  assert data_order.first_step(folder, other, began=100) == 120
  _save(tmp_path, 110)  # the user went back
  assert data_order.first_step(folder, other, began=100) == 110


def test_a_folder_of_an_earlier_version(tmp_path):
  _save(tmp_path, 120)
  assert data_order.first_step(str(tmp_path), ORDER, began=100) == 100
  (tmp_path / data_order.NAME).write_text("{")
  assert data_order.first_step(str(tmp_path), {"mixture": "a"}, 100) == 120


@pytest.fixture
def bound():
  gin.clear_config()  # of what tests before this one have bound
  with gin.unlock_config():
    gin.bind_parameter("run.batch_size", ("sequences_per_batch", 4))
  yield
  gin.clear_config()


def test_what_the_order_follows_from(bound):
  found = data_order.what_orders("a")
  assert found == {
    "mixture": "a",
    "run.batch_size": "('sequences_per_batch', 4)",
  }
  assert not data_order.goes_on_by_itself()
  gin.bind_parameter("run.skip_seen_data", False)
  assert data_order.goes_on_by_itself()
