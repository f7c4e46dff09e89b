"""The training run that gin files and bindings describe, and a step of it."""

import dataclasses
import re

import gin
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from hypergrid_mtf.run import config
from hypergrid_mtf.run import mesh as mesh_lib
from hypergrid_mtf.run.checks import mesh as mesh_checks

# Gin files name what is in them.
from t5_tasks import mixtures, vocabularies  # noqa: F401
from tools.cost import steps

_STACK = "transformer.make_layer_stack.num_layers"
_TPU = "tpu_mesh_shape"
EXAMPLES_PER_ROW = 3  # of a packed row; their number changes no shape


@dataclasses.dataclass(frozen=True)
class Source:
  """What describes a run: --gin_file, --gin_param and --module_import."""

  gin_files: tuple[str, ...]
  gin_params: tuple[str, ...] = ()
  modules: tuple[str, ...] = ()

  @property
  def variant(self) -> str:
    """The file of hypergrid/ that makes its layers, or "vanilla"."""
    for path in self.gin_files:
      found = re.fullmatch(r"(?:.*/)?hypergrid/(\w+)\.gin", path)
      if found and not found[1].endswith("_only"):
        return found[1]
    return "vanilla"

  @property
  def started_at(self) -> int:
    """The step of the checkpoint that it starts from, by its name."""
    for text in self.gin_params:
      found = re.search(r"init_checkpoint\s*=.*?-(\d+)['\"]", text)
      if found:
        return int(found[1])
    return 0

  def vanilla(self) -> "Source":
    """The same run of vanilla T5."""
    paths = [
      "hypergrid/vanilla.gin"
      if path.endswith(f"hypergrid/{self.variant}.gin")
      else path
      for path in self.gin_files
      if not re.search(r"(^|/)hypergrid/\w+_only\.gin$", path)
    ]
    params = [p for p in self.gin_params if not p.startswith("HyperGrid.")]
    return Source(tuple(paths), tuple(params), self.modules)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run on a slice of TPUs.

  Attributes:
    job: a step of it.
    mesh: over which it is spread.
    train_steps: that are left; None if no number is bound.
    depth: blocks of each stack; None if the stacks differ.
    depth_binding: what to bind for another depth.
  """

  job: steps.Job
  mesh: mesh_lib.Mesh
  train_steps: int | None
  depth: int | None
  depth_binding: str

  def job_at(self, depth: int | None) -> steps.Job:
    """The step with so many blocks in each stack; None for its own."""
    if depth is None:
      return self.job
    binding = f"{self.depth_binding} = {depth}"
    return dataclasses.replace(
      self.job, gin_params=(*self.job.gin_params, binding)
    )


def read(source: Source, cores: int) -> Run:
  """Reads and checks a run, without a graph of TensorFlow.

  Args:
    source: what describes it.
    cores: of the slice.

  Raises:
    UserError: for a run that is no training, has no lengths, or does not fit
      the slice or its own mesh.
  """
  # A plan reads no checkpoint.
  params = (*source.gin_params, "run.init_checkpoint = None")
  empty = steps.Case("train", 0, 0, 0)
  job = steps.Job(empty, source.gin_files, params, source.modules)
  job.bind()
  mode = config.value("run.mode", "train")
  if mode != "train":
    raise errors.UserError(
      f"run.mode = {mode!r} is not planned: give the flags of a training run "
      "(python -m tools.tpu_compile --step=decode compiles one of decoding)."
    )
  lengths = _lengths()
  mesh = _mesh(cores)
  mesh_checks.check_axes(mesh)
  if mesh.shape.size != cores:
    raise errors.UserError(
      f"{mesh.shape_given} has {mesh.shape.size} devices, and the topology "
      f"{cores} cores: give a mesh of {cores}, or leave the binding out."
    )
  batch, given = _batch(lengths, mesh)
  mesh_checks.check_batch(mesh, batch, given)
  packed = config.value("mesh_train_dataset_fn.pack", True)
  case = steps.Case(
    "train_packed" if packed else "train",
    batch,
    lengths["inputs"],
    lengths["targets"],
    EXAMPLES_PER_ROW if packed else 1,
  )
  train_steps = config.value("run.train_steps")
  depths = [
    config.value(f"{stack}/{_STACK}", config.value(_STACK))
    for stack in ("encoder", "decoder")
  ]
  macro = str(_bound(_STACK))
  bindings = mesh_bindings(mesh)
  found = Run(
    job=dataclasses.replace(job, case=case, gin_params=(*params, *bindings)),
    mesh=mesh,
    train_steps=train_steps and max(0, train_steps - source.started_at),
    depth=depths[0] if depths[0] == depths[1] else None,
    depth_binding=macro[1:] if macro.startswith("%") else _STACK,
  )
  mesh_checks.check_model(mesh, found.job.build(), batch, lengths)
  return found


def mesh_bindings(mesh: mesh_lib.Mesh) -> tuple[str, str]:
  """What to bind for a run on the mesh."""
  shape = ",".join(f"{d.name}:{d.size}" for d in mesh.axes)
  layout = ",".join(":".join(pair) for pair in sorted(mesh.layout))
  return f"run.mesh_shape = {shape!r}", f"run.layout_rules = {layout!r}"


def _bound(parameter: str):
  """What is bound, not evaluated; None for nothing."""
  try:
    return gin.query_parameter(parameter)
  except ValueError:
    return None


def _lengths() -> dict[str, int]:
  lengths = config.value("run.sequence_length")
  if isinstance(lengths, int):
    lengths = {"inputs": lengths, "targets": lengths}
  if not lengths or not {"inputs", "targets"} <= set(lengths):
    raise errors.UserError(
      f"run.sequence_length = {lengths!r} has no lengths of inputs and "
      "targets: give --gin_param=\"run.sequence_length = {'inputs': 512, "
      "'targets': 128}\"."
    )
  return {name: lengths[name] for name in ("inputs", "targets")}


def _mesh(cores: int) -> mesh_lib.Mesh:
  """The run's own mesh; where it follows a TPU, that of the slice."""
  layout = config.value("run.layout_rules", mesh_lib.T5_LAYOUT)
  shape = _bound("run.mesh_shape")
  given = f"run.mesh_shape = {shape!r}"
  if shape is None or _TPU in str(shape):
    topology = config.value(f"{_TPU}.tpu_topology")
    degree = config.value(f"{_TPU}.model_parallelism", 1)
    names = tuple(
      f"{_TPU}.{name} = "
      for name in ("tpu_topology", "model_parallelism", "ensemble_parallelism")
    )
    given = f"{names[0]}{topology!r}" if topology else f"{names[1]}{degree}"
    topology = topology or f"v3-{cores}"  # any kind: its cores count
    shape = mesh_lib.tpu_shape(topology, degree, None, names)
  return mesh_lib.parse(shape, layout, given, f"run.layout_rules = {layout!r}")


def _batch(lengths: dict, mesh: mesh_lib.Mesh) -> tuple[int, str]:
  """Sequences of a step on the whole mesh, and what the user gave."""
  bound = config.value("run.batch_size", ("tokens_per_replica", 2048))
  batch, given = bound, f"run.batch_size = {bound!r}"
  if not isinstance(bound, int):
    try:
      batch = utils.compute_batch_size(lengths, mesh.shape, mesh.rules, bound)
    except (ValueError, TypeError, AttributeError):
      batch = 0
    given += f", {batch} sequences,"
  if batch < 1:
    raise errors.UserError(
      f"run.batch_size = {bound!r} is not a batch of rows of {lengths} "
      "tokens: give a number of sequences, or a pair such as "
      "('tokens_per_batch', 65536)."
    )
  return batch, given
