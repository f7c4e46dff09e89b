"""Answers that end at the limit are counted; the rows of padding are not."""

import gin
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf.run import decoding

_PATH = "/runs/l2/model.ckpt-40"
_LIMIT = "Bitransformer.decode.max_decode_length"


@pytest.fixture
def cut():
  """A hook that saw two batches of two answers of three tokens."""
  with tf.Graph().as_default() as graph:
    batch = tf.placeholder(tf.int32, [2, 3])
    hook = decoding.CutAnswers({graph: batch.name})
    with tf.train.MonitoredSession(hooks=[hook]) as session:
      session.run(batch, {batch: [[5, 1, 0], [5, 6, 7]]})
      session.run(batch, {batch: [[5, 6, 1], [8, 8, 8]]})
  yield hook
  gin.clear_config()


def test_answers_that_were_cut_are_counted(cut):
  from mesh_tensorflow.transformer import transformer  # noqa: F401  (for gin)

  assert cut.cut == [False, True, False, True]
  gin.parse_config(f"{_LIMIT} = 3")
  assert cut.to_text(4, _PATH) == (
    f"2 of 4 answers of step 40 were cut at 3 tokens ({_LIMIT})"
  )
  gin.clear_config()
  assert cut.to_text(3, None) == (  # the fourth fills the batch
    f"1 of 3 answers were cut at 3 tokens (as long as the inputs; {_LIMIT} "
    "gives another limit)"
  )
  assert cut.to_text(1, _PATH) is None


def test_a_graph_that_decodes_elsewhere_is_not_counted():
  hook = decoding.CutAnswers({})
  with tf.Graph().as_default():
    one = tf.constant(1)
    with tf.train.MonitoredSession(hooks=[hook]) as session:
      session.run(one)
  assert hook.to_text(None, _PATH) is None
