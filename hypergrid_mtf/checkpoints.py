"""A model's variables, the files of its checkpoints, and whether they match.

A checkpoint `model.ckpt-20` is `model.ckpt-20.index`, which lists the
variables, and shards `model.ckpt-20.data-00000-of-00002`, … with their values.
TensorFlow reads the shards only when it restores, after the graph is built.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import math
import os
import re
import types

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors

GLOBAL_STEP = "global_step"
# Scopes of the variables of HyperGrid and its peers.
OWN_SCOPES = re.compile("/(hypergrid|ia3|adapter|hyperprompt|peer)/")
_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")
_STEP = re.compile(r"^model\.ckpt-(\d+)\.index$")
_PART = re.compile(r"^model\.ckpt-(\d+)\b")


def prefix(path: str) -> str:
  """A checkpoint's prefix, given the prefix or the path of one of its files."""
  return _SUFFIX.sub("", path)


def exists(path: str) -> bool:
  """Whether a checkpoint has an index (or is a file of TensorFlow 0.x)."""
  if tf.io.gfile.exists(f"{path}.index"):
    return True
  return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def is_gone(path: str) -> bool:
  """Whether no file of a checkpoint is left."""
  return not exists(path) and not tf.io.gfile.glob(f"{path}.*")


def path_of(model_dir: str, step: int) -> str:
  """The prefix of a step's checkpoint in a folder."""
  return os.path.join(model_dir, f"model.ckpt-{step}")


def list_steps(model_dir: str, parts: bool = False) -> list[int]:
  """The sorted steps of a folder's checkpoints, listed in `checkpoint` or not.

  Args:
    model_dir: local or in the cloud; may be absent.
    parts: include checkpoints without an index, as t5 does.
  """
  try:
    names = tf.io.gfile.listdir(model_dir)
  except tf.errors.OpError:
    return []
  found = ((_PART if parts else _STEP).match(name) for name in names)
  return sorted({int(match.group(1)) for match in found if match})


def describe_steps(found: list[int]) -> str:
  """Steps for a message; only the first and last of a long list."""
  if len(found) <= 8:
    return ", ".join(map(str, found))
  first, last = (", ".join(map(str, part)) for part in (found[:3], found[-3:]))
  return f"{first}, …, {last}"


def damage(path: str, read_values: bool = False) -> str | None:
  """What is wrong with the files of a checkpoint.

  Args:
    path: its prefix.
    read_values: also read all values, as a restore does; this finds flipped
      bits and takes as long as a restore.

  Returns:
    a clause about one of its files, or None if it is intact
  """
  name = os.path.basename(path)
  if not exists(path):
    return f"{name}.index is missing"
  try:
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    types = reader.get_variable_to_dtype_map()
  except (ValueError, tf.errors.OpError) as e:
    return f"its index cannot be read ({_reason(e)})"
  if tf.io.gfile.exists(f"{path}.index"):
    wrong = _shard_damage(path, shapes, types)
    if wrong:
      return wrong
  if read_values:
    for variable in sorted(shapes):
      try:
        reader.get_tensor(variable)
      except (ValueError, tf.errors.OpError) as e:
        return f"the value of {variable} cannot be read ({_reason(e)})"
  return None


def _reason(error: Exception) -> str:
  """TensorFlow's reason, without the path and the guesses before it."""
  return errors.sentence(error).split(": ")[-1]


def _shard_damage(path, shapes, types) -> str | None:
  """What is wrong with the number and the sizes of the data files."""
  shards: dict[int, dict[int, str]] = collections.defaultdict(dict)
  for file in tf.io.gfile.glob(f"{path}.data-*"):
    match = _SHARD.search(file)
    if match:
      number, of = map(int, match.groups())
      shards[of][number] = file
  name = os.path.basename(path)
  if not shards:
    return f"its data files, {name}.data-…, are missing"
  needed, exact = _size_of_values(shapes, types)
  wrong = None
  for of, files in sorted(shards.items()):
    gone = [n for n in range(of) if n not in files]
    if gone:
      wrong = f"{name}.data-{gone[0]:05d}-of-{of:05d} is missing"
      continue
    sizes = {file: tf.io.gfile.stat(file).length for file in files.values()}
    held = sum(sizes.values())
    if held == needed or (held > needed and not exact):
      return None
    empty = [os.path.basename(f) for f, size in sizes.items() if not size]
    wrong = (
      f"{empty[0]} is empty"
      if empty
      else f"{name}.data-… hold {held:,} bytes, but the index says {needed:,}"
    )
  return wrong


def _size_of_values(shapes, types) -> tuple[int, bool]:
  """Bytes of all values, and whether that is exact (not for strings)."""
  size, exact = 0, True
  for variable, shape in shapes.items():
    dtype = tf.as_dtype(types[variable])
    if dtype.is_numpy_compatible and dtype != tf.string:
      size += math.prod(shape) * dtype.size
    else:
      exact = False
  return size, exact


def digest(path: str) -> str:
  """SHA-256 of an index, which holds a checksum of every value.

  A copy has the same digest, another training a different one.
  """
  index = f"{path}.index"
  with tf.io.gfile.GFile(
    index if tf.io.gfile.exists(index) else path, "rb"
  ) as f:
    return hashlib.sha256(f.read()).hexdigest()


def newest_intact(
  model_dir: str, but: str | None = None, read_values: bool = False
) -> int | None:
  """The step of the newest intact checkpoint in a folder, or None.

  Args:
    model_dir: the folder.
    but: the prefix of a checkpoint to leave out.
    read_values: as in `damage`.
  """
  for step in reversed(list_steps(model_dir)):
    path = path_of(model_dir, step)
    if path != but and not damage(path, read_values):
      return step
  return None


def check_intact(
  path: str, origin: str, latest: bool = False, read_values: bool = False
) -> None:
  """Raises UserError if a checkpoint is damaged, and names an intact one.

  Args:
    path: its prefix.
    origin: where the path came from, for the message (a flag or gin binding).
    latest: whether it was chosen as the latest of its folder.
    read_values: as in `damage`.
  """
  wrong = damage(path, read_values)
  if not wrong:
    return
  folder = os.path.dirname(path)
  whole = newest_intact(folder, but=path, read_values=read_values)
  if whole is None:
    advice = "no other checkpoint there is intact: give another folder"
  elif latest:
    advice = (
      f"that of step {whole} is intact: {how_to_name(folder, whole)} to use it"
    )
  else:
    advice = f"use an intact one, such as {path_of(folder, whole)}"
  raise errors.UserError(
    f"the checkpoint {path} ({origin}) is damaged: {wrong}; {advice}."
  )


def how_to_name(model_dir: str, step: int) -> str:
  """How to make a step the latest of a folder, for a message."""
  file = os.path.join(model_dir, "checkpoint")
  return (
    f"change the first line of {file} to "
    f'`model_checkpoint_path: "model.ckpt-{step}"`'
  )


def variable_shapes(model) -> dict[str, tuple[int, ...]]:
  """{variable name: shape} of a model, without allocating the variables.

  In order of creation, without optimizer slots and the global step.
  """
  graph = mtf.Graph()

  def get_variable(getter, name, *args, **kwargs):
    # Only the name is needed; running the initializer would be slow.
    del getter, args, kwargs
    return types.SimpleNamespace(name=f"{name}:0")

  with (
    tf.Graph().as_default(),
    tf.variable_scope("", custom_getter=get_variable),
  ):
    mesh = mtf.Mesh(graph, "shapes")
    shape = mtf.Shape([mtf.Dimension("batch", 1), mtf.Dimension("length", 2)])
    tokens = mtf.ones(mesh, shape, dtype=tf.int32)
    model.call_simple(
      inputs=tokens,
      targets=tokens,
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=utils.get_variable_dtype(),
    )
  return {v.name: tuple(v.shape.to_integer_list) for v in graph.all_variables}


def _named_latest(model_dir: str) -> str | None:
  """The checkpoint named in the file `checkpoint`, if it exists."""
  with contextlib.suppress(ValueError, tf.errors.OpError):
    return tf.train.latest_checkpoint(model_dir)
  return None


def latest_checkpoint(model_dir: str) -> str | None:
  """`tf.train.latest_checkpoint`, but refuses a damaged folder.

  If the file `checkpoint` is missing or unusable, TensorFlow acts as if there
  were no checkpoints, and training would start over next to the saved ones.

  Returns:
    the prefix of the latest checkpoint; None if there are none

  Raises:
    UserError: if there are checkpoints and nothing says which is the latest.
  """
  latest = _named_latest(model_dir)
  if latest is not None:
    return latest
  index = os.path.join(model_dir, "checkpoint")
  steps = list_steps(model_dir)
  listed = tf.io.gfile.exists(index)
  if not steps and not listed:
    return None
  if not steps:
    raise errors.UserError(
      f"{index} is damaged or names a checkpoint that is missing, and there is "
      "no other: remove it to start over, or give another folder."
    )
  newest = newest_intact(model_dir)
  newest = steps[-1] if newest is None else newest
  there = f"checkpoints of steps {describe_steps(steps)}"
  problem = (
    f"{index} is damaged or names a missing checkpoint; the folder has {there}"
    if listed
    else f"{model_dir} has {there}, but no file `checkpoint` to say which "
    "is the latest"
  )
  raise errors.UserError(
    f"{problem}: {how_to_name(model_dir, newest)} to continue "
    "from there, or give another folder to start over."
  )


def of_path(path: str, origin: str) -> str:
  """The checkpoint meant by a user's path.

  Args:
    path: a checkpoint's prefix, one of its files, or a folder.
    origin: where the path came from, for the message (a flag or gin binding).

  Returns:
    the prefix; for a folder, that of its latest checkpoint

  Raises:
    UserError: for a folder without a latest checkpoint.
  """
  if os.path.basename(path) == "checkpoint":  # the list of a folder
    path = os.path.dirname(path) or "."
  if not tf.io.gfile.isdir(path):
    return prefix(path)
  latest = _named_latest(path)
  if latest is not None:
    return latest
  steps = list_steps(path)
  there = (
    "whose file `checkpoint` names none of its checkpoints, steps "
    f"{describe_steps(steps)}"
    if steps
    else "without checkpoints"
  )
  example = path_of(path, steps[-1] if steps else 1000)
  raise errors.UserError(
    f"{origin} = {path!r} is a folder {there}: give the path of a checkpoint, "
    f"such as {example}."
  )


def reader_shapes(path: str, origin: str) -> dict[str, tuple[int, ...]]:
  """{variable name: shape} of a checkpoint.

  Args:
    path: the checkpoint's prefix.
    origin: where the path came from, for the message.
  """
  try:
    reader = tf.train.load_checkpoint(path)
  except (ValueError, tf.errors.OpError) as e:
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) cannot be read: {errors.sentence(e)}"
    ) from None
  return {k: tuple(v) for k, v in reader.get_variable_to_shape_map().items()}


def count_parameters(path: str) -> int:
  """The parameters of the model whose checkpoint it is."""
  shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
  own = [n for n in shapes if not _is_training_state(n)]
  return sum(math.prod(shapes[n]) for n in own)


def check_dtype(path: str, names, origin: str) -> None:
  """Raises UserError if a checkpoint's weights have another type.

  TensorFlow does not convert between float32 and bfloat16 when it restores. The
  public checkpoints are bfloat16 (mesh issue 178), which is mesh_tensorflow's
  default.

  Args:
    path: the checkpoint's prefix.
    names: of the weights that will be loaded from it.
    origin: where the path came from, for the message.
  """
  types = tf.train.load_checkpoint(path).get_variable_to_dtype_map()
  here = tf.as_dtype(utils.get_variable_dtype().master_dtype)
  for name in names:
    there = tf.as_dtype(types[name])
    if there != here:
      raise errors.UserError(
        f"the checkpoint {path} ({origin}) holds weights of type {there.name} "
        f"({name}), and this configuration uses {here.name}: give "
        '--gin_param="utils.get_variable_dtype.master_dtype = '
        f"'{there.name}'\"."
      )


def check_same_model(
  path: str, shapes: dict[str, tuple[int, ...]], origin: str
) -> None:
  """Raises UserError if a checkpoint is of another model.

  Args:
    path: the checkpoint's prefix.
    shapes: of the model, from `variable_shapes`.
    origin: where the path came from, for the message (a flag or gin binding).
  """
  found = reader_shapes(path, origin)
  wrong = [
    name
    for name in {**shapes, **found}
    if found.get(name) != shapes.get(name)
    and (name in shapes or not _is_training_state(name))
  ]
  if wrong:
    difference = describe_shapes(found.get(wrong[0]), shapes.get(wrong[0]))
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) was made by another model: {wrong[0]} "
      f"is {difference} ({len(wrong)} variables differ); give the gin files "
      "that the checkpoint was trained with, or another folder."
    )
  check_dtype(path, shapes, origin)


def describe_shapes(there, here) -> str:
  """A variable's shape in a checkpoint and in a model; None if absent."""
  there, here = ("absent" if s is None else list(s) for s in (there, here))
  return f"{there} in the checkpoint and {here} in the model"


def _is_training_state(name: str) -> bool:
  """Whether a variable is an optimizer slot or the global step."""
  return "_slot_" in name or name == GLOBAL_STEP


@dataclasses.dataclass(frozen=True)
class WarmStart:
  """What a model loads from another model's checkpoint.

  Attributes:
    loaded: {variable: shape} in both.
    slots: optimizer slots of `loaded` variables in the checkpoint; t5 loads
      them too, and the global step.
    fresh: {variable: shape} of our layers' own variables that are not in the
      checkpoint, and of any that gin excludes; they start at random.
    missing: {variable: shape} of all others not in the checkpoint.
    reshaped: {variable: (shape there, shape here)}.
    unused: {variable: shape} only in the checkpoint.
  """

  loaded: dict
  slots: dict
  fresh: dict
  missing: dict
  reshaped: dict
  unused: dict

  @property
  def unexpected(self) -> dict:
    """{variable: (shape there, shape here)} of all differences; None if absent.

    Except our layers' own variables, which a vanilla T5 does not have.
    """
    missing = {name: (None, shape) for name, shape in self.missing.items()}
    unused = {name: (shape, None) for name, shape in self.unused.items()}
    return {**self.reshaped, **missing, **unused}

  def to_text(self, names: int = 3) -> str:
    """A line for each kind of variable, with a few names of unexpected ones."""
    lines = [
      f"  {kind:<8} {len(found):>5} variables, {_count(found):>14,} parameters"
      for kind, found in (("loaded", self.loaded), ("fresh", self.fresh))
    ]
    lines[0] += f"; of their optimizer slots, {len(self.slots)} too"
    for kind in ("missing", "reshaped", "unused"):
      found = getattr(self, kind)
      line = f"  {kind:<8} {len(found):>5} variables"
      if found:
        some = ", ".join(
          f"{name} {_shape_text(shape)}"
          for name, shape in itertools.islice(found.items(), names)
        )
        more = "" if len(found) <= names else ", …"
        line += f": {some}{more}"
      lines.append(line)
    return "\n".join(lines)

  def to_json(self) -> dict:
    """All names and shapes, to be written to a file."""
    return dataclasses.asdict(self)


def _count(shapes: dict) -> int:
  return sum(math.prod(shape) for shape in shapes.values())


def _shape_text(shape) -> str:
  if shape and isinstance(shape[0], tuple):
    return describe_shapes(*shape)
  return str(list(shape))


def legacy_name(name: str) -> str:
  """A variable's (or slot's) name in a public T5 1.0 checkpoint.

  These were made before mesh_tensorflow renamed its norms; t5 reads them with
  their own operative_config.gin, which restores the old names.
  """
  name = re.sub(r"^(\w+)/rms_norm/", r"\1/final_layer_norm/", name)
  return name.replace("/rms_norm/", "/layer_norm/")


def name_in(found, name: str) -> str:
  """A variable's name in a checkpoint, old or new."""
  old = legacy_name(name)
  return old if name not in found and old in found else name


def use_legacy_names(found, shapes) -> None:
  """Makes mesh_tensorflow look for the old names if a checkpoint has them.

  Args:
    found: names in the checkpoint.
    shapes: names of the model's variables.
  """
  parameter = "init_checkpoint_variable_mapping.mapping_fn"
  try:
    if gin.query_parameter(parameter) is not None:
      return  # the user's own choice
  except ValueError:
    pass
  if any(name_in(found, name) != name for name in shapes):
    with gin.unlock_config():
      gin.bind_parameter(parameter, legacy_name)


def warm_start(
  found: dict[str, tuple[int, ...]],
  shapes: dict[str, tuple[int, ...]],
  variable_filter: str = "",
  should_load=utils.should_load_variable,
) -> WarmStart:
  """What `run.init_checkpoint` will load, as mesh_tensorflow chooses it.

  Args:
    found: the checkpoint's variables, from `reader_shapes`.
    shapes: the model's, from `variable_shapes`.
    variable_filter: run.init_variable_filter, a pattern.
    should_load: gin's other way to choose, by name; its function that renames
      variables is used as bound.
  """
  pattern = re.compile(variable_filter)
  offered = {n: s for n, s in found.items() if pattern.search(n)}
  loaded, slots, fresh, reshaped = {}, {}, {}, {}
  missing: dict[str, tuple[int, ...]] = {}
  used = set()
  for name, shape in shapes.items():
    there = utils.init_checkpoint_variable_mapping(name)
    if not should_load(name) or (there in found and there not in offered):
      fresh[name] = shape
      used.add(there)  # left out on purpose
    elif there not in offered:
      (fresh if OWN_SCOPES.search(name) else missing)[name] = shape
    elif offered[there] != shape:
      reshaped[name] = (offered[there], shape)
      used.add(there)
    else:
      loaded[name] = shape
      used.add(there)
  unused = {}
  for name, shape in offered.items():
    of = name.split("_slot_")[0]
    if name in used or name == GLOBAL_STEP:
      continue
    if of != name and of in used:
      slots[name] = shape
    elif of == name:
      unused[name] = shape
  return WarmStart(loaded, slots, fresh, missing, reshaped, unused)


def step_of(path: str) -> int | None:
  """The global step in a checkpoint, or None."""
  reader = tf.train.load_checkpoint(path)
  if not reader.has_tensor(GLOBAL_STEP):
    return None
  return int(reader.get_tensor(GLOBAL_STEP))
