"""Writes one feed-forward layer as a program of a TPU core: seconds a try.

The layer is the first of the encoder that the gin files describe, called as
Unitransformer calls it, and lowered as t5's whole step is (`program`). Its
variables are arguments; y and, in training, all gradients are results.
"""

import dataclasses
import hashlib

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow import simd_mesh_impl
from mesh_tensorflow.transformer import (
  transformer,
  transformer_layers,
  utils,
)
from tensorflow.compiler.xla.service import hlo_pb2

from hypergrid_mtf import errors, layers
from hypergrid_mtf.run import gin_model
from tools.cost import models
from tools.cost.tpu import edges, hlo

STEPS = ("train", "eval", "decode")
_MODES = {
  "train": tf.estimator.ModeKeys.TRAIN,
  "eval": tf.estimator.ModeKeys.EVAL,
  "decode": "incremental",
}


@dataclasses.dataclass(frozen=True)
class Case:
  """What a layer is given, on one core.

  Attributes:
    size: one of models.sizes().
    step: "train" (forward and backward), "eval" (forward), or "decode" (forward
      of one token a row, whose gate was made before).
    packed: several examples a row.
    batch: rows.
    tokens: of a row.
    activation_dtype: "bfloat16" or "float32".
    given_gate: the gate is an argument, and not made in the layer.
    gin_params: further bindings.
  """

  size: str = "base"
  step: str = "train"
  packed: bool = False
  batch: int = 8
  tokens: int = 512
  activation_dtype: str = "bfloat16"
  given_gate: bool = False
  gin_params: tuple[str, ...] = ()


class _Arguments:
  """A graph's mesh, and what is given to its program."""

  def __init__(self, dtype: tf.DType):
    # The layer knows a TPU by it.
    placer = mtf.utils.BalancedVariablePlacer(["/device:CPU:0"], [0])
    self.mesh = mtf.Mesh(mtf.Graph(), "mesh", placer)
    self.dtype = dtype
    self.given: list[tuple[tf.Tensor, dict]] = []

  def add(self, name: str, shape, dtype: tf.DType | None = None) -> mtf.Tensor:
    """A new argument."""
    shape = mtf.convert_to_shape(shape)
    tensor = tf.placeholder(dtype or self.dtype, shape.to_integer_list, name)
    self.given.append((tensor, dict(kind="feature", name=name)))
    return mtf.import_fully_replicated(self.mesh, tensor, shape, name)


def _call(arguments: _Arguments, case: Case, stack):
  """The layer's inputs that have a gradient, by name, and y."""
  layer = next(
    layer
    for layer in stack.layer_stack.layers
    if isinstance(layer, transformer_layers.DenseReluDense)
  )
  # As in t5's models, whose batches have an outer part too.
  sizes = {"outer_batch": 1, "batch": case.batch}
  batch_dims = [mtf.Dimension(name, size) for name, size in sizes.items()]
  length_dim = mtf.Dimension("length", case.tokens)
  row = [*batch_dims, length_dim, stack.model_dim]
  sequence_id: mtf.Tensor | int = 1  # one example a row
  gated = isinstance(layer, layers.HyperGrid)
  if case.packed and gated:
    sequence_id = arguments.add("segmentation", row[:-1], tf.int32)
  context = transformer.Context(
    model=stack,
    mesh=arguments.mesh,
    batch_dims=batch_dims,
    length_dim=length_dim,
    variable_dtype=utils.get_variable_dtype(),
    mode=_MODES[case.step],
    sequence_id=sequence_id,
  )
  if case.step == "decode":
    x = arguments.add("x", [*batch_dims, stack.model_dim])
    if gated:
      gate = layer.make_gate(context, mtf.zeros(x.mesh, row, x.dtype))
      context.constant_states = [arguments.add("gate", gate.shape)]
    return {"x": x}, layer.call(context, x)
  inputs = {"x": arguments.add("x", row)}
  if not (case.given_gate and gated):
    return inputs, layer.call(context, inputs["x"])
  inputs["gate"] = arguments.add(
    "gate", layer.make_gate(context, inputs["x"]).shape
  )
  layer.make_gate = lambda *_: inputs["gate"]
  return inputs, layer.call(context, inputs["x"])


def write(
  case: Case, setting: models.Setting, core: list[int], path: str
) -> dict:
  """Builds a layer's program and writes it.

  Args:
    case: what is held fixed.
    setting: the model.
    core: coordinates [x, y, z, core] of a core of a TPU.
    path: of the HLO.

  Returns:
    as `program.write`, less what a whole step has; "sha256" is of the program

  Raises:
    UserError: for what describes no model, or an order that cannot serve it.
  """
  bindings = [
    f'utils.get_variable_dtype.activation_dtype = "{case.activation_dtype}"',
    'utils.get_variable_dtype.slice_dtype = "float32"',
    *setting.gin_params,
    *case.gin_params,
  ]
  slices = edges.Slices()
  with (
    gin_model.configured(
      [f"models/{case.size}.gin", *setting.gin_files],
      bindings,
      models.VOCAB_SIZE,
      trains=True,
    ) as model,
    tf.Graph().as_default() as graph,
    edges.patched([core], slices),
  ):
    if not hasattr(model, "encoder"):
      raise errors.UserError(
        f"models/{case.size}.gin has no encoder: choose another --size."
      )
    arguments = _Arguments(tf.as_dtype(case.activation_dtype))
    with tf.variable_scope("layer"):
      inputs, y = _call(arguments, case, model.encoder)
    results = {"y": y}
    if case.step == "train":
      dy = arguments.add("dy", y.shape)
      variables = arguments.mesh.graph.trainable_variables
      inputs |= {v.name: v.outputs[0] for v in variables}
      grads = mtf.gradients([y], list(inputs.values()), [dy])
      results |= {
        f"d_{name}": grad
        for name, grad in zip(inputs, grads, strict=True)
        if grad is not None
      }
    impl = simd_mesh_impl.SimdMeshImpl("", "")
    lowering = mtf.Lowering(
      arguments.mesh.graph, {arguments.mesh: impl}, autostack=False
    )
    given = list(arguments.given)
    given += [
      (piece, dict(kind="variable", name=name))
      for name, (_, piece) in slices.arguments.items()
    ]
    fetched = [
      (lowering.export_to_tf_tensor(t), dict(kind="output", name=name))
      for name, t in results.items()
    ]
    hlo.write(graph, given, [t for t, _ in fetched], path)
  return {
    "arguments": [description for _, description in given],
    "results": [description for _, description in fetched],
    "replicas": 1,
    "cores": [core],
    "loop": 1,
    "sha256": _sha256(path),
  }


def _sha256(path: str) -> str:
  """Of a program without its name, in which TensorFlow counts programs."""
  with open(path, "rb") as f:
    module = hlo_pb2.HloModuleProto.FromString(f.read())
  for field in ("name", "entry_computation_name", "id"):
    module.ClearField(field)
  for computation in module.computations:
    computation.name = ""
  return hashlib.sha256(module.SerializeToString(True)).hexdigest()
