"""The mesh of a run: from gin, from --tpu or from the machine.

Mesh TensorFlow spreads a model over a mesh of devices: the mesh has named axes,
and a layout rule "d_ff:model" splits the dimension d_ff of every tensor over
the axis model. This module refuses malformed input; `checks.mesh` checks that
mesh, layout, devices and model fit together.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping

import gin
import mesh_tensorflow as mtf
from absl import flags
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from hypergrid_mtf.run import bindings, config, devices

# t5's own, in gin/defaults.gin and MtfModel. A rule has no effect unless the
# mesh has its axis and the model its dimension; that is intended.
T5_LAYOUT = (
  "ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model,"
  "experts:batch"
)
_TPU = "tpu_mesh_shape"


@dataclasses.dataclass(frozen=True)
class Mesh:
  """A mesh and a layout, and where they came from.

  Attributes:
    shape: the axes.
    layout: {(dimension of a tensor, axis)}.
    shape_given: for messages: "run.mesh_shape = 'model:2'".
    layout_given: likewise.
    settles: {gin parameter: value} that follow from this machine.
    note: what the user should know about the choice, or "".
  """

  shape: mtf.Shape
  layout: frozenset[tuple[str, str]]
  shape_given: str
  layout_given: str
  settles: Mapping[str, object] = dataclasses.field(default_factory=dict)
  note: str = ""

  @property
  def rules(self) -> mtf.LayoutRules:
    """The layout as Mesh TensorFlow expects it."""
    return mtf.LayoutRules(self.layout)

  @property
  def axes(self) -> list[mtf.Dimension]:
    """The axes with more than one device."""
    return [axis for axis in self.shape.dims if axis.size > 1]

  def axis_of(self, name: str) -> mtf.Dimension | None:
    """The axis (of more than one device) that splits a dimension, or None."""
    return next((a for a in self.axes if (name, a.name) in self.layout), None)

  def num_shards(self, name: str) -> int:
    """The number of parts that a dimension is split into."""
    axis = self.axis_of(name)
    return axis.size if axis else 1


def parse(shape, layout, shape_given: str, layout_given: str) -> Mesh:
  """Parses a mesh from what Mesh TensorFlow accepts.

  Args:
    shape: "model:2,batch:4", pairs, or an mtf.Shape.
    layout: "d_ff:model,batch:batch", pairs, or an mtf.LayoutRules.
    shape_given: what the user gave, for messages.
    layout_given: what the user gave, for messages.
  """
  return Mesh(
    parse_shape(shape, shape_given),
    parse_layout(layout, layout_given),
    shape_given,
    layout_given,
  )


def parse_shape(value, given: str) -> mtf.Shape:
  """The axes of a mesh; "" is one device.

  Raises:
    UserError: for another form, a size below 1 or a repeated axis.
  """
  with contextlib.suppress(ValueError, TypeError, AttributeError):
    shape = mtf.convert_to_shape(value)
    names = {d.name for d in shape.dims if bindings.is_positive(d.size)}
    if len(names - {""}) == shape.ndims:
      return shape
  raise errors.UserError(
    f"{given} is not a mesh: give AXIS:SIZE, separated by commas, each axis "
    "once and each size 1 or more, such as 'model:2,batch:4'."
  )


def parse_layout(value, given: str) -> frozenset[tuple[str, str]]:
  """The rules of a layout; "" for none."""
  with contextlib.suppress(ValueError, TypeError):
    pairs = frozenset(mtf.convert_to_layout_rules(value)._pairs)
    if all(
      isinstance(p, tuple)
      and len(p) == 2
      and all(isinstance(name, str) and name for name in p)
      for p in pairs
    ):
      return pairs
  raise errors.UserError(
    f"{given} is not a layout: give DIMENSION:AXIS, separated by commas, "
    "such as 'batch:batch,d_ff:model,heads:model,vocab:model'."
  )


def of_run(on_tpu: bool) -> Mesh:
  """The mesh that t5 will use.

  Without --tpu, a mesh or devices given by the user are kept; otherwise the
  mesh is all GPUs of the machine, or else one CPU. The TPU topology of a public
  operative_config.gin is ignored.

  Raises:
    UserError: for malformed values, devices that do not exist, or another
      number of devices than the mesh has.
  """
  layout = config.value("run.layout_rules", T5_LAYOUT)
  layout_given = f"run.layout_rules = {layout!r}"
  try:
    bound = gin.query_parameter("run.mesh_shape")
  except ValueError:
    bound = None
  where = "run.mesh_devices"
  elsewhere = _is_of_another_machine(where, on_tpu)
  if elsewhere and config.is_recorded("run.mesh_shape"):
    bound = None
  follows_tpu = bound is None or _TPU in str(bound)
  if on_tpu and follows_tpu:
    shape, given = _tpu_shape(str(bound))
    return parse(shape, layout, given, layout_given)
  no_names = on_tpu or elsewhere
  names = [] if no_names else devices.check(config.value(where), where)
  if follows_tpu:
    found = names or devices.local()
    shape, note = f"model:1,batch:{len(found)}", ""
    topology = config.value(f"{_TPU}.tpu_topology")
    if topology is not None:
      note = (
        f"{_TPU}.tpu_topology = {topology!r} is not used, because --tpu is not "
        f"given: the mesh is {', '.join(found)}"
      )
    elif len(found) > 1 and not names:
      note = (
        f"the mesh is {', '.join(found)} (bind run.mesh_shape and {where} for "
        "another)"
      )
    mesh = parse(shape, layout, f"run.mesh_shape = {shape!r}", layout_given)
    settles = {"run.mesh_shape": shape, where: found}
    return dataclasses.replace(mesh, settles=settles, note=note)
  shape = config.value("run.mesh_shape")
  given = f"run.mesh_shape = {shape!r}"
  mesh = parse(shape, layout, given, layout_given)
  size = mesh.shape.size
  if names and len(names) != size:
    raise errors.UserError(
      f"{where} names {len(names)} device{'s'[: len(names) != 1]}, and {given} "
      f"has {size}: name as many as the mesh has."
    )
  if on_tpu or names or size == 1:
    return mesh
  found = devices.local()
  if len(found) == size:
    return dataclasses.replace(mesh, settles={where: found})
  note = (
    f"{given}: all {size} parts of the mesh share {found[0]}, because "
    f"{where} names no devices"
  )
  return dataclasses.replace(mesh, note=note)


def _is_of_another_machine(where: str, on_tpu: bool) -> bool:
  """Whether the devices come from the record of a run on another machine."""
  if not config.is_recorded(where) or config.value(where) is None:
    return False
  try:
    devices.check(config.value(where), where)
  except errors.UserError:
    return True
  return on_tpu


def _tpu_shape(reference: str) -> tuple[mtf.Shape, str]:
  """The checked mesh of `utils.tpu_mesh_shape`, and the values that made it.

  Upstream rounds down: with a model_parallelism that does not divide the cores,
  some would be left out, and the run would fail on the TPU.

  Args:
    reference: gin's reference to it: "@scope/tpu_mesh_shape()".
  """
  scope = reference.lstrip("@").split("/")[:-1]
  topology_name, *others = (
    f"{_TPU}.{name}"
    for name in ("tpu_topology", "model_parallelism", "ensemble_parallelism")
  )

  def value(name):
    return config.value("/".join([*scope, name]), config.value(name))

  topology = value(topology_name)
  if topology is None:
    raise errors.UserError(
      f"--tpu needs the topology of the TPU: give {topology_name} = 'v3-8', or "
      "run.mesh_shape, such as 'model:2,batch:4'."
    )
  given = f"{topology_name} = {topology!r}"
  cores = _cores(topology)
  if not cores:
    raise errors.UserError(
      f"{given} is not a topology: give a kind and its cores, such as 'v3-8', "
      "or a rectangle of chips, such as '4x4'."
    )
  parallel, members = map(value, others)
  sizes = [parallel] if members is None else [parallel, members]
  asked = [f"{k} = {v!r}" for k, v in zip(others, sizes, strict=False)]
  with contextlib.suppress(
    ValueError, TypeError, IndexError, ZeroDivisionError
  ):  # a list is a specification of tiles
    shape = utils.tpu_mesh_shape(topology, *sizes)
    good = isinstance(parallel, list) or all(map(bindings.is_positive, sizes))
    if good and shape.size == cores:
      return shape, ", ".join([given, *asked])
  raise errors.UserError(
    f"{' and '.join(asked)} {'do' if members else 'does'} not divide the "
    f"{cores} cores of {given}: give a divisor of {cores}."
  )


def _cores(topology) -> int | None:
  """How many cores a topology has; 0 or None if it is not one."""
  if not isinstance(topology, str):
    return None
  if topology.startswith("v"):
    cores = topology.split("-")[-1]
    return int(cores) if cores.isdecimal() else None
  chips = re.split("_twisted|_untwisted", topology)[0].split("x")
  sizes = [int(side) if side.isdecimal() else 0 for side in chips]
  return math.prod(sizes) * flags.FLAGS.logical_cores_per_chip
