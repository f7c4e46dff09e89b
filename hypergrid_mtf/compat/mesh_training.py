"""Patches of what mesh_tensorflow's training computes and writes."""

import os
import tempfile

import gin.tf
import mesh_tensorflow as mtf
import tensorflow as tf
from mesh_tensorflow import placement_mesh_impl
from mesh_tensorflow.transformer import utils

from hypergrid_mtf.compat.wrap import wrap


def patch_updates_before_reads() -> None:
  """On a CPU a training step reads variables that it has already updated.

  What: reading a variable shares its buffer, and nothing in mesh_tensorflow's
  graph makes an update wait for the backward pass of the layers below, or for
  another optimizer slot. So gradients mix old and new weights, depending on
  thread timing: two runs with the same seed differ from the first step on, and
  learn more slowly than they should. Updates on a PlacementMeshImpl (CPU, GPU)
  now wait for all new values; TPUs keep their graph.
  Can go: with a mesh_tensorflow whose `Assign` waits for the reads.
  """

  def all_new_values(lowering):
    return [
      value
      for assign in lowering.graph.operations
      if isinstance(assign, mtf.Assign)
      for x in assign.inputs
      if x in lowering.tensors  # Assigns that others depend on come earlier
      for value in lowering.tensors[x].to_laid_out_tensor().all_slices
    ]

  @wrap(mtf.Assign, "lower")
  def lower(original, self, lowering):
    mesh_impl = lowering.mesh_impl(self)
    if not isinstance(mesh_impl, placement_mesh_impl.PlacementMeshImpl):
      return original(self, lowering)
    # One operation in between: n updates waiting for n values would be n * n
    # edges.
    with tf.control_dependencies([tf.group(*all_new_values(lowering))]):
      return original(self, lowering)


def patch_step_counter_before_reads() -> None:
  """On a CPU the step counter may be read after it was incremented.

  What: Adafactor's learning rate and decay read it, and nothing made the
  increment wait for them. Now it does; TPUs keep their graph.
  Can go: with a mesh_tensorflow that increments it after the updates.
  """

  def order_step_counter(graph):
    # An Estimator's counter is a resource; a reference variable has no such
    # users.
    counter = tf.compat.v1.train.get_global_step(graph).op.outputs[0]
    users = counter.consumers()
    reads = [op for op in users if op.type == "ReadVariableOp"]
    for op in users:
      if op.type == "AssignAddVariableOp":
        # Except reads of the incremented value.
        op._add_control_inputs([r for r in reads if op not in r.control_inputs])

  @wrap(utils, "tpu_estimator_model_fn")
  def tpu_estimator_model_fn(original, *args, **kwargs):
    model_fn = original(*args, **kwargs)

    # Estimators inspect the names of these arguments.
    def ordered(features, labels, mode, params=None, config=None):
      spec = model_fn(features, labels, mode, params, config)
      # A spec for TPUs has another class.
      if isinstance(spec, tf.estimator.EstimatorSpec) and spec.mode == "train":
        order_step_counter(spec.train_op.graph)
      return spec

    return ordered


def patch_saved_configuration() -> None:
  """A full disk, or a kill at the wrong moment, empties operative_config.gin.

  What: gin's hook overwrites it each time a training starts, so a failed write
  loses the earlier one, and a training cannot resume without its configuration.
  It is now written to a temporary file and renamed.
  Can go: with a gin that does the same.
  """

  @wrap(gin.tf.GinConfigSaverHook, "after_create_session")
  def after_create_session(original, self, session=None, coord=None):
    folder = self._output_dir
    if self._summarize_config and not self._summary_writer:
      self._summary_writer = tf.compat.v1.summary.FileWriterCache.get(folder)
    with tempfile.TemporaryDirectory() as place:
      self._output_dir = place
      try:
        original(self, session, coord)
      finally:
        self._output_dir = folder
      tf.io.gfile.makedirs(folder)
      for name in os.listdir(place):
        path = os.path.join(folder, name)
        part = f"{path}.tmp{os.urandom(16).hex()}"
        tf.io.gfile.copy(os.path.join(place, name), part)
        tf.io.gfile.rename(part, path, overwrite=True)
