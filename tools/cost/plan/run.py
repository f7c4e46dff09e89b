"""The run that is planned: what gin files and bindings say of its cost."""

import dataclasses
import re

import gin
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files, gin_model, mesh_checks, meshes

# Gin files name what is in them.
from t5_tasks import mixtures, vocabularies  # noqa: F401
from tools.cost import benchmark_cases as cases
from tools.cost import models

MICROBATCH = (
  "utils.serialize_num_microbatches.tokens_per_microbatch_per_replica"
)
_STACK = "transformer.make_layer_stack.num_layers"
_PLANNED = ("run.init_checkpoint = None",)  # a plan reads no checkpoint
_EXAMPLES_PER_ROW = 3  # of a packed row; their number changes no shape


@dataclasses.dataclass(frozen=True)
class Run:
  """A model and its training, by gin.

  Attributes:
    gin_files: as given to --gin_file.
    gin_params: as given to --gin_param.
    modules: as given to --module_import.
  """

  gin_files: tuple[str, ...]
  gin_params: tuple[str, ...] = ()
  modules: tuple[str, ...] = ()

  def bind(self) -> None:
    """Makes gin's configuration that of the run.

    Raises:
      UserError: for what gin cannot read, or no model takes.
    """
    gin_files.import_modules(list(self.modules))
    params = [*self.gin_params, *_PLANNED]
    gin_model.bind(list(self.gin_files), params, trains=True)

  @property
  def gated(self) -> str | None:
    """The file of hypergrid/ that makes its layers; None for vanilla T5."""
    for path in self.gin_files:
      found = re.fullmatch(r"(?:.*/)?hypergrid/(\w+)\.gin", path)
      if found and not found[1].endswith("_only") and found[1] != "vanilla":
        return found[1]
    return None

  def vanilla(self) -> "Run":
    """The same run of vanilla T5."""
    paths = [
      "hypergrid/vanilla.gin"
      if path.endswith(f"hypergrid/{self.gated}.gin")
      else path
      for path in self.gin_files
      if not re.search(r"(^|/)hypergrid/\w+_only\.gin$", path)
    ]
    params = [p for p in self.gin_params if not p.startswith("HyperGrid.")]
    return Run(tuple(paths), tuple(params), self.modules)


@dataclasses.dataclass(frozen=True)
class Job:
  """A step of a run on a mesh, for `tools.cost.tpu.program`.

  Attributes:
    run: which.
    case: its step.
    bindings: further ones: mesh, layout, microbatches, depth.
  """

  run: Run
  case: cases.Case
  bindings: tuple[str, ...] = ()

  def bind(self) -> None:
    """Makes gin's configuration that of the job."""
    params = (*self.run.gin_params, *self.bindings)
    dataclasses.replace(self.run, gin_params=params).bind()

  @staticmethod
  def from_json(fields: dict) -> "Job":
    """The job of `dataclasses.asdict`, by way of JSON."""
    run = {name: tuple(value) for name, value in fields["run"].items()}
    case = cases.Case(**fields["case"])
    return Job(Run(**run), case, tuple(fields["bindings"]))


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One way to spread a run over a slice.

  Attributes:
    mesh: as gin has it: "model:2,batch:4".
    layout: "batch:batch,d_ff:model,…".
    microbatch: tokens of a microbatch a replica; None for one microbatch.
    batch: sequences of a step on the whole mesh.
  """

  mesh: str
  layout: str
  microbatch: int | None
  batch: int

  @property
  def words(self) -> str:
    """The candidate as a table has it; layouts are numbered beside it."""
    return f"{self.mesh}, {self.microbatch or 'whole batch'}"


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a plan takes from gin.

  Attributes:
    lengths: {feature: tokens of a row}.
    packed: several examples a row.
    steps: of the training, from its beginning or its warm start; None if no
      number is bound.
    depth: blocks of each stack; None if the stacks differ.
    depth_binding: what to bind for another depth.
    layout: the run's own.
    degree: the run's own model parallelism.
    mesh: the run's own, if it is a fixed one.
    microbatch: the run's own.
  """

  lengths: dict[str, int]
  packed: bool
  steps: int | None
  depth: int | None
  depth_binding: str
  layout: str
  degree: int
  mesh: str | None
  microbatch: int | None


def facts(run: Run) -> Facts:
  """Reads a run.

  Args:
    run: which.

  Raises:
    UserError: for a run that is no training, or has no lengths.
  """
  run.bind()
  mode = gin_files.value("run.mode", "train")
  if mode != "train":
    raise errors.UserError(
      f"run.mode = {mode!r} is not planned: give the flags of a training run "
      "(python -m tools.tpu_compile --step=decode compiles one of decoding)."
    )
  lengths = gin_files.value("run.sequence_length")
  if isinstance(lengths, int):
    lengths = {"inputs": lengths, "targets": lengths}
  if not lengths or not {"inputs", "targets"} <= set(lengths):
    raise errors.UserError(
      f"run.sequence_length = {lengths!r} has no lengths of inputs and "
      "targets: "
      "give --gin_param=\"run.sequence_length = {'inputs': 512, "
      "'targets': 128}\"."
    )
  bound = _bound("run.mesh_shape")
  mesh = None if "tpu_mesh_shape" in str(bound) else bound
  scoped = [
    gin_files.value(f"{stack}/{_STACK}", gin_files.value(_STACK))
    for stack in ("encoder", "decoder")
  ]
  reference = str(_bound(_STACK))
  return Facts(
    lengths={k: lengths[k] for k in ("inputs", "targets")},
    packed=bool(gin_files.value("mesh_train_dataset_fn.pack", True)),
    steps=_steps(),
    depth=scoped[0] if scoped[0] == scoped[1] else None,
    depth_binding=reference[1:] if reference.startswith("%") else _STACK,
    layout=str(gin_files.value("run.layout_rules", meshes.T5_LAYOUT)),
    degree=gin_files.value("tpu_mesh_shape.model_parallelism", 1),
    mesh=str(mesh) if mesh else None,
    microbatch=gin_files.value(MICROBATCH),
  )


def _bound(parameter: str):
  """What is bound, not evaluated; None for nothing."""
  try:
    return gin.query_parameter(parameter)
  except ValueError:
    return None


def _steps() -> int | None:
  """Steps of training after those of the checkpoint it starts from."""
  steps = gin_files.value("run.train_steps")
  return steps if isinstance(steps, int) else None


def started_at(params) -> int:
  """The step of the checkpoint that a run starts from, by its name."""
  for text in params:
    found = re.search(r"init_checkpoint\s*=.*?-(\d+)['\"]", text)
    if found:
      return int(found[1])
  return 0


def spread(degree: int, cores: int) -> str:
  """A mesh of t5's axes, as `utils.tpu_mesh_shape` makes it.

  Args:
    degree: cores a replica of the model.
    cores: of the slice.

  Raises:
    UserError: where it does not divide the cores.
  """
  if degree < 1 or cores % degree:
    raise errors.UserError(
      f"--degrees={degree} does not divide the {cores} cores of the "
      f"topology: give a divisor of {cores}."
    )
  axes = {"batch": cores // degree, "model": degree}
  return ",".join(f"{name}:{n}" for name, n in axes.items() if n > 1)


def candidate(
  found: Facts, mesh: str, layout: str, microbatch: int | None, cores: int
) -> Candidate:
  """One candidate, checked without a graph of TensorFlow; gin is bound.

  Args:
    found: of the run whose configuration is bound.
    mesh: AXIS:SIZE, …
    layout: DIMENSION:AXIS, …
    microbatch: tokens of a microbatch a replica.
    cores: of the slice.

  Raises:
    UserError: for a mesh of another size, a batch that does not divide, or a
      model that does not fit.
  """
  given = f"the mesh {mesh}"
  parsed = meshes.parse(mesh, layout, given, f"--layouts={layout}")
  mesh_checks.check_axes(parsed)
  if parsed.shape.size != cores:
    raise errors.UserError(
      f"{given} has {parsed.shape.size} devices, and the topology {cores} "
      f"cores: give a mesh of {cores}."
    )
  batch, given = _batch(found, parsed)
  mesh_checks.check_batch(parsed, batch, given)
  model = gin_model.build(models.VOCAB_SIZE)
  mesh_checks.check_model(parsed, model, batch, found.lengths)
  return Candidate(mesh, layout, microbatch, batch)


def _batch(found: Facts, mesh: meshes.Mesh) -> tuple[int, str]:
  """Sequences of a step on the whole mesh, and what the user gave."""
  bound = gin_files.value("run.batch_size", ("tokens_per_replica", 2048))
  given = f"run.batch_size = {bound!r}"
  batch = bound
  if not isinstance(bound, int):
    try:
      batch = utils.compute_batch_size(
        found.lengths, mesh.shape, mesh.rules, bound
      )
    except (ValueError, TypeError, AttributeError):
      batch = 0
    given += f", {batch} sequences,"
  if batch < 1:
    raise errors.UserError(
      f"run.batch_size = {bound!r} is not a batch of rows of {found.lengths} "
      "tokens: give a number of sequences, or a pair such as "
      "('tokens_per_batch', 65536)."
    )
  return batch, given


def job(run: Run, found: Facts, chosen: Candidate, depth: int | None) -> Job:
  """The step of a candidate.

  Args:
    run: which.
    found: its facts.
    chosen: the candidate.
    depth: blocks of each stack in place of the run's own, or None.
  """
  bindings = [
    f"run.mesh_shape = {chosen.mesh!r}",
    f"run.layout_rules = {chosen.layout!r}",
    f"{MICROBATCH} = {chosen.microbatch!r}",
  ]
  if depth is not None:
    bindings.append(f"{found.depth_binding} = {depth}")
  packed = found.packed
  case = cases.Case(
    "train_packed" if packed else "train",
    chosen.batch,
    found.lengths["inputs"],
    found.lengths["targets"],
    _EXAMPLES_PER_ROW if packed else 1,
  )
  return Job(run, case, tuple(bindings))
