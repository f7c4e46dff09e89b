"""Flags of a step on the mesh of a TPU, shared by programs that compile one."""

from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import mesh as mesh_lib
from hypergrid_mtf.run.checks import mesh as mesh_checks
from tools.cost import gin_run, models, steps


def define(mesh_shape: str, activation_dtype: str) -> None:
  """Defines them; the arguments are defaults."""
  models.define_size("tiny", activation_dtype)
  flags.DEFINE_bool("packed", False, "Several examples a row.")
  for name, default, what in (
    ("batch", 8, "Rows a step, on the whole mesh."),
    ("inputs", 64, "Input tokens a row."),
    ("targets", 32, "Target tokens a row, or decoded ones."),
  ):
    flags.DEFINE_integer(name, default, what, lower_bound=1)
  flags.DEFINE_string("topology", "v3:2x2", "As libtpu names it.")
  flags.DEFINE_string(
    "mesh_shape", mesh_shape, "AXIS:SIZE, …; one core if empty."
  )
  flags.DEFINE_string("layout", mesh_lib.T5_LAYOUT, "DIMENSION:AXIS, ….")
  flags.DEFINE_string("output", None, "Also write the answer as JSON.")


def read_mesh(f) -> mesh_lib.Mesh:
  """The mesh, checked as far as that does not depend on a model."""
  given = f"--mesh_shape={f.mesh_shape}", f"--layout={f.layout}"
  mesh = mesh_lib.parse(f.mesh_shape, f.layout, *given)
  mesh_checks.check_axes(mesh)
  mesh_checks.check_batch(mesh, f.batch, f"--batch={f.batch}")
  return mesh


def choose_cores(f, mesh: mesh_lib.Mesh, cores) -> list[list[int]]:
  """The cores of a topology that the mesh takes: all of them, or one."""
  if mesh.shape.size not in (1, len(cores)):
    raise errors.UserError(
      f"{mesh.shape_given} has {mesh.shape.size} devices and --topology="
      f"{f.topology} {len(cores)} cores: give a mesh of {len(cores)}, or an "
      "empty one for one core alone."
    )
  return cores[: mesh.shape.size]


def make_job(
  f, mesh: mesh_lib.Mesh, setting: models.Setting, step="train", gin_params=()
) -> steps.Job:
  """A step of a model on the mesh, whose model is checked against it."""
  packed = f.packed
  job = steps.make_job(
    f.size,
    steps.Case(
      "train_packed" if packed else step,
      f.batch,
      f.inputs,
      f.targets,
      gin_run.EXAMPLES_PER_ROW if packed else 1,
    ),
    setting,
    f.activation_dtype,
    (
      *(f.gin_param or ()),
      *gin_run.mesh_bindings(mesh),
      *gin_params,
    ),
  )
  mesh_checks.check_model(mesh, job.build(), f.batch, job.case.lengths)
  return job
