"""Types and ranges of gin bindings.

Gin takes any value of any type. What mesh_tensorflow and t5 do with
each of these is in the table: a value that they cannot use is refused here, in
one sentence, and not inside their graph.
"""

import copy
import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import gin

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files, gin_statements, request


@dataclasses.dataclass(frozen=True)
class Kind:
  """What a value must be.

  Attributes:
    says: it in words, to follow "is not"; alternatives between commas.
    accepts: whether a value is of the kind.
  """

  says: str
  accepts: Callable[[Any], bool]

  def __or__(self, other: "Kind") -> "Kind":
    return Kind(
      f"{self.says}, {other.says}",
      lambda v: self.accepts(v) or other.accepts(v),
    )


def _is_integer(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value) -> bool:
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return math.isfinite(value)


INTEGER = Kind("an integer", _is_integer)
POSITIVE = Kind("a positive integer", lambda v: _is_integer(v) and v > 0)
COUNT = Kind("an integer of 0 or more", lambda v: _is_integer(v) and v >= 0)
NUMBER = Kind("a number", _is_number)
POSITIVE_NUMBER = Kind("a positive number", lambda v: _is_number(v) and v > 0)
AT_LEAST_0 = Kind("a number of 0 or more", lambda v: _is_number(v) and v >= 0)
RATE = Kind(
  "a number of at least 0 and below 1",
  lambda v: _is_number(v) and 0 <= v < 1,
)
TEXT = Kind("a text in quotes", lambda v: isinstance(v, str))
FUNCTION = Kind("a reference to a function such as @name", callable)
NONE = Kind("None", lambda v: v is None)
TOP_K = Kind("-1", lambda v: _is_integer(v) and v == -1) | POSITIVE


def _is_factors(value) -> bool:
  return isinstance(value, list) and all(
    callable(v) or _is_number(v) for v in value
  )


RATES_OVER_TIME = (
  AT_LEAST_0 | FUNCTION | Kind("a list of numbers and functions", _is_factors)
)


@dataclasses.dataclass(frozen=True)
class _Row:
  """The kind of a parameter, perhaps in a training alone."""

  kind: Kind
  in_training: bool = False


# By the end of the full name: "run.mode" is the parameter of one configurable,
# ".dropout_rate" that of every one which has it.
_BINDINGS = (
  ("run.train_steps", _Row(POSITIVE | FUNCTION, in_training=True)),
  ("run.train_steps", _Row(INTEGER | FUNCTION)),
  ("run.total_run_steps", _Row(POSITIVE | NONE)),
  ("run.iterations_per_loop", _Row(POSITIVE)),
  ("run.save_checkpoints_steps", _Row(POSITIVE)),
  ("run.keep_checkpoint_max", _Row(COUNT | NONE)),
  ("run.perplexity_eval_steps", _Row(POSITIVE)),
  ("run.ensemble_inputs", _Row(COUNT | NONE)),
  ("run.seen_data_init_step", _Row(COUNT)),
  ("run.learning_rate_schedule", _Row(RATES_OVER_TIME | NONE)),
  ("run.optimizer", _Row(FUNCTION | NONE)),
  ("run.predict_fn", _Row(FUNCTION | NONE)),
  ("run.train_dataset_fn", _Row(FUNCTION | NONE)),
  ("run.train_dataset_fn", _Row(FUNCTION, in_training=True)),
  ("run.eval_dataset_fn", _Row(FUNCTION | NONE)),
  ("run.train_model_fn", _Row(FUNCTION)),
  ("run.dataset_split", _Row(TEXT)),
  (
    "run.dataset_split",
    _Row(
      Kind("the split 'train' that mode 'train' needs", "train".__eq__),
      in_training=True,
    ),
  ),
  ("run.model_type", _Row(TEXT)),
  ("run.export_path", _Row(TEXT | NONE)),
  ("run.eval_summary_dir", _Row(TEXT | NONE)),
  ("run.eval_dir_suffix", _Row(TEXT | NONE)),
  ("run.variable_filter", _Row(TEXT | FUNCTION | NONE)),
  ("auto_train_steps.train_tokens", _Row(POSITIVE)),
  (
    "serialize_num_microbatches.tokens_per_microbatch_per_replica",
    _Row(AT_LEAST_0 | NONE),
  ),
  ("product_learning_rate.factors", _Row(RATES_OVER_TIME)),
  ("constant_learning_rate.learning_rate", _Row(AT_LEAST_0)),
  (".multiplier", _Row(AT_LEAST_0)),
  ("learning_rate_schedules.constant.value", _Row(AT_LEAST_0)),
  (".steps_or_fraction", _Row(AT_LEAST_0)),
  (".warmup_steps", _Row(AT_LEAST_0)),
  (".linear_decay_fraction", _Row(AT_LEAST_0)),
  ("make_layer_stack.num_layers", _Row(POSITIVE)),
  ("Unitransformer.d_model", _Row(POSITIVE)),
  ("Unitransformer.max_length", _Row(POSITIVE)),
  ("Unitransformer.vocab_divisor", _Row(POSITIVE)),
  ("Unitransformer.label_smoothing", _Row(RATE)),
  ("Unitransformer.z_loss", _Row(AT_LEAST_0)),
  ("Unitransformer.loss_denominator", _Row(POSITIVE_NUMBER | NONE)),
  ("Unitransformer.ensemble", _Row(COUNT | NONE)),
  (".dropout_rate", _Row(RATE | NONE)),
  (".token_dropout_rate", _Row(RATE)),
  (".hidden_size", _Row(POSITIVE)),
  (".num_heads", _Row(POSITIVE)),
  (".num_memory_heads", _Row(COUNT)),
  (".key_value_size", _Row(POSITIVE)),
  (".relative_attention_num_buckets", _Row(POSITIVE)),
  ("LayerStack.norm_epsilon", _Row(POSITIVE_NUMBER | NONE)),
  ("sublayer_rms_norm.epsilon", _Row(POSITIVE_NUMBER)),
  ("decode.beam_size", _Row(POSITIVE)),
  ("decode.temperature", _Row(AT_LEAST_0)),
  ("decode.alpha", _Row(NUMBER)),
  ("decode.sampling_keep_top_k", _Row(TOP_K)),
  ("decode.max_decode_length", _Row(POSITIVE | NONE)),
  ("decode.decode_length_multiplier", _Row(AT_LEAST_0)),
  ("decode.decode_length_constant", _Row(NUMBER)),
  ("sample_autoregressive.temperature", _Row(AT_LEAST_0)),
  ("sample_autoregressive.sampling_keep_top_k", _Row(TOP_K)),
  ("decode_from_file.repeats", _Row(POSITIVE)),
  ("mesh_train_dataset_fn.seed", _Row(INTEGER | NONE)),
  ("mesh_eval_dataset_fn.seed", _Row(INTEGER | NONE)),
  ("mesh_eval_dataset_fn.num_eval_examples", _Row(INTEGER | NONE)),
  ("get_checkpoint_iterator.skip_until", _Row(INTEGER)),
  ("get_checkpoint_iterator.stop_after", _Row(INTEGER | NONE)),
  ("tpu_estimator_model_fn.outer_batch_size", _Row(POSITIVE)),
)

# Flags that t5's main has for its model API alone.
_API_FLAGS = (
  "use_model_api",
  "mode",
  "batch_size",
  "input_sequence_length",
  "target_sequence_length",
  "tpu_topology",
  "model_parallelism",
  "train_steps",
  "mixture_or_task",
  "pretrained_model_dir",
  "checkpoint_mode",
  "checkpoint_steps",
  "eval_summary_dir",
  "eval_split",
  "input_file",
  "target_file",
  "output_file",
  "export_dir",
  "beam_size",
  "temperature",
  "keep_top_k",
)


def check_bindings(trains: bool) -> None:
  """Checks every gin binding whose type or range is known.

  Args:
    trains: whether the run trains: some ranges matter to a training alone.

  Raises:
    UserError: naming the binding, its value, and what would be right.
  """
  for (scope, selector), parameters in gin.config._CONFIG.items():
    if selector == "gin.macro":
      continue
    signature = None
    for name, bound in parameters.items():
      full = f"{selector}.{name}"
      rows = [r for end, r in _BINDINGS if f".{full}".endswith(_dotted(end))]
      kinds = [row.kind for row in rows if trains or not row.in_training]
      if not rows and not selector.startswith("hypergrid_mtf."):
        signature = signature or _signature(selector)
        kinds = _kinds_of_default(signature.get(name))
      if kinds:
        shown = f"{scope}/" if scope else ""
        shown += f"{_short(selector)}.{name}"
        _check(f"{scope}/{full}" if scope else full, shown, bound, kinds)


def _short(selector: str) -> str:
  """A configurable's name, a method's with its class."""
  *_, owner, name = ["", *selector.split(".")]
  return f"{owner}.{name}" if owner[:1].isupper() else name


def _dotted(end: str) -> str:
  return end if end.startswith(".") else f".{end}"


def _signature(selector: str) -> dict[str, object]:
  configurable = gin.get_configurable(selector)
  return {
    name: parameter.default
    for name, parameter in inspect.signature(configurable).parameters.items()
  }


def _kinds_of_default(default) -> list[Kind]:
  """What cannot be wrong: text is neither a number nor a truth value."""
  if isinstance(default, bool):
    return [Kind("True or False", lambda v: not isinstance(v, str))]
  if isinstance(default, int | float):
    return [Kind("a number", lambda v: not isinstance(v, str))]
  return []


def _check(key: str, shown: str, bound, kinds: list[Kind]) -> None:
  try:
    value = copy.deepcopy(bound)  # evaluates references, as gin does
  except Exception as e:  # whatever a function that is referred to may raise
    raise errors.UserError(
      f"the gin binding {shown} = {bound} cannot be evaluated"
      f"{gin_statements.told(key)}: {errors.sentence(e)}"
    ) from None
  for kind in kinds:
    if not kind.accepts(value):
      raise errors.UserError(
        f"{shown} = {value!r} is not {_either(kind.says)}"
        f"{gin_statements.told(key)}."
      )


def _either(says: str) -> str:
  *others, last = says.split(", ")
  return f"{', '.join(others)} or {last}" if others else last


def check_decoding(asked: request.Request) -> None:
  """Checks that a run does not sample and search at once.

  Args:
    asked: the run.

  Raises:
    UserError: naming both values.
  """
  if asked.mode not in ("eval", "infer", "export", "export_infer"):
    return
  beams, temperature, top_k = (
    f"Bitransformer.decode.{name}"
    for name in ("beam_size", "temperature", "sampling_keep_top_k")
  )
  size = gin_files.value(beams, 1)
  if size == 1:
    return
  for name, none in ((temperature, 0), (top_k, -1)):
    value = gin_files.value(name, none)
    if value != none:
      raise errors.UserError(
        f"{beams} = {size}{gin_statements.told(beams)} searches and {name} = "
        f"{value}{gin_statements.told(name)} samples, and t5 cannot do both: "
        f"give {beams} = 1, or {name} = {none}."
      )


def check_flags(flags) -> None:
  """Refuses the flags of t5's model API, which Python has and we do not.

  Args:
    flags: absl's FLAGS, parsed.
  """
  for name in _API_FLAGS:
    value = flags[name].value
    if not flags[name].present or value is False:
      continue
    given = ",".join(value) if isinstance(value, list) else value
    given = f"--{name}" if value is True else f"--{name}={given}"
    raise errors.UserError(
      f"{given} belongs to t5's model API, which this program does not have: "
      "give gin bindings instead, or use t5.models.MtfModel from Python "
      "(docs/python.md)."
    )
