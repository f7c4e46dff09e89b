"""Checks that a model computes what it computed when it was trained.

Another gate function, another activation, or another number of heads with the
same total size reads the same variables but computes something else. The record
of a training is the `operative_config.gin` that t5 writes next to the
checkpoints: one model is built from it, one from the configuration of the run,
and the two are compared layer by layer.
"""

import contextlib
import inspect
import os
import re
from unittest import mock

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer

from hypergrid_mtf import errors, layers
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import config, records, request, vocabulary_file

CONFIG = config.RECORD
PARTIAL = "--allow_partial_warm_start to load what fits"

# Ignored attributes: those that matter only in training, that change how a
# result is computed but not the result, or that variable shapes show better.
_NO_FUNCTION = re.compile(
  r"dropout|loss|label_smoothing|noise|recompute_grads|_train$|_eval$"
  r"|^(name|layout|mesh_shape|layers|layer_stack|sublayers_\w+|norm_epsilon"
  r"|contraction|zero_init|\w*vocab_size_unpadded)$"
)
_NO_SUBLAYER = re.compile("dropout|clip_activation_gradient")
_OF_DENSE = ("hidden_size", "activation", "use_bias")
Facts = dict[str, dict[str, object]]


def facts(model) -> Facts:
  """The settings that determine what a model computes from its variables.

  Args:
    model: as `mesh_tensorflow.transformer.utils.build_model` returns it, from
      the current gin configuration.

  Returns:
    {place: {parameter: value}}; a place is "" for the model, "encoder", or
    "encoder/block_000/layer_001"
  """
  model = getattr(model, "student", model)
  names = [n for n in ("encoder", "decoder") if hasattr(model, n)]
  found: Facts = {"": {}}
  # What the model reads from gin while its graph is built.
  for function in (
    mtf.layers.unit_scaling_convention,
    transformer.get_vocab_embedding_cls(),
  ):
    found[""].update(_bound(function.__name__, function))
  for name in names or [""]:
    stack = getattr(model, name) if name else model
    place = found.setdefault(name, {})
    place.update(_attributes(stack))
    place.update(_attributes(stack.layer_stack))
    for where in ("initial", "per_layer", "final"):
      place.update(_sublayers(stack.layer_stack, where))
    for layer in getattr(stack.layer_stack, "layers", []):
      found[f"{name}/{layer.name}".strip("/")] = _attributes(layer)
  return found


def _attributes(layer) -> dict[str, object]:
  """{Class.parameter: value} as recorded by __init__."""
  found = {}
  for name, value in vars(layer).items():
    name = name.lstrip("_")
    if _NO_FUNCTION.search(name):
      continue
    if name == "activation":
      # As a list; to mesh_tensorflow None and "linear" are the same.
      values = value if isinstance(value, list | tuple) else [value]
      value = ["linear" if v is None else v for v in values]
    kind = type(layer).__name__
    if isinstance(layer, layers.HyperGrid) and name not in _OF_DENSE:
      kind = "HyperGrid"
    if kind == "HyperGrid" and callable(value):  # a user's gate function
      function = inspect.unwrap(value)
      found.update(_bound(f"HyperGrid.{name}", function, function))
    value = _plain(value)
    if value is not _plain:
      found[f"{kind}.{name}"] = value
  return found


def _plain(value):
  """A value that can be compared and shown, or `_plain` itself if it cannot."""
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, mtf.Dimension | mtf.Shape):
    return _plain  # variable shapes show it
  if isinstance(value, list | tuple):
    found = [_plain(v) for v in value]
    return _plain if _plain in found else found
  if isinstance(value, dict):
    values = {str(k): _plain(v) for k, v in value.items()}
    return _plain if _plain in values.values() else values
  if hasattr(value, "__qualname__"):
    return f"{value.__module__}.{value.__qualname__}"
  return getattr(value, "__name__", _plain)


def _sublayers(layer_stack, where: str) -> dict:
  """The functions around each layer, and their gin bindings."""
  found, names = {}, []
  for function in getattr(layer_stack, f"_sublayers_{where}", None) or []:
    name = getattr(function, "__name__", str(function))
    if _NO_SUBLAYER.search(name):
      continue
    # In T5 1.0 the same function has an older name.
    name = re.sub(r"_legacy_(final_)?", "_", name)
    names.append(name)
    found.update(_bound(name, getattr(transformer, name, function)))
  return {f"LayerStack.sublayers_{where}": names, **found}


def _bound(name: str, function, configurable=None) -> dict:
  """{name.parameter: value} that gin will pass to a function.

  Args:
    name: of the function.
    function: the function, whose defaults hold for unbound parameters.
    configurable: gin's name for the function, if different.

  Returns:
    values that can be compared
  """
  try:
    bound = gin.get_bindings(configurable or name)
  except ValueError:  # not a configurable
    bound = {}
  found = {}
  for parameter in inspect.signature(function).parameters.values():
    value = bound.get(parameter.name, parameter.default)
    if value is inspect.Parameter.empty or _NO_FUNCTION.search(parameter.name):
      continue
    value = _plain(value)
    if value is not _plain:
      found[f"{name}.{parameter.name}"] = value
  return found


@contextlib.contextmanager
def _another_configuration():
  """Within this context, gin's configuration is empty; then it is restored.

  Gin has only one configuration per process.
  """
  with (
    mock.patch.multiple(
      gin.config,
      _CONFIG={},
      _IMPORTS=set(),
      _OPERATIVE_CONFIG={},
      _SINGLETONS={},
    ),
    gin.unlock_config(),
  ):
    yield


def trained_value(folder: str, parameter: str):
  """A parameter's value in the training of a folder, or None."""
  path = os.path.join(folder, CONFIG)
  if not tf.io.gfile.exists(path):
    return None
  with _another_configuration():
    gin.parse_config_file(path, skip_unknown=True)
    return config.value(parameter)


def trained_facts(folder: str) -> Facts | None:
  """The facts of the model that was trained in a folder.

  Returns:
    as `facts`; None if there is no record of the training

  Raises:
    UserError: if the record cannot be read.
  """
  path = os.path.join(folder, CONFIG)
  if not tf.io.gfile.exists(path):
    return None
  with _another_configuration():
    try:
      # Some old parameters and functions no longer exist.
      gin.parse_config_file(path, skip_unknown=True)
      return facts(model_lib.build(2))
    except Exception as e:  # such a file may raise anything
      why = errors.sentence(e)
      unknown = re.search("No configurable matching reference '(.*?)'", why)
      if unknown:
        raise errors.UserError(
          f"{path} names {unknown[1]}, which is not defined: give "
          "--module_import=MODULE with the module that defines it."
        ) from None
      raise errors.UserError(
        f"{path}, the record of how the checkpoints were trained, does not "
        f"describe a model ({why}): put back the file that the training wrote, "
        "or remove it to skip this check."
      ) from None


def differences(now: Facts, then: Facts) -> list[tuple]:
  """Where two models with the same variables compute different results.

  Args:
    now: facts of one.
    then: facts of the other; what only one of them has is not compared.

  Returns:
    (place, parameter, value now, value then), layers before stacks
  """
  return [
    (place, name, now[place][name], then[place][name])
    for place in sorted(now, key=lambda p: (-p.count("/"), p))
    if place in then
    for name in now[place]
    if name in then[place] and now[place][name] != then[place][name]
  ]


def describe(found: list[tuple]) -> str:
  """The first difference and the number of others, for a message."""
  place, name, now, then = found[0]
  of = f" of {place}" if place else ""
  more = f", and {len(found) - 1} more differ" if len(found) > 1 else ""
  return f"{name}{of} is {now!r} here and {then!r} in its {CONFIG}{more}"


def check_same_function(model, model_dir: str) -> None:
  """Checks a model against the configuration of its training.

  Args:
    model: from the current gin configuration.
    model_dir: of the training.
  """
  trained = trained_facts(model_dir)
  differ = trained and differences(facts(model), trained)
  if differ:
    raise errors.UserError(
      f"the model in --model_dir={model_dir} was trained with another function "
      f"of the same variables: {describe(differ)}; give the gin files it was "
      "trained with, or another folder."
    )


def check_same_vocabulary(model_dir: str, vocabulary: dict) -> None:
  """Checks {feature: facts} of a vocabulary against those of the training."""
  wrong = vocabulary_file.difference(model_dir, vocabulary)
  if wrong:
    raise errors.UserError(
      f"the model in --model_dir={model_dir} was trained with another "
      f"vocabulary: {wrong}."
    )


def describe_source(
  model, path: str, vocabulary: dict | None = None
) -> str | None:
  """Differences between a warm start and its training that shapes cannot show.

  Args:
    model: the model to be trained, from the current gin configuration.
    path: of the initial checkpoint.
    vocabulary: {feature: facts} in use; None for no check.
  """
  folder = os.path.dirname(path)
  wrong = vocabulary and vocabulary_file.difference(folder, vocabulary)
  if wrong:
    return wrong
  try:
    trained = trained_facts(folder)
  except errors.UserError:
    return None  # a public checkpoint's may name what the library no longer has
  differ = trained and differences(facts(model), trained)
  if not differ:
    return None
  return f"{describe(differ)}; give the gin files it was trained with"


def check_source(
  model, path: str, origin: str, vocabulary: dict | None = None
) -> None:
  """Raises UserError if a warm start would change the meaning of its weights.

  Args:
    model: as of `describe_source`.
    path: as of `describe_source`.
    origin: where the path came from, for the message.
    vocabulary: as of `describe_source`.
  """
  wrong = describe_source(model, path, vocabulary)
  if wrong:
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) was trained as another model: "
      f"{wrong}, or {PARTIAL}."
    )


def note_function(run: request.Run) -> list[str]:
  """Notes what could not be compared, or was allowed to differ."""
  origin = f"({request.START})"
  if run.is_warm_start:
    if run.flags.allow_partial_warm_start:
      wrong = describe_source(run.model, run.source, run.vocabulary)
      if wrong:
        return [f"{run.source} {origin} was trained as another model: {wrong}"]
    try:
      trained_facts(os.path.dirname(run.source))
    except errors.UserError as e:
      return [f"not checked: {e}"]
  elif run.latest and not tf.io.gfile.exists(f"{run.model_dir}/{CONFIG}"):
    if layers.hypergrid_layers(run.model):
      return [
        f"{run.model_dir} has no {CONFIG}, so the gates were not checked "
        "against the training"
      ]
  return []


def note_lengths(run: request.Run) -> list[str]:
  """Notes sequence lengths that differ from the training."""
  name = "run.sequence_length"
  then = run.latest and trained_value(run.model_dir, name)
  if not then or run.lengths is None:
    return []
  if not isinstance(then, dict):
    then = dict.fromkeys(run.lengths, then)
  if all(then.get(key, size) == size for key, size in run.lengths.items()):
    return []
  return [
    f"{name} = {run.lengths}{config.place(name)}, but the model was trained "
    f"with {then} ({CONFIG}): longer sequences are cut"
  ]


def note_data(run: request.Run) -> list[str]:
  """Notes versions and preprocessors that differ from the training."""
  then = records.read_data(run.model_dir) if run.latest and run.split else {}
  return [
    f"{name} is {now!r} here, but was {then[name]!r} in the training "
    f"({records.DATA}): the examples may differ"
    for name, now in (records.describe_data(run) if then else {}).items()
    if then.get(name, now) != now
  ]
