"""Meshes and layouts as a user writes them.

Mesh TensorFlow spreads a model over a mesh of devices: the mesh has named axes,
and a layout rule "d_ff:model" splits the dimension d_ff of every tensor over
the axis model. What is malformed is refused here; `mesh_checks` looks at
whether mesh, layout, devices and model fit together.
"""

import dataclasses
import math
import re

import mesh_tensorflow as mtf
from absl import flags
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors

# t5's own, of gin/defaults.gin and of MtfModel. Its rules have no effect unless
# a mesh has their axes and a model their dimensions, which is meant.
T5_LAYOUT = (
  "ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model,"
  "experts:batch"
)
_SEPARATORS = r"[,.;\s]+"  # those of Mesh TensorFlow


@dataclasses.dataclass(frozen=True)
class Mesh:
  """A mesh and a layout, with where they came from.

  Attributes:
    shape: the axes.
    layout: {(dimension of a tensor, axis)}.
    shape_given: for messages: "run.mesh_shape = 'model:2'".
    layout_given: likewise.
  """

  shape: mtf.Shape
  layout: frozenset[tuple[str, str]]
  shape_given: str
  layout_given: str

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

  def ways(self, name: str) -> int:
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

  Raises:
    UserError: for what is malformed.
  """
  return Mesh(
    parse_shape(shape, shape_given),
    parse_layout(layout, layout_given),
    shape_given,
    layout_given,
  )


def parse_shape(value, given: str) -> mtf.Shape:
  """The axes of a mesh.

  Args:
    value: as in `parse`; "" is one device.
    given: what the user gave, for the message.

  Raises:
    UserError: for another form, a size below 1 or an axis that comes twice.
  """
  if isinstance(value, mtf.Shape):
    value = value.dims
  pairs = _pairs(value)  # an mtf.Dimension is one
  if pairs is not None:
    if isinstance(value, str):
      pairs = [(name, int(n) if n.isdecimal() else None) for name, n in pairs]
    pairs = [(name, _whole(size)) for name, size in pairs]
    names = {name for name, _ in pairs}
    if len(names) == len(pairs) and all(size for _, size in pairs):
      return mtf.Shape([mtf.Dimension(*pair) for pair in pairs])
  raise errors.UserError(
    f"{given} is not a mesh: give AXIS:SIZE, separated by commas, each axis "
    "once and each size 1 or more, such as 'model:2,batch:4'."
  )


def parse_layout(value, given: str) -> frozenset[tuple[str, str]]:
  """The rules of a layout.

  Args:
    value: as in `parse`; "" splits nothing.
    given: what the user gave, for the message.

  Raises:
    UserError: for another form.
  """
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


def _whole(size) -> int | None:
  """A size of 1 or more, or None."""
  good = isinstance(size, int) and not isinstance(size, bool) and size > 0
  return size if good else None


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

  Raises:
    UserError: naming the argument.
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
  if isinstance(model_parallelism, list):
    try:
      return utils.tpu_mesh_shape(topology, model_parallelism)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as e:
      raise errors.UserError(
        f"{names[1]}{model_parallelism!r} does not tile the {cores} cores of "
        f"{given}: {errors.sentence(e)}"
      ) from None
  rest = cores
  for name, value in (
    (names[2], 1 if ensemble_parallelism is None else ensemble_parallelism),
    (names[1], model_parallelism),
  ):
    if not _whole(value) or rest % value:
      raise errors.UserError(
        f"{name}{value!r} does not divide the {rest} cores of {given}"
        f"{' that one member of the ensemble has' if rest < cores else ''}: "
        f"give a divisor of {rest}."
      )
    rest //= value
  return utils.tpu_mesh_shape(topology, model_parallelism, ensemble_parallelism)


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
