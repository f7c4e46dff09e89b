"""The mesh and the model that the flags of a TPU step ask for."""

from hypergrid_mtf import errors
from hypergrid_mtf.run import mesh as mesh_lib
from hypergrid_mtf.run.checks import mesh as mesh_checks
from tools.cost import gin_run, models, steps


def layout_of(f) -> str:
  """--layout, or t5's."""
  return mesh_lib.T5_LAYOUT if f.layout is None else f.layout


def read_mesh(f) -> mesh_lib.Mesh:
  """The mesh, checked as far as possible without a model."""
  given = f"--mesh_shape={f.mesh_shape}", f"--layout={layout_of(f)}"
  mesh = mesh_lib.parse(f.mesh_shape, layout_of(f), *given)
  mesh_checks.check_axes(mesh)
  mesh_checks.check_batch(mesh, f.batch, f"--batch={f.batch}")
  return mesh


def choose_cores(f, mesh: mesh_lib.Mesh, cores) -> list[list[int]]:
  """The cores of a topology that the mesh uses: all, or one."""
  if mesh.shape.size not in (1, len(cores)):
    raise errors.UserError(
      f"{mesh.shape_given} has {mesh.shape.size} devices and "
      f"--topology={f.topology} {len(cores)} cores: give a mesh of "
      f"{len(cores)}, or an empty one for a single core."
    )
  return cores[: mesh.shape.size]


def make_job(
  f, mesh: mesh_lib.Mesh, setting: models.Setting, step="train", gin_params=()
) -> steps.Job:
  """A step of a model on the mesh, checked against it."""
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
