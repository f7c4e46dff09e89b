"""A training described by gin files and bindings, and a step of it."""

import dataclasses
import re
import types

from hypergrid_mtf import errors
from hypergrid_mtf.run import config, request
from hypergrid_mtf.run import mesh as mesh_lib
from hypergrid_mtf.run.checks import mesh as mesh_checks
from hypergrid_mtf.run.checks import sizes

# Gin files use names that these modules define.
from t5_tasks import mixtures, vocabularies  # noqa: F401
from tools.cost import steps

_STACK = "transformer.make_layer_stack.num_layers"
EXAMPLES_PER_ROW = 3  # in a packed sequence; the number changes no shape


@dataclasses.dataclass(frozen=True)
class Source:
  """The description of a run: --gin_file, --gin_param and --module_import."""

  gin_files: tuple[str, ...]
  gin_params: tuple[str, ...] = ()
  modules: tuple[str, ...] = ()

  @property
  def variant(self) -> str:
    """The file of hypergrid/ or peers/ with its layers, or "vanilla"."""
    for path in self.gin_files:
      found = re.fullmatch(r"(?:.*/)?(?:hypergrid|peers)/(\w+)\.gin", path)
      if found and not found[1].endswith(("_only", "frozen")):
        return found[1]
    return "vanilla"

  @property
  def started_at(self) -> int:
    """The step of its initial checkpoint, by name."""
    for text in self.gin_params:
      found = re.search(r"init_checkpoint\s*=.*?-(\d+)['\"]", text)
      if found:
        return int(found[1])
    return 0

  def vanilla(self) -> "Source":
    """The same run with vanilla T5."""
    paths = [
      "hypergrid/vanilla.gin" if path.endswith(f"/{self.variant}.gin") else path
      for path in self.gin_files
      if not re.search(r"(^|/)(hypergrid/\w+_only|peers/frozen)\.gin$", path)
    ]
    own = ("HyperGrid.", "HyperPrompt.", "Adapter.", "num_tasks.")
    params = [p for p in self.gin_params if not p.startswith(own)]
    return Source(tuple(paths), tuple(params), self.modules)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run on a slice of TPUs.

  Attributes:
    job: a step of it.
    mesh: the mesh over which it is spread.
    train_steps: steps to train; None if no number is bound.
    depth: blocks of each stack; None if the stacks differ.
    depth_binding: the parameter to bind for another depth.
  """

  job: steps.Job
  mesh: mesh_lib.Mesh
  train_steps: int | None
  depth: int | None
  depth_binding: str

  def job_at(self, depth: int | None) -> steps.Job:
    """The step with `depth` blocks in each stack; None for its own depth."""
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
    UserError: for a run that does not train, has no lengths, or does not fit
      the slice or its mesh.
  """
  # Any kind of topology, since only its cores count; a plan reads no
  # checkpoint.
  topology = f"tpu_mesh_shape.tpu_topology = 'v3-{cores}'"
  params = (topology, *source.gin_params, "run.init_checkpoint = None")
  empty = steps.Case("train", 0, 0, 0)
  job = steps.Job(empty, source.gin_files, params, source.modules)
  job.bind()
  run = request.Run(types.SimpleNamespace(tpu="planned"))
  if not run.trains:
    raise errors.UserError(
      f"run.mode = {run.mode!r} cannot be planned: give the flags of a "
      "training (python -m tools.tpu_compile --step=decode compiles one of "
      "decoding)."
    )
  lengths, mesh = run.lengths or {}, run.mesh
  if not {"inputs", "targets"} <= set(lengths):
    raise errors.UserError(
      f"run.sequence_length = {run.lengths} does not give the lengths of "
      'inputs and targets: give --gin_param="run.sequence_length = '
      "{'inputs': 512, 'targets': 128}\"."
    )
  mesh_checks.check_axes(mesh)
  if mesh.shape.size != cores:
    raise errors.UserError(
      f"{mesh.shape_given} has {mesh.shape.size} devices, but the topology has "
      f"{cores} cores: give a mesh of {cores}, or leave the binding out."
    )
  sizes.check_batch_size(run)
  mesh_checks.check_rows(run)
  packed = config.value("mesh_train_dataset_fn.pack", True)
  case = steps.Case(
    "train_packed" if packed else "train",
    run.num_sequences or 0,
    lengths["inputs"],
    lengths["targets"],
    EXAMPLES_PER_ROW if packed else 1,
  )
  depths = [
    config.value(f"{stack}/{_STACK}", config.value(_STACK))
    for stack in ("encoder", "decoder")
  ]
  written = config.origin(_STACK)  # through a macro or directly
  bindings = mesh_bindings(mesh)
  steps_left = run.train_steps and max(0, run.train_steps - source.started_at)
  found = Run(
    job=dataclasses.replace(job, case=case, gin_params=(*params, *bindings)),
    mesh=mesh,
    train_steps=steps_left,
    depth=depths[0] if depths[0] == depths[1] else None,
    depth_binding=(written and not written.parameter and written.macro)
    or _STACK,
  )
  mesh_checks.check_model(mesh, found.job.build(), case.batch, case.lengths)
  return found


def mesh_bindings(mesh: mesh_lib.Mesh) -> tuple[str, str]:
  """The bindings for a run on the mesh."""
  shape = ",".join(f"{d.name}:{d.size}" for d in mesh.axes)
  layout = ",".join(":".join(pair) for pair in sorted(mesh.layout))
  return f"run.mesh_shape = {shape!r}", f"run.layout_rules = {layout!r}"
