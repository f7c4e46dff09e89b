r"""Counts what a training step sends between the devices of a TPU mesh.

  python -m tools.collectives --size=base --mesh_shape=model:4,batch:8

No TPU is needed: the whole step of t5 (forward, loss, gradients, optimizer,
microbatches) is lowered by Mesh TensorFlow's own TPU implementation, and never
run. Every collective that it emits is counted, by kind and mesh axis, in bytes
of the tensor that each device puts into it, as sent (bfloat16 has two). What a
ring then moves a device is up to twice that, for every model alike.

`Lowering.counters` of Mesh TensorFlow is not enough: it counts elements and not
bytes, over all devices, a loop's body once however often it runs, and neither
the sums that make dropout the same on all devices nor the n-fold tensors that
a maximum and an allconcat are sent as. (docs/cost.md, "What a pod would send".)
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import re

import gin
import mesh_tensorflow as mtf
import pandas as pd
import tensorflow.compat.v1 as tf
from absl import flags
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors, layers
from hypergrid_mtf.launch import (
  console,
  files,
  gin_files,
  mesh_checks,
  meshes,
  request,
  values,
)
from tools import golden

FLAGS = flags.FLAGS  # --gin_param is t5's own

VANILLA = "vanilla"
# t5's own (transformer/gin/defaults.gin), without experts.
LAYOUT = "ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model"
STACKS = ("both", "encoder", "decoder")
ALLREDUCE = "allreduce"
# What is counted is a step of it.
_TRAINING = request.Request(
  mode="train",
  mixture=None,
  trains=True,
  waits=False,
  split=None,
  input_files=(),
  results="",
)
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
    super().__init__(shape, layout, None, _FakeDevices())
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


class _FakeDevices:
  """A device assignment of a pod that is not there."""

  def tpu_device(self, replica):
    del replica
    return ""


@dataclasses.dataclass(frozen=True)
class Step:
  """What is held fixed in a comparison.

  Attributes:
    size: one of golden.SIZES.
    mesh_shape: e.g. "model:8,batch:4".
    layout: e.g. "batch:batch,d_ff:model".
    batch: rows of a step, on the whole mesh.
    inputs: tokens of a row.
    targets: tokens of a row.
    packed: several examples a row.
    bindings: further gin bindings.
  """

  size: str = "base"
  mesh_shape: str = "model:8,batch:4"
  layout: str = LAYOUT
  batch: int = 128
  inputs: int = 512
  targets: int = 114
  packed: bool = True
  bindings: tuple[str, ...] = ()

  def check(self) -> None:
    """Raises UserError for what cannot be lowered."""
    if self.size not in golden.SIZES:
      raise errors.UserError(
        f"--size={self.size} is unknown: choose one of "
        f"{', '.join(golden.SIZES)}."
      )
    for name in ("batch", "inputs", "targets"):
      if getattr(self, name) < 1:
        raise errors.UserError(
          f"--{name}={getattr(self, name)} is no size: give a positive integer."
        )
    mesh = self.mesh()
    mesh_checks.check_axes(mesh)
    mesh_checks.check_batch(mesh, self.batch, f"--batch={self.batch}")

  def mesh(self) -> meshes.Mesh:
    """The mesh and its layout; raises UserError if one is malformed."""
    given = f"--mesh_shape={self.mesh_shape}"
    if not self.mesh_shape.strip():
      raise errors.UserError(
        "--mesh_shape= is empty: give AXIS:SIZE, separated by commas, such as "
        "'model:8,batch:4'."
      )
    return meshes.parse(
      self.mesh_shape, self.layout, given, f"--layout={self.layout}"
    )


@dataclasses.dataclass(frozen=True)
class Gating:
  """One model of a comparison.

  Attributes:
    variant: "vanilla" or one of golden.VARIANTS.
    grid: "ROWSxCOLUMNS", or None for that of the gin files.
    contraction: HyperGrid.contraction, or None for the layer's own.
    stack: one of STACKS.
    gated_kernel: HyperGrid.gated_kernel, or None for that of the gin files.
  """

  variant: str = VANILLA
  grid: str | None = None
  contraction: str | None = None
  stack: str = "both"
  gated_kernel: str | None = None

  def gin_files(self) -> list[str]:
    """What is given to --gin_file after the model."""
    files = [f"hypergrid/{self.variant}.gin"]
    if self.stack != "both":
      files.append(f"hypergrid/{self.stack}_only.gin")
    return files

  def bindings(self) -> list[str]:
    """What is given to --gin_param."""
    bound = {}
    if self.grid:
      rows, cols = self.grid.split("x")
      bound.update(grid_rows=int(rows), grid_cols=int(cols))
    for name in ("contraction", "gated_kernel"):
      if getattr(self, name):
        bound[name] = getattr(self, name)
    return [f"HyperGrid.{name} = {value!r}" for name, value in bound.items()]

  def name(self) -> str:
    """A short name, of what was asked for."""
    parts = [self.variant, self.gated_kernel, self.grid, self.contraction]
    parts.append(f"{self.stack} only" if self.stack != "both" else None)
    return " ".join(p for p in parts if p)


def gatings(
  variants, grids=None, contractions=None, stacks=None, kernels=None
) -> list[Gating]:
  """Every combination, vanilla first.

  Args:
    variants: of golden.VARIANTS.
    grids: of "ROWSxCOLUMNS"; this and the following: None or empty for what
      the gin files say.
    contractions: of HyperGrid.contraction.
    stacks: of STACKS.
    kernels: of HyperGrid.gated_kernel.

  Returns:
    a list of Gating

  Raises:
    UserError: for an unknown variant, stack or a malformed grid.
  """
  for flag, given, known in (
    ("variants", variants, (VANILLA, *golden.VARIANTS)),
    ("stacks", stacks or (), STACKS),
  ):
    for value in given:
      if value not in known:
        raise errors.UserError(
          f"--{flag}={value} is unknown: choose from {', '.join(known)}."
        )
  for grid in grids or ():
    if not re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", grid):
      raise errors.UserError(
        f"--grids={grid} is no grid: give ROWSxCOLUMNS, such as 16x16."
      )
  return [Gating()] + [
    Gating(*choice)
    for choice in itertools.product(
      [v for v in variants if v != VANILLA],
      grids or [None],
      contractions or [None],
      stacks or ["both"],
      kernels or [None],
    )
  ]


@contextlib.contextmanager
def _configuration(step: Step, gating: Gating):
  """The gin configuration of a run, bound for a while."""
  gin_files.add_search_paths()
  defaults = os.path.join(
    os.path.dirname(utils.__file__), "gin", "defaults.gin"
  )
  files = [defaults, f"models/{step.size}.gin", *gating.gin_files()]
  try:
    with gin.unlock_config():
      gin.clear_config()
      try:
        gin.parse_config_files_and_bindings(
          files, [*gating.bindings(), *step.bindings]
        )
      except (ValueError, SyntaxError, TypeError) as e:
        raise errors.UserError(
          f"{gating.name()} cannot be bound: {errors.sentence(e)}"
        ) from None
    yield
  finally:
    with gin.unlock_config():
      gin.clear_config()


@contextlib.contextmanager
def _model(step: Step, gating: Gating, mesh: meshes.Mesh | None = None):
  """The model of a run, while its gin configuration is bound.

  Args:
    step: what is held fixed.
    gating: the model.
    mesh: what its layers know of the mesh.

  Raises:
    UserError: for bindings or a grid that fit no model.
  """
  step.check()
  with _configuration(step, gating):
    try:
      model = utils.build_model(
        model_type="bitransformer",
        input_vocab_size=golden.VOCAB_SIZE,
        output_vocab_size=golden.VOCAB_SIZE,
        layout_rules=mesh and mesh.rules,
        mesh_shape=mesh and mesh.shape,
      )
      for layer, model_dim in layers.hypergrid_layers(model):
        layer.check(model_dim)
    except (TypeError, ValueError) as e:
      raise errors.UserError(f"{gating.name()}: {errors.sentence(e)}") from None
    yield model


def check(step: Step, gating: Gating) -> None:
  """Raises UserError for a model that does not fit, without lowering it.

  Args:
    step: what is held fixed.
    gating: the model.
  """
  with _model(step, gating) as model:
    values.check_bindings(_TRAINING)
    lengths = {"inputs": step.inputs, "targets": step.targets}
    mesh_checks.check_model(step.mesh(), model, step.batch, lengths)


def _features(mesh, step: Step) -> dict[str, mtf.Tensor]:
  """Features as t5's model function has them, [outer_batch, batch, length]."""
  suffixes = ["", "_segmentation", "_position"] if step.packed else [""]
  features = {}
  for key, length in (("inputs", step.inputs), ("targets", step.targets)):
    shape = mtf.Shape(
      [
        mtf.Dimension("outer_batch", 1),
        mtf.Dimension("batch", step.batch),
        mtf.Dimension("length", length),
      ]
    )
    for suffix in suffixes:
      zeros = tf.zeros(shape.to_integer_list, tf.int32)
      features[key + suffix] = mtf.import_fully_replicated(mesh, zeros, shape)
  return features


def _build_step(model, graph, mesh, step: Step) -> int:
  """Builds the training step on an mtf graph, as t5's model function does.

  Args:
    model: a transformer.Bitransformer.
    graph: an mtf.Graph.
    mesh: an mtf.Mesh of it.
    step: a Step.

  Returns:
    the number of microbatches
  """
  batch_dim = mtf.Dimension("batch", step.batch)
  microbatches = utils.serialize_num_microbatches(
    batch_dim,
    {"inputs": step.inputs, "targets": step.targets},
    model.encoder.mesh_shape,
    model.encoder.layout,
  )

  def loss_fn(features):
    _, loss = model.call_simple(
      inputs=features["inputs"],
      targets=features["targets"],
      compute_loss=True,
      mode=tf.estimator.ModeKeys.TRAIN,
      variable_dtype=utils.get_variable_dtype(),
      encoder_sequence_id=features.get("inputs_segmentation"),
      decoder_sequence_id=features.get("targets_segmentation"),
      encoder_position=features.get("inputs_position"),
      decoder_position=features.get("targets_position"),
      num_microbatches=microbatches,
    )
    return {"loss": loss}

  features = _features(mesh, step)
  if microbatches > 1:
    gradients, _ = mtf.serialize_training_step(
      features, loss_fn, batch_dim, microbatches
    )
  else:
    gradients = mtf.gradients(
      [loss_fn(features)["loss"]],
      [v.outputs[0] for v in graph.trainable_variables],
    )
  optimizer = gin_files.value("run.optimizer")(learning_rate=0.001)
  optimizer.apply_grads(gradients, graph.trainable_variables)
  return microbatches


def count(step: Step, gating: Gating) -> dict:
  """Lowers one training step and counts what it sends.

  Args:
    step: what is held fixed.
    gating: the model.

  Returns:
    {"collectives": [{"kind", "axis", "count", "bytes"}, …], "matmul_flops",
    "microbatches"}: of one step; bytes and FLOPs a device

  Raises:
    UserError: for what does not fit; `check` finds it sooner, and more of it.
  """
  spread = step.mesh()
  with _model(step, gating, spread) as model, tf.Graph().as_default():
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    impl = CountingMeshImpl(spread.shape, spread.rules)
    microbatches = _build_step(model, graph, mesh, step)
    loops = []
    for operation in graph.operations:
      if isinstance(operation, mtf.ops.WhileLoopOperation):
        operation.lower = functools.partial(
          _lower_loop, operation.lower, impl, microbatches, loops
        )
    with _loops_in_the_graph():
      mtf.Lowering(graph, {mesh: impl}, autostack=True)
    flops = 0
    for number, operation in enumerate(tf.get_default_graph().get_operations()):
      looped = any(number in loop for loop in loops)
      flops += _matmul_flops(operation) * (microbatches if looped else 1)
  return {
    "collectives": [
      {"kind": kind, "axis": axis, "count": n, "bytes": size}
      for (kind, axis), (n, size) in sorted(impl.sent.items())
    ],
    "matmul_flops": flops,
    "microbatches": microbatches,
  }


def _lower_loop(lower, impl, times, loops, lowering):
  """Lowers the loop over microbatches, whose body runs once for each.

  What the loop leaves to be summed after it (gradients) is lowered, and so
  counted, after it: once.

  Args:
    lower: of the operation.
    impl: a CountingMeshImpl.
    times: how often the body runs.
    loops: a list that the range of the loop's TensorFlow operations goes to.
    lowering: an mtf.Lowering.
  """
  graph = tf.get_default_graph()
  start = len(graph.get_operations())
  impl.times = times
  lower(lowering)
  impl.times = 1
  loops.append(range(start, len(graph.get_operations())))


@contextlib.contextmanager
def _loops_in_the_graph():
  """Loops as t5 has them: operations of the graph, not functions beside it."""
  before = tf.control_flow_v2_enabled()
  tf.disable_control_flow_v2()
  try:
    yield
  finally:
    if before:
      tf.enable_control_flow_v2()


def _matmul_flops(operation: tf.Operation) -> int:
  """FLOPs of a matrix product: two for a multiplication and an addition."""
  shapes = [t.shape.as_list() for t in operation.inputs]
  if operation.type == "Einsum":
    names, out = operation.get_attr("equation").decode().split("->")
    sizes = {}
    for letters, shape in zip(names.split(","), shapes, strict=True):
      sizes.update(zip(letters, shape, strict=True))
    contracted = math.prod(n for d, n in sizes.items() if d not in out)
  elif operation.type == "MatMul":
    contracted = shapes[0][0 if operation.get_attr("transpose_a") else 1]
  elif operation.type in ("BatchMatMul", "BatchMatMulV2"):
    contracted = shapes[0][-2 if operation.get_attr("adj_x") else -1]
  else:
    return 0
  return 2 * operation.outputs[0].shape.num_elements() * contracted


def compare_with_vanilla(results: dict[str, dict]) -> pd.DataFrame:
  """One row a model, what it sends beside what vanilla sends.

  Args:
    results: {name: from `count`}, vanilla among them.

  Returns:
    a DataFrame of numbers: MB a device by kind and axis, their sum, the
    differences from vanilla in percent, new kinds, and TFLOP a device
  """
  base = _by_kind(results[VANILLA])
  kinds = sorted({k for r in results.values() for k in _by_kind(r)})
  rows = {}
  for name, result in results.items():
    found = _by_kind(result)
    row = {" ".join(k): found.get(k, 0) / 1e6 for k in kinds}
    row["sum"] = sum(found.values()) / 1e6
    row["allreduce %"] = _percent(_allreduced(found), _allreduced(base))
    row["sum %"] = _percent(sum(found.values()), sum(base.values()))
    new = sorted({kind for kind, _ in found} - {kind for kind, _ in base})
    row["new kinds"] = ", ".join(new) or "-"
    row["matmul TFLOP"] = result["matmul_flops"] / 1e12
    rows[name] = row
  frame = pd.DataFrame.from_dict(rows, orient="index")
  frame.index.name = "MB a device"
  return frame


def _by_kind(result):
  return {(c["kind"], c["axis"]): c["bytes"] for c in result["collectives"]}


def _allreduced(found):
  return sum(n for (kind, _), n in found.items() if kind == ALLREDUCE)


def _percent(value, base):
  return 100.0 * (value - base) / base if base else float("nan")


def to_text(frame: pd.DataFrame) -> pd.DataFrame:
  """The same table with every number as a person writes it."""
  text = frame.astype(object)
  for column in frame.columns:
    sign = "+" if column.endswith("%") else ","
    text[column] = [
      v if isinstance(v, str) else "-" if pd.isna(v) else f"{v:{sign}.3f}"
      for v in frame[column]
    ]
  return text.reset_index()


def main(argv) -> None:
  """Prints the table.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  step = Step(
    size=FLAGS.size,
    mesh_shape=FLAGS.mesh_shape,
    layout=FLAGS.layout,
    batch=FLAGS.batch,
    inputs=FLAGS.inputs,
    targets=FLAGS.targets,
    packed=FLAGS.packed,
    bindings=tuple(FLAGS.gin_param or ()),
  )
  step.check()
  models = gatings(
    FLAGS.variants,
    FLAGS.grids,
    FLAGS.contraction,
    FLAGS.stacks,
    FLAGS.gated_kernel,
  )
  if FLAGS.output:
    files.check_output(FLAGS.output)
  for gating in models:
    check(step, gating)  # all of them before the minutes that one takes
  results = {}
  for gating in models:
    results[gating.name()] = count(step, gating)
  frame = compare_with_vanilla(results)
  console.say(to_text(frame).to_string(index=False))
  if FLAGS.output:
    report = {"step": dataclasses.asdict(step), "models": results}
    files.write(FLAGS.output, json.dumps(report, indent=1) + "\n")
    console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  default = Step()
  flags.DEFINE_string("size", default.size, "A file of models/.")
  flags.DEFINE_string("mesh_shape", default.mesh_shape, "AXIS:SIZE, ….")
  flags.DEFINE_string("layout", default.layout, "DIMENSION:AXIS, ….")
  flags.DEFINE_integer("batch", default.batch, "Rows a step.")
  flags.DEFINE_integer("inputs", default.inputs, "Input tokens a row.")
  flags.DEFINE_integer("targets", default.targets, "Target tokens a row.")
  flags.DEFINE_bool("packed", default.packed, "Several examples a row.")
  flags.DEFINE_list(
    "variants", list(golden.VARIANTS), "Beside vanilla, separated by commas."
  )
  flags.DEFINE_list("grids", [], "ROWSxCOLUMNS, …; the gin files' if empty.")
  flags.DEFINE_list("contraction", [], "HyperGrid.contraction, one or more.")
  flags.DEFINE_list("stacks", [], "Of both, encoder, decoder.")
  flags.DEFINE_list("gated_kernel", [], "HyperGrid.gated_kernel, one or more.")
  flags.DEFINE_string("output", None, "Also write the counts as JSON.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
