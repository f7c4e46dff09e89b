"""Patches of the random numbers of training, mainly dropout.

TensorFlow's random operations count how often they ran, and checkpoints do not
include that count: a resumed run would draw the numbers of its first steps
again.
"""

import contextlib

import numpy as np
import tensorflow as tf
from mesh_tensorflow import ops, placement_mesh_impl, simd_mesh_impl
from mesh_tensorflow.transformer import utils

from hypergrid_mtf.compat.wrap import wrap

_PHILOX = 1  # as in RandomUniform and tf.random.Algorithm
# Blocks that RandomUniform uses up for each number that it draws.
_BLOCKS = 256
# Seeds are below 2^31; higher bits distinguish streams.
_HIGH = 2**32
# The stateless equivalents of random operations.
_STATELESS = {
  tf.random.uniform: tf.raw_ops.StatelessRandomUniformV2,
  tf.random.normal: tf.raw_ops.StatelessRandomNormalV2,
}


class _Training:
  """State while the graph of a training step is built."""

  step: tf.Tensor | None = None  # int64 scalar; None for other graphs
  loops: list = []  # while loops around the operation being lowered
  microbatch: tf.Tensor | None = None  # int32 scalar, in a microbatch loop


def patch_random_operations_of_training() -> None:
  """Dropout depends on neither the seed of a run nor its step.

  What: `PlacementMeshImpl.random` draws the seed of each operation from
  Python's own generator, which is not seeded, and from the hash of a string,
  which differs between processes; `SimdMeshImpl.random` (TPUs) has no seed at
  all. If the TensorFlow graph has a seed (Estimators always set one), the seed
  now comes from there, as in TensorFlow's own operations. In a training step
  the numbers also depend on the step, so a resumed run has the same dropout as
  an uninterrupted one. On a CPU or GPU they are those that the counting
  operation draws in a run from step 0.
  Can go: with a mesh_tensorflow that uses TensorFlow's stateless operations.
  """

  @wrap(utils, "tpu_estimator_model_fn")
  def tpu_estimator_model_fn(original, *args, **kwargs):
    model_fn = original(*args, **kwargs)

    # Estimators look at the names of these arguments.
    def by_step(features, labels, mode, params=None, config=None):
      if mode != "train":
        return model_fn(features, labels, mode, params, config)
      step = tf.compat.v1.train.get_global_step()
      # Read here: a read inside a loop cannot be waited for outside of it.
      _Training.step = tf.cast(tf.identity(step), tf.int64)
      try:
        return model_fn(features, labels, mode, params, config)
      finally:
        _Training.step = None

    return by_step

  @wrap(ops.WhileLoopOperation, "lower")
  def lower_loop(original, self, lowering):
    _Training.loops.append(self)
    try:
      return original(self, lowering)
    finally:
      _Training.loops.pop()

  @wrap(ops.RandomOperation, "lower")
  def lower(original, self, lowering):
    _Training.microbatch = _first_variable(lowering)
    try:
      return original(self, lowering)
    finally:
      _Training.microbatch = None

  @wrap(placement_mesh_impl.PlacementMeshImpl, "random")
  def random(original, self, shape, tf_fn, kwargs):
    _, op_seed = tf.compat.v1.get_seed(None)
    if op_seed is None:
      return original(self, shape, tf_fn, kwargs)
    slice_shape = self.slice_shape(shape)

    def draw(pnum):
      # Seeded by where the slice begins: slices of the same values must be
      # equal.
      seed = hash((op_seed, *self.slice_begin(shape, pnum)))
      if _Training.step is None or not _can_be_stateless(tf_fn, kwargs):
        return tf_fn(slice_shape, seed=seed, **kwargs)
      return _draw(tf_fn, slice_shape, tf.compat.v1.get_seed(seed), **kwargs)

    return self.slicewise(draw, self.laid_out_pnum())

  @wrap(simd_mesh_impl.SimdMeshImpl, "random")
  def random_of_core(original, self, shape, tf_fn, kwargs):
    seeds = tf.compat.v1.get_seed(None)
    if (
      seeds[1] is None
      or _Training.step is None
      or not _can_be_stateless(tf_fn, kwargs)
    ):
      return original(self, shape, tf_fn, kwargs)
    # One program runs on all cores, and each draws its own numbers; the
    # original then copies the numbers of slices that must be equal.
    core = tf.cast(self.laid_out_pnum().one_slice, tf.int64)

    def draw(slice_shape, **kwargs):
      return _draw(tf_fn, slice_shape, seeds, core, **kwargs)

    return original(self, shape, draw, kwargs)


def _first_variable(lowering) -> tf.Tensor | None:
  """The microbatch number: the first variable of its loop."""
  if not _Training.loops:
    return None
  first = _Training.loops[-1]._body_inputs[0]
  if first.shape.ndims or not first.dtype.is_integer:
    return None
  with contextlib.suppress(KeyError):
    return lowering.tensors[first].to_laid_out_tensor().tensor_list[0]
  return None


def _can_be_stateless(tf_fn, kwargs) -> bool:
  return (
    tf_fn in _STATELESS
    and tf.as_dtype(kwargs.get("dtype", tf.float32)).is_floating
    and kwargs.keys() <= {"dtype", "minval", "maxval", "name"}
  )


def _draw(
  tf_fn,
  shape,
  seeds,
  core=None,
  dtype=tf.float32,
  minval=0,
  maxval=1,
  name=None,
) -> tf.Tensor:
  """The numbers that a counting operation would draw at a step.

  Args:
    tf_fn: one of _STATELESS.
    shape: shape of the result.
    seeds: (graph seed, operation seed), as from `tf.get_seed`.
    core: int64 scalar, if each core has its own numbers.
    dtype: floating.
    minval: of `tf.random.uniform`.
    maxval: of `tf.random.uniform`.
    name: of the operation.

  Returns:
    a tensor of the shape
  """
  graph_seed, op_seed = seeds
  count = int(np.prod(shape, dtype=np.int64))
  assert _Training.step is not None
  begin = _Training.step * (count * _BLOCKS)
  key = tf.constant([graph_seed], tf.int64)
  if _Training.microbatch is not None:
    key += tf.cast(_Training.microbatch, tf.int64) * _HIGH
  stream = tf.constant(op_seed, tf.int64)
  if core is not None:
    stream += core * _HIGH
  found = _STATELESS[tf_fn](
    shape=shape,
    key=tf.bitcast(key, tf.uint64),
    counter=tf.bitcast(tf.stack([begin, stream]), tf.uint64),
    alg=_PHILOX,
    dtype=dtype,
    name=name,
  )
  if tf_fn is tf.random.uniform and (minval, maxval) != (0, 1):
    found = found * (maxval - minval) + minval
  return found
