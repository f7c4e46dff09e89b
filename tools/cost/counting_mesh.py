"""A TPU mesh that is only lowered to, and counts what it would send."""

import contextlib
import types

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf

ALLREDUCE = "allreduce"
# The operation that a collective of SimdMeshImpl ends in.
_SENT_BY = ("CrossReplicaSum", "AllToAll", "CollectivePermute")


class CountingMeshImpl(mtf.simd_mesh_impl.SimdMeshImpl):
  """A TPU mesh that is only lowered to, and counts what it would send.

  Kinds are named by what Mesh TensorFlow asked for, although on a TPU all but
  alltoall and permute are sums over devices: "allreduce"; "reduce" (a maximum
  or minimum, by an allconcat); "random" (agreeing on random numbers);
  "allconcat"; "alltoall"; "permute" (shift).

  Attributes:
    sent: {(kind, mesh axes joined by "+"): [collectives, bytes a device]}
    times: how often what is lowered now will run in one step.
  """

  def __init__(self, shape, layout):
    """Makes a mesh.

    Args:
      shape: an input to mtf.convert_to_shape.
      layout: an input to mtf.convert_to_layout_rules.
    """
    super().__init__(shape, layout, None, _Devices())
    self.sent = {}
    self.times = 1
    self._inside = None

  class LaidOutVariable(mtf.simd_mesh_impl.SimdMeshImpl.LaidOutVariable):
    """One slice instead of one for each device: most of the time goes there."""

    def __init__(self, variable, mesh_impl):
      self._variable = variable
      self._mesh_impl = mesh_impl
      shape = mesh_impl.slice_shape(variable.outputs[0].shape)
      piece = tf.Variable(
        tf.zeros(shape, variable.slice_dtype),
        trainable=False,
        collections=[],
        name=variable.name + "_slice",
      )
      self._laid_out_tensor = mesh_impl.LaidOutTensor([piece])
      self._copy_master_to_slices = tf.no_op()
      self._copy_slices_to_master = tf.no_op()

  def allreduce(self, x, mesh_axes, reduction_fn_string):
    """As in SimdMeshImpl, counted."""
    x = x.to_laid_out_tensor()  # a sum that it still owes has its own kind
    if reduction_fn_string != "SUM":
      with self._kind("reduce"):
        return super().allreduce(x, mesh_axes, reduction_fn_string)
    result = super().allreduce(x, mesh_axes, reduction_fn_string)
    self._count(ALLREDUCE, mesh_axes, result)
    return result

  def allconcat(self, x, mesh_axis, concat_axis, stack=False):
    """As in SimdMeshImpl, counted."""
    x = x.to_laid_out_tensor()  # a sum that it still owes has its own kind
    with self._kind("allconcat"):
      return super().allconcat(x, mesh_axis, concat_axis, stack)

  def random(self, shape, tf_fn, kwargs):
    """As in SimdMeshImpl, counted."""
    with self._kind("random"):
      return super().random(shape, tf_fn, kwargs)

  def alltoall(self, x, mesh_axis, split_axis, concat_axis):
    """As in SimdMeshImpl, counted."""
    result = super().alltoall(x, mesh_axis, split_axis, concat_axis)
    self._count("alltoall", [mesh_axis], result)
    return result

  def receive(self, x, mesh_axis, source_pcoord):
    """As in SimdMeshImpl, counted."""
    result = super().receive(x, mesh_axis, source_pcoord)
    if any(source is not None for source in source_pcoord):
      self._count("permute", [mesh_axis], result)
    return result

  @contextlib.contextmanager
  def _kind(self, name):
    """Gives the name to collectives inside, unless an outer one has its own."""
    before, self._inside = self._inside, self._inside or name
    try:
      yield
    finally:
      self._inside = before

  def _count(self, kind, mesh_axes, result):
    axes = [self.shape[a] for a in sorted(mesh_axes)]
    axes = [axis for axis in axes if axis.size > 1]
    if not axes:
      return  # a group of one device sends nothing
    operation = result.one_slice.op
    while operation.type not in _SENT_BY:  # a cast back to the type before
      operation = operation.inputs[0].op
    tensor = operation.inputs[0]
    key = (self._inside or kind, "+".join(axis.name for axis in axes))
    entry = self.sent.setdefault(key, [0, 0])
    entry[0] += self.times
    entry[1] += tensor.shape.num_elements() * tensor.dtype.size * self.times


class Context:
  """A TPUEstimator's context of a pod that is not there."""

  num_hosts = 1

  def __init__(self, cores: int):
    """Makes one.

    Args:
      cores: of the pod.
    """
    self.num_replicas = cores
    self.device_assignment = _Devices()
    self.device_assignment.topology.mesh_shape = [cores]

  def tpu_host_placement_function(self, host_id):
    """Where the variables are."""
    del host_id
    return "/device:CPU:0"


class _Devices:
  """A device assignment of such a pod."""

  def __init__(self):
    self.topology = types.SimpleNamespace()

  def tpu_device(self, replica):
    del replica
    return ""
