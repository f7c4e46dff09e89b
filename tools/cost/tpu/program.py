"""Writes t5's TPU program as an XLA program (HLO).

Nothing is reimplemented: `utils.run` makes the TPUEstimator with `use_tpu`, for
a described TPU, its own model function builds the graph, and Mesh TensorFlow's
SimdMeshImpl lowers it. Only the interface changes:

* a core's slices of the variables are arguments, their new values results;
* features and step counter are arguments (all cores get the whole batch, which
  is how t5 feeds a TPU, and each takes its part);
* the collectives of a TPU, which TensorFlow's XLA for CPUs does not know, are
  marked custom calls; `compiler` makes them StableHLO's.

The host's part is left out: the infeed, summaries and checkpoints. The learning
rate, which a TPU's host computes, is part of the program: a few scalars.
"""

import dataclasses
import inspect
import math

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils
from tensorflow_estimator.python.estimator.tpu import tpu_context

from hypergrid_mtf.run import config
from hypergrid_mtf.run import mesh as mesh_lib
from tools.cost import steps
from tools.cost.tpu import described, edges, hlo


@dataclasses.dataclass(frozen=True)
class Request:
  """A program.

  Attributes:
    job: a step of a model.
    mesh: the mesh over which it is spread.
    cores: coordinates [x, y, z, core] of the TPU's cores, one per device of the
      mesh.
    repeats: how many times the blocks of the job's stacks the model has, whose
      part the job is.
  """

  job: steps.Job
  mesh: mesh_lib.Mesh
  cores: list[list[int]]
  repeats: float = 1


def _call_model_fn(estimator, mode, features, cores):
  """The TPUEstimatorSpec of one core, and the device assignment."""
  internal = estimator._ctx
  with internal.with_mode(mode) as context:
    master = context._get_master_address()
    context._lazy_tpu_system_metadata_dict[master] = described.metadata(cores)
    context._validate_tpu_configuration()
    # TPUEstimator's own wrapper would continue with the infeed and a session.
    wrapped = inspect.getclosurevars(estimator._model_fn).nonlocals["model_fn"]
    given = tpu_context.TPUContext(context, call_from_input_fn=False)
    spec = wrapped(
      features, None, mode, params={"context": given}, config=estimator.config
    )
    return spec, context.device_assignment


def write(request: Request, path: str) -> dict:
  """Builds the program and writes its HLO to a path.

  Returns:
    what the compile process, and a reader, must know: "arguments" and "results"
    ({"kind", "name", "shape", "dtype"}, in the order of the program; a variable
    also has "masters", its variables in a checkpoint, "stacked" or not, and
    "split", {dimension: axis of the mesh}; a new value "argument", the number
    of the old one), "replicas", "mesh", "cores" (of each replica), "logical"
    (each replica's number in the mesh), "parameters" of the model, "loop"
    (microbatches, or tokens that are decoded)

  Raises:
    UserError: for bindings that describe no model.
  """
  request.job.bind()
  case = request.job.case
  mode = steps.MODES[case.name]
  estimator = steps.make_estimator(case, tpu="local")
  graph, slices = tf.Graph(), edges.Slices()
  patched = edges.patched(request.cores, slices, request.repeats)
  with graph.as_default(), patched:
    estimator._create_global_step(graph)
    features = {
      name: tf.placeholder(tf.int32, ids.shape, name=f"feature_{name}")
      for name, ids in steps.make_features(case).items()
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
  hosted = hlo.write(graph, arguments, [t for t, _ in results], path)
  described = [
    d | dict(shape=t.shape.as_list(), dtype=t.dtype.base_dtype.name)
    for t, d in arguments
  ]
  return {
    "arguments": described + hosted,
    "results": [
      d | dict(shape=t.shape.as_list(), dtype=t.dtype.name) for t, d in results
    ],
    "replicas": mesh_impl.size,
    "mesh": [[d.name, d.size] for d in mesh_impl.shape.dims],
    "cores": [
      [int(n) for n in assignment.coordinates(i, 0)]
      for i in range(mesh_impl.size)
    ],
    "logical": list(mesh_impl._physical_to_logical),
    "parameters": sum(
      math.prod(v.shape.to_integer_list)
      for v, _ in slices.arguments.values()
      if v.trainable
    ),
    "loop": _loop(case, mode, mesh_impl),
  }


def _loop(case, mode, mesh_impl) -> int:
  """How often Mesh TensorFlow's loop runs, if there is one."""
  if case.name == "decode":
    bound = config.value("Bitransformer.decode.max_decode_length")
    return bound or case.inputs
  if mode != tf.estimator.ModeKeys.TRAIN:
    return 1
  return utils.serialize_num_microbatches(
    mtf.Dimension("batch", case.batch),
    case.lengths,
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
