"""The mesh that a run gets: from gin, from the flags, or from the machine.

t5 takes it from `run.mesh_shape`, by default that of a TPU (`tpu_mesh_shape`).
"""

import gin

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, devices, gin_files, meshes

_TPU = "tpu_mesh_shape"
_TPU_FLAGS = (
  "tpu_job_name",
  "tpu_zone",
  "gcp_project",
)


def _asked_shape() -> str | None:
  """What mesh_shape is bound to, as text; None for what follows a TPU."""
  try:
    bound = gin.query_parameter("run.mesh_shape")
  except ValueError:
    return None
  return None if bound is None or _TPU in str(bound) else str(bound)


def bind_local() -> None:
  """Without --tpu: all GPUs of the machine as the mesh, or else one CPU.

  A mesh or devices that the user gave stay as they are; the topology of a TPU,
  as a public operative_config.gin has one, is not for this machine.

  Raises:
    UserError: for devices that are not there, or not as many as the mesh has.
  """
  where = "run.mesh_devices"
  names = devices.check(gin_files.value(where), where)
  if _asked_shape() is None:
    topology = gin_files.value(f"{_TPU}.tpu_topology")
    found = names or devices.local()
    if topology is not None:
      console.say(
        f"{_TPU}.tpu_topology = {topology!r} is not used, because --tpu is not "
        f"given: the mesh is {', '.join(found)}"
      )
    elif len(found) > 1 and not names:
      console.say(
        f"the mesh is {', '.join(found)} (bind run.mesh_shape and {where} "
        "for another)"
      )
    gin.bind_parameter("run.mesh_shape", f"model:1,batch:{len(found)}")
    gin.bind_parameter(where, found)
    return
  value = gin_files.value("run.mesh_shape")
  given = f"run.mesh_shape = {value!r}"
  size = meshes.parse_shape(value, given).size
  if names and len(names) != size:
    raise errors.UserError(
      f"{where} names {len(names)} device{'s'[: len(names) != 1]}, and {given} "
      f"has {size}: name as many as the mesh has."
    )
  if not names and size > 1:
    found = devices.local()
    if len(found) == size:
      gin.bind_parameter(where, found)
    else:
      console.say(
        f"{given}: all {size} parts of the mesh share {found[0]}, because "
        f"{where} names no devices"
      )


def of_run(flags) -> meshes.Mesh:
  """The mesh that t5 will use.

  Args:
    flags: absl's FLAGS, parsed.

  Returns:
    a Mesh

  Raises:
    UserError: for what is malformed.
  """
  _say_unused_flags(flags)
  layout = gin_files.value("run.layout_rules", meshes.T5_LAYOUT)
  layout_given = f"run.layout_rules = {layout!r}"
  if flags.tpu and gin_files.value("run.mesh_devices"):
    console.say("run.mesh_devices is not used with --tpu")
  if flags.tpu and _asked_shape() is None:
    shape, given = _gin_tpu_shape()
  else:
    shape = gin_files.value("run.mesh_shape")
    given = f"run.mesh_shape = {shape!r}"
  return meshes.parse(shape, layout, given, layout_given)


def _gin_tpu_shape():
  """The mesh of utils.tpu_mesh_shape, and what it was made of."""
  # "@scope/tpu_mesh_shape()"
  scope = str(gin.query_parameter("run.mesh_shape")).lstrip("@").split("/")[:-1]

  def value(name):
    unscoped = gin_files.value(f"{_TPU}.{name}")
    return gin_files.value("/".join([*scope, f"{_TPU}.{name}"]), unscoped)

  names = ("tpu_topology", "model_parallelism", "ensemble_parallelism")
  values = [value(name) for name in names]
  topology, cores, members = values
  shape = meshes.tpu_shape(
    topology, cores, members, tuple(f"{_TPU}.{name} = " for name in names)
  )
  given = ", ".join(
    f"{_TPU}.{name} = {value!r}"
    for name, value in zip(names, values, strict=True)
    if value is not None
  )
  return shape, given


def _say_unused_flags(flags) -> None:
  for name in _TPU_FLAGS:
    if flags[name].present and not flags.tpu:
      console.say(
        f"--{name}={flags[name].value} is not used, because --tpu is not given"
      )
