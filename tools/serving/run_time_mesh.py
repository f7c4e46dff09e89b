"""Lowers Mesh TensorFlow with batch sizes and lengths known only at run time.

In Mesh TensorFlow every dimension has a size when the graph is built, but a
served model accepts any batch. So its graph is built with placeholder sizes,
large primes that divide no other dimension; where the lowering writes a size
into an operation, a multiple of a placeholder becomes the same multiple of the
actual size. Everything else is Mesh TensorFlow's own: the layers, the loop, the
beams.
"""

import contextlib
import functools
import operator
from unittest import mock

import mesh_tensorflow as mtf
import tensorflow as tf
from mesh_tensorflow import placement_mesh_impl

from hypergrid_mtf import errors

# No tensor is ever that large; they are like names that can be multiplied.
BATCH, INPUTS, TARGETS = 1_000_003, 1_000_033, 1_000_037


class RunTimeMesh(placement_mesh_impl.PlacementMeshImpl):
  """One device, whose sizes are tensors if they have placeholders."""

  class LaidOutVariable:
    """The variable's value, read once, before any loop.

    A look-up in the variable itself would make TensorFlow copy all of it at
    every read: the embedding, in each decoding step.
    """

    copy_master_to_slices = copy_slices_to_master = None

    def __init__(self, variable, mesh_impl):
      value = tf.convert_to_tensor(variable.get_master())
      self.laid_out_tensor = mesh_impl.LaidOutTensor([value])

  def __init__(self, sizes: dict):
    """Creates the mesh.

    Args:
      sizes: {placeholder size: int32 scalar}.
    """
    super().__init__(mtf.Shape([]), mtf.LayoutRules([]), [""])
    self._sizes = sizes
    self._made: dict = {}

  def size_of(self, size: int):
    """A size as an integer, or as a tensor if it is made of placeholders."""
    given = []
    for stand_in, tensor in self._sizes.items():
      while size % stand_in == 0:
        size //= stand_in
        given.append(tensor)
    if not given:
      return size
    # A loop's graph may use tensors outside of it, but not the other way round.
    key = tf.compat.v1.get_default_graph(), size, *map(id, given)
    if key not in self._made:
      factors = given if size == 1 else [*given, size]
      self._made[key] = functools.reduce(operator.mul, factors)
    return self._made[key]

  def static_shape(self, shape: mtf.Shape) -> list:
    """The shape known when the graph is built, with None for the rest."""
    return [
      None if any(d.size % s == 0 for s in self._sizes) else d.size
      for d in shape.dims
    ]

  def slice_shape(self, tensor_shape):
    return [self.size_of(d.size) for d in tensor_shape.dims]

  def slice_size(self, tensor_shape):
    return tensor_shape.size  # only for counters

  def laid_out_size(self, tensor_shape):
    return tensor_shape.size

  def import_tf_tensor(self, x, tf_x):
    if isinstance(x.operation, mtf.ops.RangeOperation):
      tf_x = tf.range(*self.slice_shape(x.shape))
      tf_x = tf.cast(tf_x, x.dtype)
    return super().import_tf_tensor(x, tf_x)

  def random(self, shape, tf_fn, kwargs):
    """Unseeded; otherwise a served model would always draw the same numbers."""
    draw = functools.partial(tf_fn, self.slice_shape(shape), **kwargs)
    return self.slicewise(draw)


class _Lowering(mtf.Lowering):
  """Restores the known part of each tensor's shape."""

  def verify_slice_shapes(self, tensor, laid_out_tensor):
    static = self.mesh_impl(tensor).static_shape(tensor.shape)
    for slice_ in laid_out_tensor.to_laid_out_tensor().all_slices:
      slice_.set_shape(static)


def _lower_constant(self, lowering):
  """Replaces `Constant.lower`, which cannot take a size from a tensor."""
  mesh_impl = lowering.mesh_impl(self)
  (output,) = self.outputs
  value = tf.constant(self._value, output.dtype)
  fill = functools.partial(tf.fill, mesh_impl.slice_shape(output.shape), value)
  lowering.set_tensor_lowering(output, mesh_impl.slicewise(fill))


def _lower_shift(self, lowering):
  """Replaces `ShiftOperation.lower`, which needs the size of its input."""
  mesh_impl = lowering.mesh_impl(self)
  if self._wrap or self._offset < 0:
    raise errors.UserError(
      "this model shifts a tensor circularly or to the left, which "
      "tools.export does not support for a length known only at run time."
    )

  def shift(x):
    paddings = [[0, 0]] * x.shape.rank
    paddings[self._axis] = [self._offset, 0]
    size = tf.unstack(tf.shape(x))
    return tf.slice(tf.pad(x, paddings), [0] * x.shape.rank, size)

  (x,) = self.inputs
  shifted = mesh_impl.slicewise(shift, lowering.tensors[x])
  lowering.set_tensor_lowering(self.outputs[0], shifted)


def _gather(original):
  """`mtf.gather` as a look-up; a product with one-hot rows is slower."""

  def gather(weights, indices, dim, output_shape=None):
    dim = mtf.convert_to_dimension(dim)
    is_table = (
      isinstance(indices, mtf.Tensor)
      and weights.shape.ndims == 2
      and weights.shape.dims[0] == dim
      and weights.shape.dims[1] not in indices.shape.dims
      and output_shape is None
    )
    if not is_table:
      return original(weights, indices, dim, output_shape)
    shape = mtf.Shape(indices.shape.dims + weights.shape.dims[1:])
    (found,) = mtf.slicewise(
      tf.gather,
      [weights, indices],
      [shape],
      [weights.dtype],
      splittable_dims=indices.shape.dims,
      name="gather",
    )
    return found

  return gather


@contextlib.contextmanager
def _patched():
  """Within this context, operations that need static sizes are replaced."""
  with (
    mock.patch.object(mtf.ops.Constant, "lower", _lower_constant),
    mock.patch.object(mtf.ops.ShiftOperation, "lower", _lower_shift),
    mock.patch.object(mtf, "gather", _gather(mtf.gather)),
  ):
    yield


def build(function, features: dict, variables: dict) -> list:
  """Lowers a function of mtf tensors to TensorFlow, for any sizes.

  Args:
    function: takes mtf tensors by name, returns a list of mtf tensors.
    features: {name: (int32 tensor [batch, length], placeholder of the length)}.
    variables: {name: tf.Variable}, instead of those that the model makes.

  Returns:
    a list of tensors

  Raises:
    UserError: if a variable of the model is missing.
  """
  sizes = {}
  for tensor, stand_in in features.values():
    sizes[BATCH], sizes[stand_in] = tf.unstack(tf.shape(tensor))
  graph = mtf.Graph()
  mesh = mtf.Mesh(graph, "served")

  def variable(getter, name, *args, **kwargs):
    del getter, args, kwargs
    if name not in variables:
      raise errors.UserError(f"the checkpoint has no variable {name}.")
    return variables[name]

  with (
    _patched(),
    tf.compat.v1.variable_scope("", custom_getter=variable, reuse=None),
  ):
    imported = {
      name: mtf.import_tf_tensor(
        mesh,
        tensor,
        mtf.Shape(
          [mtf.Dimension("batch", BATCH), mtf.Dimension("length", stand_in)]
        ),
        name=name,
      )
      for name, (tensor, stand_in) in features.items()
    }
    outputs = [mtf.anonymize(y) for y in function(**imported)]
    lowering = _Lowering(graph, {mesh: RunTimeMesh(sizes)}, autostack=False)
    return [lowering.export_to_tf_tensor(y) for y in outputs]
