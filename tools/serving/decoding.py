"""What a served model computes from token ids: answers with scores, and scores.

The answers are those of `Bitransformer.decode`, which does not return scores.
So its steps are watched, and the scores of the chosen tokens are summed in two
more states of its loop.
"""

import contextlib
from typing import Any
from unittest import mock

import mesh_tensorflow as mtf
import tensorflow as tf
from mesh_tensorflow.transformer import utils

from tools.serving import options

_EOS = 1  # as in Mesh TensorFlow's decoding


def _dtypes() -> mtf.VariableDType:
  """float32, as in t5's decoding without a TPU."""
  master = utils.get_variable_dtype().master_dtype
  return mtf.VariableDType(master, tf.float32, tf.float32)


class _Watch:
  """The log-likelihood of the choices of `sample_autoregressive`."""

  def __init__(self, decoder):
    self._call = decoder._call_internal
    self._sample = mtf.sample_with_temperature
    self._loop = mtf.while_loop
    self._context: Any = None
    self._logits: Any = None
    self.score = None

  def call(self, context, inputs, targets=None):
    """Calls `Unitransformer._call_internal` and keeps its logits."""
    self._logits = self._call(context, inputs, targets)
    self._context = context
    if context.mode == "first_part":
      shape = mtf.Shape(context.batch_dims)
      context.new_states.append(mtf.zeros(context.mesh, shape))  # score
      context.new_states.append(mtf.zeros(context.mesh, shape))  # has ended
    return self._logits

  def sample(self, logits, dim, temperature=1.0, name=None):
    """Calls `mtf.sample_with_temperature` and scores its choice."""
    ids = self._sample(logits, dim, temperature, name)
    score, ended = self._context.states[-2:]
    score += _slicewise(_log_likelihood, self._logits, ids) * (1.0 - ended)
    ended = mtf.maximum(ended, mtf.to_float(mtf.equal(ids, _EOS)))
    self._context.new_states.extend([score, ended])
    return ids

  def loop(self, *args, **kwargs):
    """Calls `mtf.while_loop` and keeps its last states."""
    outputs = self._loop(*args, **kwargs)
    self.score = outputs[-2]
    return outputs


def _log_likelihood(logits, ids):
  """log softmax(logits)[ids], [batch, vocab] and [batch] to [batch]."""
  chosen = tf.gather(logits, ids, batch_dims=1)
  return chosen - tf.reduce_logsumexp(logits, axis=-1)


def _slicewise(function, logits, ids):
  """Applies a TensorFlow function to logits [<ids>, vocab] and ids: [<ids>]."""
  (found,) = mtf.slicewise(
    function,
    [mtf.cast(logits, tf.float32), ids],
    [ids.shape],
    [tf.float32],
    splittable_dims=ids.shape.dims,
    name="log_likelihood",
  )
  return found


@contextlib.contextmanager
def _watched(decoder):
  watch = _Watch(decoder)
  with (
    mock.patch.object(decoder, "_call_internal", watch.call),
    mock.patch.object(mtf, "sample_with_temperature", watch.sample),
    mock.patch.object(mtf, "while_loop", watch.loop),
  ):
    yield watch


def answers(model, inputs, how: options.Options) -> list:
  """The ids of a model's answers, and their log-likelihood.

  Args:
    model: a transformer.Bitransformer.
    inputs: mtf int32 [batch, length].
    how: the way to decode.

  Returns:
    [ids [batch, outputs], score [batch]], not yet cleaned after EOS; the score
    of a beam is normalized by its length (`log_likelihood_of_beam`).
  """

  def decode():
    return model.decode(
      inputs,
      variable_dtype=_dtypes(),
      beam_size=how.beam_size,
      alpha=how.alpha,
      temperature=how.temperature,
      sampling_keep_top_k=how.top_k,
      max_decode_length=how.outputs,
    )

  if how.beam_size == 1:
    with _watched(model.decoder) as watch:
      return [decode(), watch.score]
  found: list = []
  search = mtf.beam_search.beam_search
  batch = inputs.shape.dims[0]
  # Without a mesh the search differs from an evaluation's: it ignores
  # num_prefilter. Here each sequence has its own device, which is cheapest: a
  # beam's states are looked up only among those of its device.
  mesh = {
    "layout": mtf.LayoutRules([(batch.name, "rows")]),
    "mesh_shape": mtf.Shape([mtf.Dimension("rows", batch.size)]),
    "num_prefilter": how.num_prefilter,
  }

  def beam_search(*args, **kwargs):
    found[:] = search(*args, **{**kwargs, **mesh})
    return found

  with mock.patch.object(mtf.beam_search, "beam_search", beam_search):
    ids = decode()
  beams, scores = found
  beam_dim = beams.shape.dims[-2]
  first = mtf.constant(ids.mesh, 0, dtype=tf.int32)
  return [ids, mtf.gather(scores, first, beam_dim)]


def log_likelihood_of_beam(ids, score, alpha: float):
  """Removes the length normalization from a beam's score.

  Args:
    ids: int32 [batch, length], not cleaned.
    score: float32 [batch], as returned by `mtf.beam_search`: an unfinished
      answer is not normalized.
    alpha: length bonus.

  Returns:
    float32 [batch]
  """
  is_end = tf.equal(ids, _EOS)
  length = 1 + tf.argmax(tf.cast(is_end, tf.int32), axis=-1)
  penalty = ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** alpha
  return tf.where(tf.reduce_any(is_end, axis=-1), score * penalty, score)


def scores(model, inputs, targets):
  """The log-likelihood of given targets, as t5's mode "score".

  Args:
    model: a transformer.Bitransformer.
    inputs: mtf int32 [batch, length].
    targets: mtf int32 [batch, length].

  Returns:
    [score [batch]]
  """
  logits, _ = model.call_simple(
    inputs=inputs,
    targets=targets,
    compute_loss=False,
    mode="score",
    variable_dtype=_dtypes(),
  )
  each = _slicewise(
    lambda x, y: -tf.nn.sparse_softmax_cross_entropy_with_logits(y, x),
    logits,
    targets,
  )
  each *= mtf.to_float(mtf.greater(targets, 0))
  return [mtf.reduce_sum(each, reduced_dim=targets.shape.dims[-1])]
