"""Whether a run's mesh, layout, devices, batch and model fit together.

Mesh TensorFlow finds out while it lowers the graph, or never: an axis that no
rule of the layout names makes its devices do the same work, and a device that
is not there is replaced.
"""

import difflib
import math

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, gin_files, meshes, request

_OUTER = "tpu_estimator_model_fn.outer_batch_size"


def check_axes(mesh: meshes.Mesh) -> None:
  """Checks that each axis has work to share, and each dimension one axis.

  Args:
    mesh: of the run.

  Raises:
    UserError: naming the axis or the dimension.
  """
  for axis in mesh.axes:
    if axis.name not in (name for _, name in mesh.layout):
      known = sorted({name for _, name in mesh.layout})
      raise errors.UserError(
        f"{mesh.shape_given}: no rule of {mesh.layout_given} names the axis "
        f"{axis.name}, so its {axis.size} devices would all do the same work"
        f"{_near(axis.name, known)}: the rules name "
        f"{', '.join(known) or 'no axis'}."
      )
  for name in sorted({name for name, _ in mesh.layout}):
    axes = [a.name for a in mesh.shape.dims if (name, a.name) in mesh.layout]
    if len(axes) > 1:
      raise errors.UserError(
        f"{mesh.layout_given} splits {name} over two axes of the mesh, "
        f"{' and '.join(axes)}: keep one of these rules."
      )
  if not mesh.axes:
    return
  axes = [axis.name for axis in mesh.shape.dims]
  for name, axis in _own_rules(mesh):
    if axis not in axes:
      console.say(
        f"{mesh.layout_given}: the rule {name}:{axis} has no effect, because "
        f"the mesh has no axis {axis}{_near(axis, axes)}"
      )


def _own_rules(mesh) -> list[tuple[str, str]]:
  """The rules that the user and not t5 made."""
  return sorted(mesh.layout - meshes.parse_layout(meshes.T5_LAYOUT, ""))


def _near(name: str, known) -> str:
  near = difflib.get_close_matches(name, known, n=1)
  return f" (did you mean {near[0]}?)" if near else ""


def _batch(mesh) -> tuple[int | None, str]:
  """The sequences of a step, and what the user gave.

  None where the batch itself is wrong, which other checks say.
  """
  bound = gin_files.value("run.batch_size", ("tokens_per_replica", 2048))
  given = f"run.batch_size = {bound!r}"
  if isinstance(bound, int):
    return bound if bound > 0 else None, given
  try:
    batch = utils.compute_batch_size(_lengths(), mesh.shape, mesh.rules, bound)
  except (ValueError, TypeError, AttributeError):
    return None, given
  good = isinstance(batch, int) and batch > 0
  return batch if good else None, f"{given}, {batch} sequences,"


def _lengths() -> dict[str, int] | None:
  lengths = gin_files.value("run.sequence_length")
  if isinstance(lengths, int):
    return {"inputs": lengths, "targets": lengths}
  return lengths


def check_batch(
  mesh: meshes.Mesh, batch: int, given: str, outer: int = 1
) -> None:
  """Checks that the mesh divides the batch.

  Args:
    mesh: of the run.
    batch: sequences of a step, on the whole mesh.
    given: what the user gave, for the message.
    outer: into how many outer batches t5 splits it before the mesh does.

  Raises:
    UserError: naming the batch, the axis and what would be right.
  """
  axes = [mesh.axis_of("outer_batch"), mesh.axis_of("batch")]
  if axes[0] and outer % axes[0].size:
    raise errors.UserError(
      f"{_OUTER} = {outer} does not divide among the "
      f"{axes[0].size} devices of the axis {axes[0].name} "
      f"({mesh.shape_given}): give a multiple of {axes[0].size}."
    )
  multiple = outer * mesh.ways("batch")
  if batch % multiple:
    by = [f"{outer} outer batches"] if outer > 1 else []
    if axes[1]:
      by.append(
        f"the {axes[1].size} devices of the axis {axes[1].name} "
        f"({mesh.shape_given})"
      )
    raise errors.UserError(
      f"{given} does not divide among {' and '.join(by)}: give a "
      f"multiple of {multiple}."
    )


def check_ensemble(model, inputs: int | None, where: str) -> None:
  """Checks that the data of an ensemble are for as many models as there are.

  Args:
    model: from `gin_model.build`.
    inputs: how many, or None if all see the same data.
    where: the gin binding of `inputs`.

  Raises:
    UserError: for another number of them.
  """
  parts = [
    getattr(model, n) for n in ("encoder", "decoder") if hasattr(model, n)
  ] or [model]
  sizes = [getattr(p, "ensemble_dim", None) for p in parts]
  sizes = [d.size if d else None for d in sizes]
  if len(set(sizes)) > 1:
    raise errors.UserError(
      f"Unitransformer.ensemble is {sizes[0]} in the encoder and {sizes[1]} in "
      "the decoder: give both the same number."
    )
  if inputs and inputs != sizes[0]:
    raise errors.UserError(
      f"{where} = {inputs!r}, and Unitransformer.ensemble is {sizes[0]}: give "
      f"both the same number, or leave {where} out, so that all models of the "
      "ensemble see the same examples."
    )


def check_model(
  mesh: meshes.Mesh, model, batch: int, lengths: dict, outer: int = 1
) -> None:
  """Checks every tensor of a model's forward pass against the mesh.

  Builds the pass as a graph of Mesh TensorFlow, which is symbolic: nothing of
  it is lowered to TensorFlow but the names of variables. The model is one that
  knows of no mesh: attention that knows of an axis without work splits the
  batch once more for it, by a dimension of any name.

  Args:
    mesh: of the run.
    model: from `gin_model.build`.
    batch: sequences of a step.
    lengths: {feature: tokens}.
    outer: outer batches of a step.

  Raises:
    UserError: for a dimension that an axis does not divide, two dimensions of
      one tensor on one axis, or an axis that splits no tensor.
  """
  with tf.Graph().as_default():
    graph = mtf.Graph()
    built = mtf.Mesh(graph, "checked")
    tokens = {}
    for name in ("inputs", "targets"):
      dims = [
        mtf.Dimension("outer_batch", outer),
        mtf.Dimension("batch", batch // outer),
        mtf.Dimension("length", lengths.get(name, max(lengths.values()))),
      ]
      tokens[name] = mtf.zeros(built, mtf.Shape(dims), tf.int32)
    model.call_simple(
      **tokens,
      compute_loss=True,
      mode=tf.estimator.ModeKeys.TRAIN,
      variable_dtype=utils.get_variable_dtype(),
    )
  # Of each dimension: "heads" is num_heads, or that times d_kv.
  sizes: dict[str, set[int]] = {}
  variables = [o for o in graph.operations if isinstance(o, mtf.Variable)]
  for operation in variables + graph.operations:  # those with names come first
    for tensor in operation.outputs:
      _check_tensor(mesh, operation, tensor.shape.dims)
      for dim in tensor.shape.dims:
        sizes.setdefault(dim.name, set()).add(dim.size)
  for name in sizes:
    _check_divides(mesh, name, sizes[name])
  used = {axis.name for axis in map(mesh.axis_of, sizes) if axis}
  for axis in mesh.axes:
    if axis.name not in used:
      rules = sorted(f"{d}:{a}" for d, a in mesh.layout if a == axis.name)
      raise errors.UserError(
        f"{mesh.shape_given}: the axis {axis.name} splits nothing of this "
        f"model, so its {axis.size} devices would all do the same work: no "
        f"tensor has the dimension of the rule {' or '.join(rules)}."
      )
  for name, axis in _own_rules(mesh):
    if axis in used and name not in sizes:
      console.say(
        f"{mesh.layout_given}: the rule {name}:{axis} has no effect, because "
        f"no tensor of this model has the dimension {name}"
        f"{_near(name, sorted(sizes))}"
      )


def _check_tensor(mesh, operation, dims) -> None:
  """No two dimensions of a tensor may be split over the same axis."""
  used: dict[str, str] = {}
  for dim in dims:
    axis = mesh.axis_of(dim.name)
    if axis is None:
      continue
    if axis.name in used:
      what = (
        operation.name if isinstance(operation, mtf.Variable) else "a tensor"
      )
      shape = ", ".join(f"{d.name}={d.size}" for d in dims)
      raise errors.UserError(
        f"{mesh.layout_given} splits both {used[axis.name]} and {dim.name} of "
        f"{what} [{shape}] over the axis {axis.name}: leave one of these rules "
        "out."
      )
    used[axis.name] = dim.name


def _check_divides(mesh, name: str, sizes: set[int]) -> None:
  """The axis that splits a dimension must divide all sizes that it has."""
  axis = mesh.axis_of(name)
  wrong = [size for size in sizes if axis and size % axis.size]
  if wrong:
    divisor = math.gcd(*sizes)
    choice = f"choose a divisor of {divisor}, or " if divisor > 1 else ""
    raise errors.UserError(
      f"{name} = {min(wrong)} does not divide among the {axis.size} devices of "
      f"the axis {axis.name} ({mesh.shape_given}): {choice}leave "
      f"{name}:{axis.name} out of the rules."
    )


def check(asked: request.Request, mesh: meshes.Mesh, model) -> None:
  """All checks of a run's mesh.

  Args:
    asked: the run.
    mesh: from `run_mesh.of_run`.
    model: from `gin_model.build`.

  Raises:
    UserError: naming what does not fit.
  """
  check_axes(mesh)
  where = "run.ensemble_inputs"
  # t5 evaluates all members on the same examples.
  inputs = gin_files.value(where) if asked.trains else None
  check_ensemble(model, inputs, where)
  batch, given = _batch(mesh)
  outer = 1
  if asked.trains or asked.mode == "perplexity_eval":
    outer = gin_files.value(_OUTER, 1) or 1
  if batch:
    check_batch(mesh, batch, given, outer)
  if mesh.axes:
    lengths = {
      feature: length
      for feature, length in (_lengths() or {}).items()
      if isinstance(length, int) and length > 0
    }
    default = {"inputs": 16, "targets": 16}  # evaluation finds its own
    batch = batch or outer * mesh.ways("batch")
    check_model(mesh, model, batch, lengths or default, outer)
