"""The interface of a TPU program, which replaces what only a real TPU has.

A core's slices of the variables are arguments of the program, the collectives
are marked custom calls, and a core's number in the mesh is XLA's replica id.
"""

import contextlib
import functools
import json
import types
from unittest import mock

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow import simd_mesh_impl
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from tools.cost.tpu import compiler


class Slices:
  """The variables of a mesh on one core, as arguments and results.

  Attributes:
    mesh_impl: t5's mesh.
    arguments: {name: (mtf.Variable, placeholder)}
    updated: {name: tf.Tensor}
  """

  def __init__(self):
    self.mesh_impl: simd_mesh_impl.SimdMeshImpl = None
    self.arguments: dict = {}
    self.updated: dict = {}


class _Slice(simd_mesh_impl.SimdMeshImpl.LaidOutVariable):
  """A core's slice of a variable, as an argument."""

  def __init__(self, slices, variable, mesh_impl):
    slices.mesh_impl = mesh_impl
    _number(mesh_impl)  # before the first loop, not inside one
    shape = mesh_impl.slice_shape(variable.outputs[0].shape)
    piece = tf.placeholder(variable.slice_dtype, shape)
    slices.arguments[variable.name] = variable, piece
    self._slices = slices
    self._variable = variable
    self._laid_out_tensor = mesh_impl.LaidOutTensor([piece])
    self._copy_master_to_slices = tf.no_op()
    self._copy_slices_to_master = tf.no_op()

  def assign_to_slices(self, assign_fn, values, assign_to_tensor_list=None):
    """Keeps the new value."""
    del assign_to_tensor_list
    updated = self._slices.updated
    (old,) = self._laid_out_tensor.tensor_list
    old = updated.get(self._variable.name, old)
    new = tf.cast(values[0], old.dtype)
    updated[self._variable.name] = {
      mtf.ops.assign_slice: lambda: new,
      mtf.ops.assign_add_slice: lambda: old + new,
      mtf.ops.assign_sub_slice: lambda: old - new,
    }[assign_fn]()
    return tf.no_op()


def _number(mesh_impl):
  """The core's number in the mesh: SimdMeshImpl.pnum_tensor."""
  if mesh_impl._pnum_tensor is None:
    mesh_impl._pnum_tensor = tf.gather(
      tf.constant(mesh_impl._physical_to_logical, tf.int32),
      tf.cast(gen_xla_ops.xla_replica_id(), tf.int32),
    )
  return mesh_impl._pnum_tensor


class _Collectives:
  """Marked custom calls that replace TensorFlow's operations for TPUs."""

  @staticmethod
  def cross_replica_sum(x, group_assignment=None, name=None):
    del name
    return _marked(compiler.ALL_REDUCE, x, x.shape, _lists(group_assignment))

  @staticmethod
  def all_to_all(
    x, concat_dimension, split_dimension, split_count, group_assignment=None
  ):
    shape = x.shape.as_list()
    shape[split_dimension] //= split_count
    shape[concat_dimension] *= split_count
    config = dict(
      groups=_lists(group_assignment),
      split=split_dimension,
      concat=concat_dimension,
    )
    return _marked(compiler.ALL_TO_ALL, x, shape, config)

  @staticmethod
  def collective_permute(x, source_target_pairs, name=None):
    del name
    return _marked(compiler.PERMUTE, x, x.shape, _lists(source_target_pairs))


def _lists(rows) -> list[list[int]]:
  return [[int(n) for n in row] for row in rows]


def _marked(target, x, shape, config):
  (y,) = gen_xla_ops.xla_custom_call_v2(
    [x],
    call_target_name=target,
    backend_config=json.dumps(config),
    has_side_effect=False,
    result_dtypes=[x.dtype],
    result_shapes=[tf.TensorShape(shape)],
  )
  return y


def combine_variables(repeats: float, lowering: mtf.Lowering) -> None:
  """Mesh TensorFlow's `Lowering.autostack` of a model with more blocks.

  From 65,536 slices on, it combines large variables too, and XLA then makes
  casts and copies of them that it fuses otherwise.

  Args:
    repeats: how many times the blocks of this model's stacks that one has.
    lowering: of this model.
  """
  slices = sum(
    lowering.mesh_to_impl[v.mesh].size * (repeats if "/block_" in v.name else 1)
    for v in lowering.graph.all_variables
  )
  lowering.graph.rewrite_stack_variables(
    mesh_to_impl=lowering.mesh_to_impl,
    max_combined_slice_size=2 ** (27 if slices >= 2**16 else 16),
  )


@contextlib.contextmanager
def patched(cores, slices: Slices, repeats: float = 1):
  """Within this context, Mesh TensorFlow lowers to such a program.

  Args:
    cores: coordinates [x, y, z, core on its chip].
    slices: filled while a graph is lowered.
    repeats: as of `combine_variables`.
  """
  per_chip = max(core for *_, core in cores) + 1
  given = types.SimpleNamespace(logical_cores_per_chip=per_chip, fold_xy=False)
  sliced = functools.partial(_Slice, slices)
  before = tf.control_flow_v2_enabled()
  tf.enable_control_flow_v2()  # makes loops functions, which XLA accepts
  try:
    with (
      mock.patch.object(simd_mesh_impl.SimdMeshImpl, "LaidOutVariable", sliced),
      mock.patch.object(
        simd_mesh_impl.SimdMeshImpl, "pnum_tensor", property(_number)
      ),
      mock.patch.object(simd_mesh_impl, "tpu_ops", _Collectives),
      mock.patch.object(simd_mesh_impl, "FLAGS", given),
      mock.patch.object(
        mtf.Lowering,
        "autostack",
        lambda lowering: combine_variables(repeats, lowering),
      ),
      contextlib.ExitStack() as stack,
    ):
      if len(cores) == 1:  # it asserts that there are two
        one = mock.patch.object(
          simd_mesh_impl, "auto_logical_to_physical_tpu", lambda *a, **k: [0]
        )
        stack.enter_context(one)
      yield
  finally:
    if not before:
      tf.disable_control_flow_v2()
