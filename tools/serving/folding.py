"""From a model whose gates know the task alone to a plain T5 for one task.

With `condition_on = "task_token"` the gate of a layer is a function of the
embedding of the first token, so for one task it is a constant:

    y = h (psi(G) * wo) = h wo',  wo' = psi(G) * wo

and wo' is the weight of t5's own layer.
"""

import re

import gin
import mesh_tensorflow as mtf
import numpy as np
import seqio
import tensorflow.compat.v1 as tf

import t5_tasks
from hypergrid_mtf import errors
from hypergrid_mtf.run import data_checks, gin_files, gin_model
from hypergrid_mtf.run import trained_model as trained
from t5_tasks import task_tokens
from tools.experiments import task_gates
from tools.serving import weights

# Of HyperGrid: what it has in common with t5's layer, and may be bound to it.
_SHARED = ("hidden_size", "activation", "use_bias", "dropout_rate")
_VANILLA = "@mesh_tensorflow.transformer.transformer_layers.DenseReluDense"
_MIXTURE_BINDINGS = (
  "mesh_train_dataset_fn.mixture_or_task_name",
  "mesh_eval_dataset_fn.mixture_or_task_name",
)
# Gates of float32 weights, whatever the training computed in.
_FLOAT32 = (tf.float32, tf.float32)


def check(model, model_dir: str) -> list[str]:
  """Checks that a model can be folded.

  Args:
    model: a transformer.Bitransformer.
    model_dir: of its training, for the message.

  Returns:
    names of its gated layers

  Raises:
    UserError: if it has no gates, or they are not a function of the task.
  """
  gated = task_gates.gated_layers(model)
  if not gated:
    raise errors.UserError(
      f"--model_dir={model_dir} is a vanilla model: there are no gates to fold."
    )
  for name, layer in gated:
    if layer.gates_differ and layer.condition_on != "task_token":
      raise errors.UserError(
        f"--model_dir={model_dir} was trained with HyperGrid.condition_on = "
        f"{layer.condition_on!r} ({name}): its gates follow the hidden state "
        "of the first token, which every other token of the input has changed, "
        "so there is not one weight for all inputs of a task; only gates of "
        "condition_on = 'task_token' can be folded."
      )
  if any(s.ensemble_dims for s in (model.encoder, model.decoder)):
    raise errors.UserError(
      f"--model_dir={model_dir} is an ensemble, which is more than one T5."
    )
  return [name for name, _ in gated]


def task_of(mixture, name: str) -> seqio.Task:
  """The task that --task names.

  Args:
    mixture: that the model was trained on.
    name: of one of its tasks, or short as in "rte", or of another task.

  Returns:
    the task

  Raises:
    UserError: for an unknown one.
  """
  tasks = {t.name: t for t in seqio.get_subtasks(mixture)}
  if name in tasks:
    return tasks[name]
  short = [t for t in tasks.values() if task_tokens.short_name(t.name) == name]
  if len(short) == 1:
    return short[0]
  if name in seqio.TaskRegistry.names():
    return seqio.TaskRegistry.get(name)
  raise errors.UserError(
    f"--task={name} is not a task of {mixture.name}, with which the model was "
    f"trained: choose one of {', '.join(map(task_tokens.short_name, tasks))}."
  )


def task_token(task: seqio.Task, count: int, data_dir: str | None) -> int:
  """The token with which every input of a task begins.

  Args:
    task: whose data is read.
    count: how many examples of each of its splits for training and validation.
    data_dir: the TFDS data folder; None for the default of TFDS.

  Returns:
    its id

  Raises:
    UserError: if the data is not there, or its inputs begin differently.
  """
  data_checks.check_data(task, data_dir)
  t5_tasks.vocabularies.check_vocabulary(task)
  splits = [s for s in ("validation", "train") if s in task.splits]
  seen: dict[int, str] = {}
  for split in splits or list(task.splits)[:1]:
    lengths = gin_files.value("run.sequence_length")
    rows = data_checks.first_examples([task], split, count, lengths)
    for example in rows.get(task.name, ()):
      text = tf.compat.as_text(example.get("inputs_pretokenized", b""))
      seen.setdefault(int(example["inputs"][0]), text)
  if len(seen) > 1:
    texts = [f"{token} ({text[:40]!r})" for token, text in seen.items()]
    raise errors.UserError(
      f"the inputs of {task.name} do not begin with one token, but with "
      f"{texts[0]} and {texts[1]}: their gates differ, so there is not one "
      "weight for all of them; its _task_token variant begins with one."
    )
  return next(iter(seen))


def gates(model, checkpoint: str, origin: str, token: int) -> list[np.ndarray]:
  """The gates of every layer for inputs that begin with a token.

  Args:
    model: from `gin_model.build`.
    checkpoint: its prefix.
    origin: where it came from, for the message.
    token: an id.

  Returns:
    [grid_rows, grid_cols] of each of `task_gates.gated_layers`, float32
  """
  reader = tf.train.load_checkpoint(checkpoint)
  types = reader.get_variable_to_dtype_map()
  master = tf.as_dtype(types[weights.EMBEDDING])
  dtype = mtf.VariableDType(master, *_FLOAT32)
  row = np.array([[token, 1]], np.int32)
  with task_gates.session(model, checkpoint, origin, 1, 2, dtype) as gates_of:
    found = gates_of(row)
  return [
    value.reshape(layer.grid_rows.size, layer.grid_cols.size)
    for value, (_, layer) in zip(
      found, task_gates.gated_layers(model), strict=True
    )
  ]


def expanded(gate: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """psi(G): every cell of a gate repeated over the region that it opens.

  Args:
    gate: [grid_rows, grid_cols].
    shape: (fan_in, fan_out) of the gated matrix.

  Returns:
    [fan_in, fan_out]
  """
  for axis in (0, 1):
    gate = np.repeat(gate, shape[axis] // gate.shape[axis], axis)
  return gate


def fold(
  model, trained_weights: weights.Weights, by_layer: list[np.ndarray]
) -> weights.Weights:
  """The weights of a plain T5 that computes what the gated model does.

  Args:
    model: from `gin_model.build`.
    trained_weights: {variable: value}.
    by_layer: the gates, from `gates`.

  Returns:
    {variable: value} in float32, without HyperGrid's own
  """
  folded = {
    name: value.astype(np.float32)
    for name, value in trained_weights.items()
    if "/hypergrid/" not in name
  }
  for (layer_name, layer), gate in zip(
    task_gates.gated_layers(model), by_layer, strict=True
  ):
    # "wi" is one matrix, or wi_0, wi_1, … of a gated-linear layer.
    kernel = re.compile(
      rf"{layer_name}/DenseReluDense/{layer.gated_kernel}(_\d+)?/kernel"
    )
    for name in filter(kernel.fullmatch, list(folded)):
      folded[name] = folded[name] * expanded(gate, folded[name].shape)
  return folded


def vanilla_config(task: str | None) -> str:
  """The configuration that is bound, with t5's own feed-forward layers.

  Args:
    task: what the folded model is for; None leaves the mixture as it was.

  Returns:
    the text of an operative_config.gin

  Raises:
    UserError: if no gin file of a vanilla model describes it.
  """
  model = gin_model.build(2)
  before = trained.facts(model)
  # What the layer was given under its own name, t5's layer has to be given.
  added = []
  gated = [name.split("/")[0] for name, _ in task_gates.gated_layers(model)]
  for stack in dict.fromkeys(gated):
    with gin.config_scope(stack):
      bound = gin.get_bindings("HyperGrid")
    for name in _SHARED:
      if bound.get(name) is not None:
        added.append(f"{stack}/DenseReluDense.{name} = {bound[name]!r}")
  with gin.unlock_config():
    if task:
      for parameter in _MIXTURE_BINDINGS:
        gin.bind_parameter(parameter, task)
      if gin_files.value("%MIXTURE_NAME"):
        gin.parse_config(f"MIXTURE_NAME = {task!r}")
    for parameter, value in (
      ("utils.get_variable_dtype.master_dtype", "float32"),
      ("run.init_checkpoint", None),  # its weights are in these
    ):
      if gin_files.value(parameter) is not None:
        gin.bind_parameter(parameter, value)
    text = _without_hypergrid(gin.config_str())
    text = "\n".join([text.rstrip(), *(["", *added] if added else []), ""])
    gin.clear_config()
    gin.parse_config(text, skip_unknown=True)
  after = trained.facts(gin_model.build(2))
  differ = trained.differences(after, before)
  if differ or set(after) != set(before):
    what = trained.describe(differ) if differ else "it has other layers"
    raise errors.UserError(
      f"the model cannot be described with t5's own layers ({what}): its "
      "HyperGrid layers are not of one kind in a stack."
    )
  return text


def _without_hypergrid(text: str) -> str:
  """The text of a gin configuration, vanilla layers in HyperGrid's place."""
  text = re.sub(
    r"@((?:[\w-]+/)*)(?:\w+\.)*HyperGrid\b",
    lambda match: _VANILLA.replace("@", f"@{match[1]}"),
    text,
  )
  sections = re.split(r"\n\n+", text)
  sections = [
    s
    for s in sections
    if not re.match(r"# Parameters for (?:\S+/)?(?:\w+\.)*HyperGrid:", s)
  ]
  text = "\n\n".join(sections)
  return re.sub(r"^import hypergrid_mtf\b.*\n", "", text, flags=re.M)
