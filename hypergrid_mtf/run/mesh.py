"""The mesh of a run, from gin, from --tpu or from the machine.

Mesh TensorFlow spreads a model over a mesh of devices: the mesh has named axes,
and a layout rule "d_ff:model" splits the dimension d_ff of every tensor over
the axis model. What is malformed is refused here; `checks.mesh` looks at
whether mesh, layout, devices and model fit together.
"""

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

# t5's own, of gin/defaults.gin and of MtfModel. Its rules have no effect unless
# a mesh has their axes and a model their dimensions, which is meant.
T5_LAYOUT = (
  "ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model,"
  "experts:batch"
)
_SEPARATORS = r"[,.;\s]+"  # those of Mesh TensorFlow
_TPU = "tpu_mesh_shape"


@dataclasses.dataclass(frozen=True)
class Mesh:
  """A mesh and a layout, with where they came from.

  Attributes:
    shape: the axes.
    layout: {(dimension of a tensor, axis)}.
    shape_given: for messages: "run.mesh_shape = 'model:2'".
    layout_given: likewise.
    settles: {gin parameter: value} that this machine adds to what was given.
    note: what a reader should know of the choice, or "".
  """

  shape: mtf.Shape
  layout: frozenset[tuple[str, str]]
  shape_given: str
  layout_given: str
  settles: Mapping[str, object] = dataclasses.field(default_factory=dict)
  note: str = ""

  @property
  def rules(self) -> mtf.LayoutRules:
    """The layout as Mesh TensorFlow takes it."""
    return mtf.LayoutRules(self.layout)

  @property
  def axes(self) -> list[mtf.Dimension]:
    """The axes along which there is more than one device."""
    return [axis for axis in self.shape.dims if axis.size > 1]

  def axis_of(self, name: str) -> mtf.Dimension | None:
    """The axis of more than one device that splits a dimension, or None."""
    return next((a for a in self.axes if (name, a.name) in self.layout), None)

  def num_shards(self, name: str) -> int:
    """Into how many parts a dimension is split."""
    axis = self.axis_of(name)
    return axis.size if axis else 1


def parse(shape, layout, shape_given: str, layout_given: str) -> Mesh:
  """A mesh from what Mesh TensorFlow takes.

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
    UserError: for another form, a size below 1 or an axis that comes twice.
  """
  if isinstance(value, mtf.Shape):
    value = value.dims
  pairs = _pairs(value)  # an mtf.Dimension is one
  if pairs is not None:
    if isinstance(value, str):
      pairs = [(name, int(n) if n.isdecimal() else None) for name, n in pairs]
    names = {name for name, _ in pairs}
    if len(names) == len(pairs) and all(
      bindings.is_positive(size) for _, size in pairs
    ):
      return mtf.Shape([mtf.Dimension(*pair) for pair in pairs])
  raise errors.UserError(
    f"{given} is not a mesh: give AXIS:SIZE, separated by commas, each axis "
    "once and each size 1 or more, such as 'model:2,batch:4'."
  )


def parse_layout(value, given: str) -> frozenset[tuple[str, str]]:
  """The rules of a layout; "" splits nothing."""
  if isinstance(value, mtf.LayoutRules):
    value = value._pairs
  pairs = _pairs(value)
  if pairs is None or not all(isinstance(axis, str) for _, axis in pairs):
    raise errors.UserError(
      f"{given} is not a layout: give DIMENSION:AXIS, separated by commas, "
      "such as 'batch:batch,d_ff:model,heads:model,vocab:model'."
    )
  return frozenset(pairs)


def _pairs(value):
  """Pairs that begin with a name, or None.

  A collection holds tuples: Mesh TensorFlow puts them into a set.
  """
  if isinstance(value, str):
    value = [tuple(p.split(":")) for p in re.split(_SEPARATORS, value) if p]
  if not isinstance(value, list | tuple | set | frozenset):
    return None
  good = all(
    isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) and all(p)
    for p in value
  )
  return list(value) if good else None


def of_run(on_tpu: bool) -> Mesh:
  """The mesh that t5 will use.

  Without --tpu a mesh or devices that the user gave stay as they are, and
  otherwise it is all GPUs of the machine, or else one CPU. The topology of a
  TPU, as a public operative_config.gin has one, is not for this machine.

  Raises:
    UserError: for what is malformed, for devices that are not there, or not as
      many as the mesh has.
  """
  layout = config.value("run.layout_rules", T5_LAYOUT)
  layout_given = f"run.layout_rules = {layout!r}"
  try:
    bound = gin.query_parameter("run.mesh_shape")
  except ValueError:
    bound = None
  follows_tpu = bound is None or _TPU in str(bound)
  where = "run.mesh_devices"
  if on_tpu and follows_tpu:
    shape, given = _tpu_shape(str(bound))
    return parse(shape, layout, given, layout_given)
  names = [] if on_tpu else devices.check(config.value(where), where)
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


def _tpu_shape(reference: str) -> tuple[mtf.Shape, str]:
  """The mesh of utils.tpu_mesh_shape, and what it was made of."""
  # "@scope/tpu_mesh_shape()"
  scope = reference.lstrip("@").split("/")[:-1]
  names = ("tpu_topology", "model_parallelism", "ensemble_parallelism")
  values = [
    config.value(
      "/".join([*scope, f"{_TPU}.{name}"]), config.value(f"{_TPU}.{name}")
    )
    for name in names
  ]
  topology, cores, members = values
  given = tuple(f"{_TPU}.{name} = " for name in names)
  shape = tpu_shape(topology, cores, members, given)
  return shape, ", ".join(
    f"{name}{value!r}"
    for name, value in zip(given, values, strict=True)
    if value is not None
  )


def tpu_shape(
  topology, model_parallelism, ensemble_parallelism, names: tuple[str, ...]
) -> mtf.Shape:
  """`utils.tpu_mesh_shape`, with its arguments checked.

  Upstream rounds down: a model_parallelism that does not divide the cores would
  leave some of them out, and fail on the TPU.

  Args:
    topology: "v3-8", "4x4"; None where it was not given.
    model_parallelism: cores a replica, or a specification of tiles.
    ensemble_parallelism: an integer or None.
    names: of the three, with what precedes their values: "--tpu_topology=".
  """
  if topology is None:
    raise errors.UserError(
      f"--tpu needs the topology of the TPU: give {names[0]}'v3-8', or "
      "run.mesh_shape, such as 'model:2,batch:4'."
    )
  given = f"{names[0]}{topology!r}"
  cores = _cores(topology)
  if not cores:
    raise errors.UserError(
      f"{given} is not a topology: give a kind and its cores, such as 'v3-8', "
      "or a rectangle of chips, such as '4x4'."
    )
  members = 1 if ensemble_parallelism is None else ensemble_parallelism
  asked = f"{names[1]}{model_parallelism!r}"
  if isinstance(model_parallelism, list):
    try:
      return utils.tpu_mesh_shape(topology, model_parallelism)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as e:
      raise errors.UserError(
        f"{asked} does not tile the {cores} cores of {given}: "
        f"{errors.sentence(e)}"
      ) from None
  if all(map(bindings.is_positive, (model_parallelism, members))):
    shape = utils.tpu_mesh_shape(topology, model_parallelism, members)
    if shape.size == cores:
      return shape
  do = "does"
  if members != 1:
    asked, do = f"{asked} and {names[2]}{members!r}", "do"
  raise errors.UserError(
    f"{asked} {do} not divide the {cores} cores of {given}: give a divisor of "
    f"{cores}."
  )


def _cores(topology) -> int | None:
  """How many cores a topology has; 0 or None where it is not one."""
  if not isinstance(topology, str):
    return None
  if topology.startswith("v"):
    cores = topology.split("-")[-1]
    return int(cores) if cores.isdecimal() else None
  chips = re.split("_twisted|_untwisted", topology)[0].split("x")
  sizes = [int(side) if side.isdecimal() else 0 for side in chips]
  return math.prod(sizes) * flags.FLAGS.logical_cores_per_chip
