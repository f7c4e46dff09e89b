"""Folds a model whose gates depend only on the task into a plain T5.

With `condition_on = "task_token"` the gate of a layer is a function of the
embedding of the first token, so for one task it is a constant:

    y = h (psi(G) * wo) = h wo',  wo' = psi(G) * wo

and wo' is the weight of t5's own layer. The vectors of (IA)³ are constants of a
task too, and scale columns of wk and wv and rows of wo.
"""

import contextlib
import re
from collections.abc import Sequence

import gin
import numpy as np
import seqio
import tensorflow.compat.v1 as tf

from hypergrid_mtf import (
  checkpoints,
  errors,
  layers,
  task_gates,
  trained,
  weights,
)
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import config
from hypergrid_mtf.run import examples as examples_lib
from hypergrid_mtf.run.checks import data as data_checks
from hypergrid_mtf.run.checks import training_record
from t5_tasks import task_tokens, vocabularies

# Parameters that HyperGrid shares with t5's layer.
_SHARED = ("hidden_size", "activation", "use_bias", "dropout_rate")
_LAYERS = "mesh_tensorflow.transformer.transformer_layers"
_NO_FOLD = {
  "adapter": "its adapters are layers of their own, with an activation",
  "hyperprompt": "its prompts are keys and values that belong to no token",
}


def check_foldable(model, model_dir: str) -> None:
  """Raises UserError if a model has no gates that depend only on the task."""
  where = f"--model_dir={model_dir}"
  own = layers.own_layers(model)
  if not own:
    raise errors.UserError(
      f"{where} has no HyperGrid layers: it has no gates to fold."
    )
  for layer, _ in own:
    why = _NO_FOLD.get(type(layer).__module__.rpartition(".")[-1])
    if why:
      raise errors.UserError(
        f"{where} cannot be folded into the weights of a plain T5: {why}."
      )
  for name, layer in trained.gated_layers(model):
    if layer.gates_differ and layer.condition_on != "task_token":
      raise errors.UserError(
        f"{where} was trained with HyperGrid.condition_on = "
        f"{layer.condition_on!r} ({name}): its gates depend on the hidden "
        "state of the first token, and so on the complete input; there is no "
        "single weight matrix for all inputs of a task; only gates of "
        "condition_on = 'task_token' can be folded."
      )
  if model.encoder.ensemble_dims or model.decoder.ensemble_dims:
    raise errors.UserError(
      f"{where} is an ensemble, which is more than one T5."
    )


def describe_gates(model) -> dict[str, list[str]]:
  """{description of a gate: layers that have it}, of a Bitransformer."""
  found: dict[str, list[str]] = {}
  for name, layer in trained.gated_layers(model):
    gate = getattr(layer.gate, "__name__", layer.gate)
    text = (
      f"{layer.variant}, {gate}, a grid of {layer.grid_rows.size} x "
      f"{layer.grid_cols.size} over {layer.gated_kernel}, conditioned on "
      f"{layer.condition_on}"
    )
    found.setdefault(text, []).append(name)
  return found


def find_task(tasks: list[seqio.Task], name: str) -> seqio.Task:
  """The task named by --task.

  Raises:
    UserError: for an unknown one.
  """
  short = {t.name: task_tokens.short_name(t.name) for t in tasks}
  found = [t for t in tasks if short[t.name] == name]
  exact = [t for t in tasks if t.name == name]
  if exact or len(found) == 1:
    return (exact or found)[0]
  if name in seqio.TaskRegistry.names():
    return seqio.TaskRegistry.get(name)
  raise errors.UserError(
    f"--task={name} is not a task of the mixture that the model was trained "
    f"on: choose one of {', '.join(short.values())}."
  )


def read_task_token(task: seqio.Task, count: int, data_dir: str | None) -> int:
  """The id of the first token of all inputs of a task.

  Args:
    task: the task whose data are read.
    count: examples of each of its training and validation splits.
    data_dir: the TFDS data folder; None for the default of TFDS.

  Raises:
    UserError: if there are no data, or inputs begin with different tokens.
  """
  data_checks.check_data(task, data_dir)
  vocabularies.check_vocabulary(task)
  seen = _first_tokens(task, count, ("validation", "train"))
  if not seen:
    raise errors.UserError(
      f"there are no examples of {task.name} on this machine to read its first "
      "token from: give --t5_tfds_data_dir."
    )
  if len(seen) > 1:
    texts = [f"{token} ({text[:40]!r})" for token, text in seen.items()]
    raise errors.UserError(
      f"the inputs of {task.name} begin with different tokens, {texts[0]} and "
      f"{texts[1]}: their gates differ, so there is no single weight matrix "
      "for all of them; the inputs of its _task_token variant begin with one "
      "token."
    )
  return next(iter(seen))


def tasks_of_token(tasks: list[seqio.Task], token: int) -> list[str]:
  """Names of tasks whose inputs begin with a token, if their data are here."""
  found = []
  for task in tasks:
    with contextlib.suppress(errors.UserError):
      if token in _first_tokens(task, 4, ("validation",)):
        found.append(task.name)
  return sorted(found)


def _first_tokens(
  task: seqio.Task, count: int, wanted: Sequence[str]
) -> dict[int, str]:
  """{first token: a text that begins with it} from the first examples.

  Of the wanted splits; of another if the task has none of them.
  """
  splits = [s for s in wanted if s in task.splits]
  lengths = trained.sequence_lengths()
  seen: dict[int, str] = {}
  for split in splits or list(task.splits)[:1]:
    rows = examples_lib.first_examples([task], split, count, lengths)
    for example in rows.get(task.name, ()):
      text = tf.compat.as_text(example.get("inputs_pretokenized", b""))
      seen.setdefault(int(example["inputs"][0]), text)
  return seen


def fold(source: trained.Trained, token: int) -> weights.Weights:
  """The weights of a plain T5 that computes the same as the gated model.

  Returns:
    {variable: value} in float32, without our layers' own variables
  """
  folded = {
    name: value.astype(np.float32)
    for name, value in source.weights.items()
    if not checkpoints.OWN_SCOPES.search(name)
  }
  _fold_vectors(source, token, folded)
  rows = np.array([[token, 1]], np.int32)
  gated = trained.gated_layers(source.model)
  gates = task_gates.compute_gates(source, [rows])[0] if gated else []
  for (stack_layer, layer), gate in zip(gated, gates, strict=True):
    # "wi" is one matrix, or wi_0, wi_1, … of a gated-linear layer.
    kernel = re.compile(
      rf"{stack_layer}/DenseReluDense/{layer.gated_kernel}(_\d+)?/kernel"
    )
    gate = gate.reshape(layer.grid_rows.size, layer.grid_cols.size)
    for name in filter(kernel.fullmatch, list(folded)):
      rows, cols = np.divide(folded[name].shape, gate.shape).astype(int)
      folded[name] = folded[name] * np.kron(gate, np.ones([rows, cols], "f"))
  return folded


def _fold_vectors(source: trained.Trained, token: int, folded: dict) -> None:
  """Multiplies (IA)³'s vectors of one task into the weights."""
  task = source.model.encoder.input_vocab_size_unpadded - 1 - token
  for name, vectors in source.weights.items():
    layer, own, what = name.partition("/ia3/")
    if not own:
      continue
    if not 0 <= task < len(vectors):
      raise errors.UserError(
        f"inputs that begin with {token} are of no task of the model, which "
        f"has {len(vectors)} (num_tasks.count): choose another --task."
      )
    vector = vectors[task].astype(np.float32)
    if what == "hidden":
      folded[f"{layer}/wo/kernel"] *= vector[:, None]
    else:
      kernel = folded[f"{layer}/{what}"]
      kernel *= vector.reshape(kernel.shape[1:])


def vanilla_config(task: str | None) -> str:
  """The current configuration, with t5's own feed-forward layers.

  Args:
    task: the folded model's task; None keeps the mixture.

  Returns:
    the text of an operative_config.gin, which gin has parsed

  Raises:
    UserError: if no gin file of a vanilla model describes it.
  """
  model = model_lib.build(2)
  before = training_record.facts(model)
  # Bindings of HyperGrid become bindings of t5's layer.
  added = []
  gated = [name.split("/")[0] for name, _ in trained.gated_layers(model)]
  for stack in dict.fromkeys(gated):
    with gin.config_scope(stack):
      bound = gin.get_bindings("HyperGrid")
    for name in _SHARED:
      if bound.get(name) is not None:
        added.append(f"{stack}/DenseReluDense.{name} = {bound[name]!r}")
  with gin.unlock_config():
    if task:
      for mode in ("train", "eval"):
        gin.bind_parameter(f"mesh_{mode}_dataset_fn.mixture_or_task_name", task)
      if config.value("%MIXTURE_NAME"):
        gin.parse_config(f"MIXTURE_NAME = {task!r}")
    for parameter, value in (
      ("utils.get_variable_dtype.master_dtype", "float32"),
      ("run.init_checkpoint", None),  # its weights are included
    ):
      if config.value(parameter) is not None:
        gin.bind_parameter(parameter, value)
    text = _without_hypergrid(gin.config_str())
    text = "\n".join([text.rstrip(), *(["", *added] if added else []), ""])
    gin.clear_config()
    gin.parse_config(text, skip_unknown=True)
  after = training_record.facts(model_lib.build(2))
  differ = training_record.differences(after, before)
  if differ or set(after) != set(before):
    what = training_record.describe(differ) if differ else "it has other layers"
    raise errors.UserError(
      f"the model cannot be described with t5's own layers ({what}): the "
      "HyperGrid layers of a stack are of different kinds."
    )
  return text


def _without_hypergrid(text: str) -> str:
  """A gin configuration's text, with vanilla layers instead of ours."""
  text = re.sub(r"^import hypergrid_mtf\b.*\n", "", text, flags=re.M)
  text = re.sub(
    r"@((?:[\w-]+/)*)(?:\w+\.)*(HyperGrid|IA3(\w+))\b",
    lambda m: f"@{m[1]}{_LAYERS}.{m[3] or 'DenseReluDense'}",
    text,
  )
  own = re.compile(
    r"# Parameters for (?:\S+/)?(?:\w+\.)*(HyperGrid|IA3\w+|num_tasks):"
  )
  sections = re.split(r"\n\n+", text)
  return "\n\n".join(s for s in sections if not own.match(s))
