"""Writes what t5 runs on a TPU as a program of XLA (HLO).

Nothing is copied: `utils.run` makes the TPUEstimator with `use_tpu`, on a TPU
that is only described to it, and its own model function builds the graph, which
Mesh TensorFlow's SimdMeshImpl lowers. What changes is at the edges:

* a core's slices of the variables are arguments, their new values results;
* features and step counter are arguments (all cores get the whole batch, which
  is how t5 feeds a TPU, and each takes its part);
* the collectives of a TPU, which TensorFlow's XLA for CPUs does not know, are
  marked custom calls; `compiler` makes them StableHLO's.

What runs on the host is left out: the infeed, summaries and checkpoints. The
learning rate, computed on the host of a TPU, is a few scalars of the program.
"""

import contextlib
import dataclasses
import functools
import inspect
import json
import math
import types
from unittest import mock

import mesh_tensorflow as mtf
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from mesh_tensorflow import simd_mesh_impl
from mesh_tensorflow.transformer import utils
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.eager import context as eager
from tensorflow_estimator.python.estimator.tpu import tpu_context

from hypergrid_mtf.launch import meshes
from tools.cost import benchmark_cases as cases
from tools.cost import benchmark_worker
from tools.cost.tpu import compiler


@dataclasses.dataclass(frozen=True)
class Request:
  """A program.

  Attributes:
    job: size, model and step.
    mesh: over which it is spread.
    cores: coordinates [x, y, z, core] of the TPU's cores, as many as the mesh.
  """

  job: benchmark_worker.Job
  mesh: meshes.Mesh
  cores: list[list[int]]


class _Slices:
  """What became of the variables of a mesh, on one core.

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
    _number(mesh_impl)  # before the first loop, and not inside
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
  """In place of TensorFlow's operations for TPUs: marked custom calls."""

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


def _metadata(cores) -> tf.tpu.experimental.TPUSystemMetadata:
  """What a TPU of these cores would tell TPUEstimator."""
  places = np.array(cores)
  # A host has a square of chips, and all cores of each.
  of_host: dict = {}
  for x, y, z, core in places.tolist():
    of_host.setdefault((z, y // 2, x // 2), []).append([x, y, z, core])
  hosts = [of_host[h] for h in sorted(of_host)]
  sizes = {len(h) for h in hosts}
  if len(sizes) > 1:
    raise ValueError(f"hosts of {sorted(sizes)} cores")
  for host in hosts:  # the order of TensorFlow: core, then x, then y
    host.sort(key=lambda c: (c[2], c[1], c[0], c[3]))
  topology = tf.tpu.experimental.Topology(
    mesh_shape=(places.max(0) + 1).tolist(),
    device_coordinates=np.array(hosts),
  )
  return tf.tpu.experimental.TPUSystemMetadata(
    num_cores=len(cores),
    num_hosts=len(hosts),
    num_of_cores_per_host=sizes.pop(),
    topology=topology,
    devices=[],
  )


@contextlib.contextmanager
def _patched(cores, slices):
  """Mesh TensorFlow as the edges of the program need it."""
  per_chip = max(core for *_, core in cores) + 1
  given = types.SimpleNamespace(logical_cores_per_chip=per_chip, fold_xy=False)
  sliced = functools.partial(_Slice, slices)
  before = tf.control_flow_v2_enabled()
  tf.enable_control_flow_v2()  # loops are functions, which XLA takes
  try:
    with (
      mock.patch.object(simd_mesh_impl.SimdMeshImpl, "LaidOutVariable", sliced),
      mock.patch.object(
        simd_mesh_impl.SimdMeshImpl, "pnum_tensor", property(_number)
      ),
      mock.patch.object(simd_mesh_impl, "tpu_ops", _Collectives),
      mock.patch.object(simd_mesh_impl, "FLAGS", given),
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


def _call_model_fn(estimator, mode, features, cores):
  """The TPUEstimatorSpec of one core, and the device assignment."""
  internal = estimator._ctx
  with internal.with_mode(mode) as context:
    master = context._get_master_address()
    context._lazy_tpu_system_metadata_dict[master] = _metadata(cores)
    context._validate_tpu_configuration()
    # TPUEstimator's own wrapper goes on to the infeed and a session.
    wrapped = inspect.getclosurevars(estimator._model_fn).nonlocals["model_fn"]
    given = tpu_context.TPUContext(context, call_from_input_fn=False)
    spec = wrapped(
      features, None, mode, params={"context": given}, config=estimator.config
    )
    return spec, context.device_assignment


def write(request: Request, path: str) -> dict:
  """Builds the program and writes it.

  Args:
    request: what to build.
    path: of the HLO.

  Returns:
    what the compile process, and a reader, must know: "arguments" and
    "results" ({"kind", "name", "shape", "dtype"}, in the order of the program;
    a variable also has "masters", its variables in a checkpoint, "stacked" or
    not, and "split", {dimension: axis of the mesh}; a new value "argument", the
    number of the old one), "replicas", "mesh", "layout", "cores" (of each
    replica), "logical" (each replica's number in the mesh), "operations" of
    TensorFlow, "parameters" of the model, "loop" (microbatches, or tokens that
    are decoded)

  Raises:
    UserError: for bindings that describe no model.
  """
  benchmark_worker.bind(request.job)
  case = request.job.case
  mode = benchmark_worker.MODES[case.name]
  estimator = benchmark_worker.estimator(case, tpu="local")
  graph, slices = tf.Graph(), _Slices()
  with graph.as_default(), _patched(request.cores, slices):
    estimator._create_global_step(graph)
    features = {
      name: tf.placeholder(tf.int32, ids.shape, name=f"feature_{name}")
      for name, ids in cases.features(case).items()
    }
    spec, assignment = _call_model_fn(
      estimator, mode, dict(features), request.cores
    )
  mesh_impl = slices.mesh_impl
  arguments, results = [], []
  for variable, piece in slices.arguments.values():
    arguments.append((piece, _describe(variable, mesh_impl)))
  for name, tensor in features.items():
    arguments.append((tensor, dict(kind="feature", name=name)))
  fetched = {"loss": spec.loss} if spec.loss is not None else {}
  if mode == tf.estimator.ModeKeys.EVAL:
    fetched |= {f"metric_{i}": t for i, t in enumerate(spec.eval_metrics[1])}
  fetched |= spec.predictions or {}
  for name, tensor in fetched.items():
    results.append((tensor, dict(kind="output", name=name)))
  for i, (name, (variable, _)) in enumerate(slices.arguments.items()):
    if name in slices.updated:
      new = _describe(variable, mesh_impl) | dict(argument=i)
      results.append((slices.updated[name], new))
  step = _lower(graph, arguments, [t for t, _ in results], path)
  described = [
    d | dict(shape=t.shape.as_list(), dtype=t.dtype.base_dtype.name)
    for t, d in arguments
  ]
  return {
    "arguments": described + step,
    "results": [
      d | dict(shape=t.shape.as_list(), dtype=t.dtype.name) for t, d in results
    ],
    "replicas": mesh_impl.size,
    "mesh": [[d.name, d.size] for d in mesh_impl.shape.dims],
    "layout": sorted(map(list, request.mesh.layout)),
    "cores": [
      [int(n) for n in assignment.coordinates(i, 0)]
      for i in range(mesh_impl.size)
    ],
    "logical": list(mesh_impl._physical_to_logical),
    "operations": len(graph.get_operations()),
    "parameters": sum(
      math.prod(v.shape.to_integer_list)
      for v, _ in slices.arguments.values()
      if v.trainable
    ),
    "loop": _loop(case, mode, mesh_impl),
  }


def _loop(case, mode, mesh_impl) -> int:
  """How often the loop of Mesh TensorFlow runs, if there is one."""
  if mode == tf.estimator.ModeKeys.PREDICT:
    return case.targets
  if mode != tf.estimator.ModeKeys.TRAIN:
    return 1
  return utils.serialize_num_microbatches(
    mtf.Dimension("batch", case.batch),
    {"inputs": case.inputs, "targets": case.targets},
    mesh_impl.shape,
    mesh_impl.layout_rules,
  )


def _describe(variable, mesh_impl) -> dict:
  layout = mesh_impl.tensor_layout(variable.outputs[0].shape)
  split = {
    i: axis
    for i, axis in enumerate(layout.tensor_axis_to_mesh_axis)
    if axis is not None
  }
  stacked = isinstance(variable, mtf.ops.StackedVariable)
  names = variable.original_names if stacked else [variable.name]
  return dict(
    kind="variable",
    name=variable.name,
    masters=list(names),
    stacked=stacked,
    split=split,
  )


def _lower(graph, arguments, results, path) -> list[dict]:
  """Writes the HLO of some tensors of a graph as a function of others.

  Args:
    graph: a tf.Graph.
    arguments: [(placeholder, description)].
    results: tensors.
    path: of the file.

  Returns:
    descriptions of further arguments: variables that t5 reads from the host,
    which is the step counter.
  """
  names_in = [t.op.name for t, _ in arguments]
  names_out = [t.name for t in results]
  nodes = tf.graph_util.extract_sub_graph(
    graph.as_graph_def(), sorted({n.split(":")[0] for n in names_out})
  )
  kept, hosted = [], {}
  for node in nodes.node:
    node.device = ""
    node.attr.pop("_class", None)
    if node.op == "ReadVariableOp":
      handle = node.input[0].split(":")[0]
      kind = tf.as_dtype(node.attr["dtype"].type)
      shape = graph.get_tensor_by_name(f"{node.name}:0").shape
      hosted[handle] = tf2.TensorSpec(shape, kind, name=handle)
      # It reads the argument that stands for the variable.
      del node.input[:]
      node.input.append(f"{handle}_argument")
      node.op = "Identity"
      node.attr.clear()
      node.attr["T"].type = kind.as_datatype_enum
    kept.append(node)
  drop = {*names_in, *hosted}
  kept = [n for n in kept if n.name not in drop]
  del nodes.node[:]
  nodes.node.extend(kept)
  reads = {i.split(":")[0].lstrip("^") for n in kept for i in n.input}
  inputs = [*names_in, *(f"{h}_argument" for h in hosted)]

  def program(*args):
    given = dict(zip(inputs, args, strict=True))
    return tf.graph_util.import_graph_def(
      nodes,
      input_map={f"{n}:0": a for n, a in given.items() if n in reads},
      return_elements=names_out,
      name="",
    )

  signature = [tf2.TensorSpec(t.shape, t.dtype) for t, _ in arguments]
  signature += [tf2.TensorSpec(s.shape, s.dtype) for s in hosted.values()]
  with eager.eager_mode():
    function = tf2.function(
      program, jit_compile=True, input_signature=signature
    )
    hlo = function.experimental_get_compiler_ir(*signature)(
      stage="hlo_serialized", device_name="/device:CPU:0"
    )
  with open(path, "wb") as f:
    f.write(hlo)
  return [
    dict(
      kind="host variable",
      name=s.name,
      shape=s.shape.as_list(),
      dtype=s.dtype.name,
    )
    for s in hosted.values()
  ]
