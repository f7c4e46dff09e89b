"""What a training step sends between the devices of a mesh."""

import contextlib
import dataclasses
import functools
import os
from unittest import mock

import mesh_tensorflow as mtf
import pandas as pd
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files, gin_model, mesh_checks, meshes
from tools.cost import counting_mesh, flops, models

# t5's own (transformer/gin/defaults.gin), without experts.
LAYOUT = "ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model"


@dataclasses.dataclass(frozen=True)
class Step:
  """What is held fixed in a comparison.

  Attributes:
    size: one of models.sizes().
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

  @property
  def lengths(self) -> dict[str, int]:
    """Tokens of a row, by feature."""
    return {"inputs": self.inputs, "targets": self.targets}

  def check(self) -> None:
    """Raises UserError for what cannot be lowered."""
    if self.size not in models.sizes():
      raise errors.UserError(
        f"--size={self.size} is unknown: choose one of "
        f"{', '.join(models.sizes())}."
      )
    for name in ("batch", "inputs", "targets"):
      if getattr(self, name) < 1:
        raise errors.UserError(
          f"--{name}={getattr(self, name)} is not a size: give a positive "
          "integer."
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


@contextlib.contextmanager
def _model(
  step: Step, setting: models.Setting, mesh: meshes.Mesh | None = None
):
  """The model of a run, while its gin configuration is bound.

  Args:
    step: what is held fixed.
    setting: the model.
    mesh: what its layers know of the mesh.

  Raises:
    UserError: for bindings or a grid that fit no model.
  """
  step.check()
  with gin_model.configured(
    [f"models/{step.size}.gin", *setting.gin_files],
    [*setting.gin_params, *step.bindings],
    models.VOCAB_SIZE,
    trains=True,
    layout_rules=mesh and mesh.rules,
    mesh_shape=mesh and mesh.shape,
  ) as model:
    yield model


def check(step: Step, setting: models.Setting) -> None:
  """Raises UserError for a model that does not fit, without lowering it.

  Args:
    step: what is held fixed.
    setting: the model.
  """
  with _model(step, setting) as model:
    mesh_checks.check_model(step.mesh(), model, step.batch, step.lengths)


def _build_step(model, mesh: meshes.Mesh, step: Step) -> None:
  """Builds t5's training step for a TPU in the TensorFlow graph.

  Args:
    model: a transformer.Bitransformer.
    mesh: that it is laid out on.
    step: a Step.
  """
  model_fn = utils.tpu_estimator_model_fn(
    model_type="bitransformer",
    transformer_model=model,
    vocabulary=None,
    model_dir=os.path.join(os.devnull, "model"),  # hooks want a name
    use_tpu=True,
    mesh_shape=mesh.shape,
    layout_rules=mesh.rules,
    batch_size=step.batch,
    sequence_length=step.lengths,
    autostack=True,
    keep_checkpoint_max=1,
    save_checkpoints_steps=1,
    learning_rate_schedule=0.001,
    optimizer=gin_files.value("run.optimizer"),
  )
  tf.train.create_global_step()
  suffixes = ["", "_segmentation", "_position"] if step.packed else [""]
  features = {
    key + suffix: tf.zeros([step.batch, length], tf.int32)
    for key, length in step.lengths.items()
    for suffix in suffixes
  }
  context = counting_mesh.Context(mesh.shape.size)
  mode = tf.estimator.ModeKeys.TRAIN
  model_fn(features, None, mode, {"context": context}, None)


@contextlib.contextmanager
def _counted(impl, microbatches: int, loops: list[range]):
  """Lowers what is built within on a mesh that counts.

  Args:
    impl: a CountingMeshImpl.
    microbatches: how often the loop over them runs.
    loops: a list that the range of each loop's TensorFlow operations goes to.
  """

  def lowering(graph, impls, **kwargs):
    for operation in graph.operations:
      if isinstance(operation, mtf.ops.WhileLoopOperation):
        operation.lower = functools.partial(
          _lower_loop, operation.lower, impl, microbatches, loops
        )
    return mtf.ops.Lowering(graph, dict.fromkeys(impls, impl), **kwargs)

  with mock.patch.object(mtf, "Lowering", lowering):
    yield


def count(step: Step, setting: models.Setting) -> dict:
  """Lowers one training step and counts what it sends.

  Args:
    step: what is held fixed.
    setting: the model.

  Returns:
    {"collectives": [{"kind", "axis", "count", "bytes"}, …], "matmul_flops",
    "microbatches"}: of one step; bytes and FLOPs a device

  Raises:
    UserError: for what does not fit; `check` finds it sooner, and more of it.
  """
  spread = step.mesh()
  impl = counting_mesh.CountingMeshImpl(spread.shape, spread.rules)
  with _model(step, setting, spread) as model, tf.Graph().as_default():
    microbatches = utils.serialize_num_microbatches(
      mtf.Dimension("batch", step.batch),
      step.lengths,
      spread.shape,
      spread.rules,
    )
    loops: list[range] = []
    with _counted(impl, microbatches, loops), _loops_in_the_graph():
      _build_step(model, spread, step)
    total = 0
    for number, operation in enumerate(tf.get_default_graph().get_operations()):
      looped = any(number in loop for loop in loops)
      total += flops.of_operation(operation) * (microbatches if looped else 1)
  return {
    "collectives": [
      {"kind": kind, "axis": axis, "count": n, "bytes": size}
      for (kind, axis), (n, size) in sorted(impl.sent.items())
    ],
    "matmul_flops": total,
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


def compare_with_vanilla(results: dict[str, dict]) -> pd.DataFrame:
  """One row a model, what it sends beside what vanilla sends.

  Args:
    results: {name: from `count`}, vanilla among them.

  Returns:
    a DataFrame of numbers: MB a device by kind and axis, their sum, the
    differences from vanilla in percent, new kinds, and TFLOP a device
  """
  base = _by_kind(results[models.VANILLA.words])
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
  return sum(
    n for (kind, _), n in found.items() if kind == counting_mesh.ALLREDUCE
  )


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
