"""Checks that mesh, layout, devices, batch, model and TPU fit together.

Mesh TensorFlow notices while it lowers the graph, or never: if no layout rule
names an axis, its devices all do the same work, and a missing device is
silently replaced. The rules about TPUs come from documentation and discussions
of TPU VMs (listed in docs/cloud_tpu.md), not from a real TPU.
"""

import math
import re

import mesh_tensorflow as mtf
import seqio

from hypergrid_mtf import errors
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import config, request
from hypergrid_mtf.run import mesh as mesh_lib

_OUTER = "tpu_estimator_model_fn.outer_batch_size"
_TPU_FLAGS = ("tpu_job_name", "tpu_zone", "gcp_project")
LOCAL = "local"  # TensorFlow's name for this machine's TPU
_CHIPS_OF_A_HOST = 4
_KIND = re.compile(r"v(\d+)[a-z]*-(\d+)")


def check_mesh(run: request.Run) -> None:
  """Checks axes, batch, ensemble and every tensor against the mesh."""
  check_axes(run.mesh)
  _check_ensemble(run)
  check_rows(run)
  if run.mesh.axes:
    check_tensors(run.mesh, run.tensors)


def check_rows(run: request.Run) -> None:
  """Checks that the mesh divides the sequences of a step."""
  if run.num_sequences is None:
    return
  given = f"run.batch_size = {run.batch_size!r}"
  if not isinstance(run.batch_size, int):
    given += f", {run.num_sequences} sequences,"
  check_batch(run.mesh, run.num_sequences, given, run.outer_batch)


def check_axes(mesh: mesh_lib.Mesh) -> None:
  """Checks that each axis splits something, and each dimension has one axis."""
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


def _near(name: str, known) -> str:
  near = config.nearest(name, known)
  return f" (did you mean {near}?)" if near else ""


def check_batch(
  mesh: mesh_lib.Mesh, batch: int, given: str, outer: int = 1
) -> None:
  """Checks that the mesh divides the batch.

  Args:
    mesh: of the run.
    batch: sequences of a step, over the whole mesh.
    given: what the user gave, for the message.
    outer: the outer batches that t5 splits it into before the mesh does.
  """
  axes = [mesh.axis_of("outer_batch"), mesh.axis_of("batch")]
  if axes[0] and outer % axes[0].size:
    raise errors.UserError(
      f"{_OUTER} = {outer} does not divide among the "
      f"{axes[0].size} devices of the axis {axes[0].name} "
      f"({mesh.shape_given}): give a multiple of {axes[0].size}."
    )
  multiple = outer * mesh.num_shards("batch")
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


def _check_ensemble(run: request.Run) -> None:
  """Checks that an ensemble's data are for the right number of models."""
  where = "run.ensemble_inputs"
  # t5 evaluates all members on the same examples.
  inputs = config.value(where) if run.trains else None
  stacks = [
    getattr(run.model, n)
    for n in ("encoder", "decoder")
    if hasattr(run.model, n)
  ]
  sizes = [getattr(s, "ensemble_dim", None) for s in stacks or [run.model]]
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


def check_model(mesh: mesh_lib.Mesh, model, batch: int, lengths: dict) -> None:
  """Calls `check_tensors` for a step of `batch` sequences."""
  check_tensors(mesh, model_lib.list_tensors(model, batch, lengths))


def check_tensors(mesh: mesh_lib.Mesh, tensors) -> None:
  """Checks every tensor of a model's forward pass against the mesh.

  Args:
    mesh: of the run.
    tensors: from `model.list_tensors`.

  Raises:
    UserError: for a dimension that an axis does not divide, two dimensions of a
      tensor on one axis, or an axis that splits no tensor.
  """
  for operation, dims in tensors:
    _check_tensor(mesh, operation, dims)
  sizes = _sizes(tensors)
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


def _sizes(tensors) -> dict[str, set[int]]:
  """{dimension: its sizes}; "heads" is num_heads, or that times d_kv."""
  sizes: dict[str, set[int]] = {}
  for _, dims in tensors:
    for dim in dims:
      sizes.setdefault(dim.name, set()).add(dim.size)
  return sizes


def _check_tensor(mesh, operation, dims) -> None:
  """Checks that no two dimensions of a tensor are split over one axis."""
  used: dict[str, str] = {}
  for dim in dims:
    axis = mesh.axis_of(dim.name)
    if axis is None:
      continue
    if axis.name in used:
      variable = isinstance(operation, mtf.Variable)
      what = operation.name if variable else "a tensor"
      shape = ", ".join(f"{d.name}={d.size}" for d in dims)
      raise errors.UserError(
        f"{mesh.layout_given} splits both {used[axis.name]} and {dim.name} of "
        f"{what} [{shape}] over the axis {axis.name}: leave one of these rules "
        "out."
      )
    used[axis.name] = dim.name


def _check_divides(mesh, name: str, sizes: set[int]) -> None:
  """Checks that an axis divides all sizes of the dimension it splits."""
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


def check_tpu(run: request.Run) -> None:
  """Checks that TPUEstimator runs on --tpu, whose hosts can read the data."""
  flags = run.flags
  if not flags.tpu:
    return
  topology = config.value("tpu_mesh_shape.tpu_topology")
  given = f"tpu_mesh_shape.tpu_topology = {topology!r}"
  hosts = 1
  if isinstance(topology, str):  # otherwise the mesh was given, without hosts
    hosts = check_topology(topology, given, flags.logical_cores_per_chip)
  if flags.tpu == LOCAL:
    if hosts > 1:
      raise errors.UserError(
        f"--tpu=local is a TPU of one host, but {given} has {hosts}: give the "
        "name of the pod, --tpu=NAME."
      )
    return
  if hosts > 1:
    _check_places(flags)
  _check_tokenization(run)


def check_topology(topology: str, given: str, cores_of_a_chip: int) -> int:
  """Checks that TPUEstimator runs on a topology, and how cores are counted.

  Args:
    topology: "v3-8" or chips, "2x2".
    given: where it came from, with its value.
    cores_of_a_chip: --logical_cores_per_chip.

  Returns:
    the number of hosts
  """
  match = _KIND.match(topology)
  if not match:
    sides = re.split("_twisted|_untwisted", topology)[0].split("x")
    chips = math.prod(int(side) for side in sides if side.isdecimal())
    return max(1, chips // _CHIPS_OF_A_HOST)
  kind, cores = int(match[1]), int(match[2])
  if kind > 4:
    raise errors.UserError(
      f"{given}: TPUs after v4 have only the PJRT runtime, on which "
      "TPUEstimator does not run: use a v2, v3 or v4 with an image whose name "
      "ends in -se."
    )
  if kind == 4:
    raise errors.UserError(
      f"{given}: the name of a v4 counts {cores} cores, but TensorFlow sees "
      f"{cores // 2}: give the chips, '{cores // 2}x1', and "
      "--logical_cores_per_chip=1."
    )
  if cores_of_a_chip != 2:
    raise errors.UserError(
      f"--logical_cores_per_chip={cores_of_a_chip} does not fit {given}, whose "
      "chips have 2 cores: leave it out."
    )
  return max(1, cores // (2 * _CHIPS_OF_A_HOST))


def _check_places(flags) -> None:
  """Checks that all hosts of a pod can reach the files of a run."""
  places = [
    ("--model_dir", flags.model_dir),
    ("--t5_tfds_data_dir", flags.t5_tfds_data_dir),
  ]
  for folder in flags.additional_task_cache_dirs or ():
    places.append(("--additional_task_cache_dirs", folder))
  for flag, place in places:
    if place and "://" not in place:
      raise errors.UserError(
        f"{flag}={place} is only on this machine, but the hosts of the pod "
        f"--tpu={flags.tpu} read and write it: give a folder in the cloud, "
        "gs://BUCKET/FOLDER."
      )


def _check_tokenization(run: request.Run) -> None:
  """Refuses SentencePiece on the hosts of a pod, which lack its operation."""
  if (
    not (run.trains or run.split)
    or run.flags.allow_sentencepiece_on_pods
    or run.use_cached
  ):
    return
  if any(
    isinstance(feature.vocabulary, seqio.SentencePieceVocabulary)
    for feature in run.mixture.output_features.values()
  ):
    raise errors.UserError(
      f"--tpu={run.flags.tpu} reads the data on the TPU's hosts, which "
      "reportedly lack SentencePiece (t5 issue 965): cache the tasks first "
      f"(tools.cache_tasks) and bind {run.cached_parameter} = True, give "
      "--vocabulary=bytes, use one host with --tpu=local, or try it with "
      "--allow_sentencepiece_on_pods."
    )


def note_mesh(run: request.Run) -> list[str]:
  """Notes flags, devices and layout rules that have no effect."""
  lines = [run.mesh.note] if run.mesh.note else []
  if run.flags.tpu:
    if config.value("run.mesh_devices"):
      lines.append("run.mesh_devices is not used with --tpu")
  else:
    lines += [
      f"--{name}={run.flags[name].value} is not used, because --tpu is not "
      "given"
      for name in _TPU_FLAGS
      if run.flags[name].present
    ]
  mesh = run.mesh
  if not mesh.axes:
    return lines
  axes, sizes = [axis.name for axis in mesh.shape.dims], _sizes(run.tensors)
  for name, axis in sorted(
    # The user's rules, not t5's.
    mesh.layout - mesh_lib.parse_layout(mesh_lib.T5_LAYOUT, "")
  ):
    rule = f"{mesh.layout_given}: the rule {name}:{axis} has no effect, because"
    if axis not in axes:
      lines.append(f"{rule} the mesh has no axis {axis}{_near(axis, axes)}")
    elif name not in sizes and axis in (a.name for a in mesh.axes):
      lines.append(
        f"{rule} no tensor of this model has the dimension {name}"
        f"{_near(name, sorted(sizes))}"
      )
  return lines
