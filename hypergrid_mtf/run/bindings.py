"""Checks that gin bindings have usable values, and that something reads them.

Gin accepts any value of any type, and any name as a macro or a scope.
"""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import gin

from hypergrid_mtf import errors
from hypergrid_mtf.run import config

# t5.models.utils.get_vocabulary looks it up by name.
_READ_BY_CODE = {"MIXTURE_NAME"}
# Scopes entered by mesh_tensorflow.transformer.transformer.
_SCOPES_OF_CODE = {"encoder", "decoder", "student", "teacher"}


def _is_integer(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def is_positive(value) -> bool:
  """Whether a value is an integer of 1 or more."""
  return _is_integer(value) and value > 0


def _is_number(value) -> bool:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return number and math.isfinite(value)


def _is_at_least_0(value) -> bool:
  return _is_number(value) and value >= 0


# What a value must be, in words, and the test for it.
_KINDS: dict[str, Callable[[Any], bool]] = {
  "-1": lambda v: _is_integer(v) and v == -1,
  "None": lambda v: v is None,
  "'train', the split of mode 'train',": "train".__eq__,
  "a list of numbers and functions": lambda v: (
    isinstance(v, list) and all(callable(x) or _is_number(x) for x in v)
  ),
  "a number": _is_number,
  "a number in [0, 1)": lambda v: _is_at_least_0(v) and v < 1,
  "a number of 0 or more": _is_at_least_0,
  "a positive integer": is_positive,
  "a positive number": lambda v: _is_number(v) and v > 0,
  "a reference to a function such as @name": callable,
  "a text in quotes": lambda v: isinstance(v, str),
  "an integer": _is_integer,
  "an integer of 0 or more": lambda v: _is_integer(v) and v >= 0,
  # Inferred from a parameter's default: text is neither of these.
  "a number, not text": lambda v: not isinstance(v, str),
  "True or False": lambda v: not isinstance(v, str),
}

# Rows of "kind | kind: parameters". A parameter is given by the end of its full
# gin name: "run.mode" is one parameter, ".dropout_rate" is that of every
# configurable that has it. mesh_tensorflow and t5 put all of them into their
# graph unchecked.
_ALLOWED_VALUES = """
a positive integer: run.iterations_per_loop run.save_checkpoints_steps
  auto_train_steps.train_tokens run.perplexity_eval_steps
  make_layer_stack.num_layers Unitransformer.d_model Unitransformer.max_length
  Unitransformer.vocab_divisor .hidden_size .num_heads .key_value_size
  .relative_attention_num_buckets decode.beam_size decode_from_file.repeats
  tpu_estimator_model_fn.outer_batch_size
a positive integer | None: run.total_run_steps decode.max_decode_length
-1 | a positive integer: decode.sampling_keep_top_k
  sample_autoregressive.sampling_keep_top_k
an integer | a reference to a function such as @name: run.train_steps
an integer of 0 or more: run.seen_data_init_step .num_memory_heads
  beam_search.num_prefilter
an integer of 0 or more | None: run.keep_checkpoint_max run.ensemble_inputs
  Unitransformer.ensemble
an integer | None: mesh_train_dataset_fn.seed mesh_eval_dataset_fn.seed
  mesh_eval_dataset_fn.num_eval_examples get_checkpoint_iterator.stop_after
an integer: get_checkpoint_iterator.skip_until
a number of 0 or more | a reference to a function such as @name
  | a list of numbers and functions | None: run.learning_rate_schedule
a number of 0 or more | a reference to a function such as @name
  | a list of numbers and functions: product_learning_rate.factors
a number of 0 or more: constant_learning_rate.learning_rate .multiplier
  .steps_or_fraction learning_rate_schedules.constant.value .warmup_steps
  .linear_decay_fraction Unitransformer.z_loss decode.temperature
  decode.decode_length_multiplier sample_autoregressive.temperature
a number of 0 or more | None:
  serialize_num_microbatches.tokens_per_microbatch_per_replica
a number: decode.alpha decode.decode_length_constant
None | a number in [0, 1): .dropout_rate
a number in [0, 1): Unitransformer.label_smoothing .token_dropout_rate
a positive number: sublayer_rms_norm.epsilon
a positive number | None: LayerStack.norm_epsilon
  Unitransformer.loss_denominator
a reference to a function such as @name | None: run.optimizer run.predict_fn
  run.train_dataset_fn run.eval_dataset_fn
a reference to a function such as @name: run.train_model_fn
a text in quotes: run.dataset_split run.model_type
a text in quotes | None: run.export_path run.eval_summary_dir
  run.eval_dir_suffix
a text in quotes | a reference to a function such as @name | None:
  run.variable_filter
"""
_IN_TRAINING = """
a positive integer | a reference to a function such as @name: run.train_steps
a reference to a function such as @name: run.train_dataset_fn
'train', the split of mode 'train',: run.dataset_split
"""


def _kinds_by_end(table: str) -> dict[str, list[str]]:
  """{end of a full name: kinds of values}."""
  found = {}
  for row in re.split(r"\n(?! )", table.strip()):
    kinds, ends = " ".join(row.split()).rsplit(": ", 1)
    found.update(dict.fromkeys(ends.split(), kinds.split(" | ")))
  return found


def check_values(trains: bool) -> None:
  """Checks every gin binding whose type or range is known.

  Args:
    trains: whether the run trains: some ranges matter only in training.
  """
  of_training = _kinds_by_end(_IN_TRAINING) if trains else {}
  by_end = _kinds_by_end(_ALLOWED_VALUES) | of_training
  for (scope, selector), parameters in gin.config._CONFIG.items():
    if selector == "gin.macro":
      continue
    for name, bound in parameters.items():
      full = f"{selector}.{name}"
      default = _default(selector, name)
      end = next((end for end in _ends(full) if end in by_end), "")
      kinds = by_end.get(end, [])
      if not kinds and not selector.startswith("hypergrid_mtf."):
        kinds = _kinds_of_default(default)
      if kinds:
        within = f"{scope}/" if scope else ""
        shown = f"{within}{_short(selector)}.{name}"
        found = config.evaluate(bound, within + full, shown)
        # Files written by gin, such as operative_config.gin, have defaults too.
        same = type(found) is type(default) and found == default
        good = same and end not in of_training
        if not good and not any(_KINDS[kind](found) for kind in kinds):
          raise errors.UserError(
            f"{shown} = {found!r} must be {either(kinds)}"
            f"{config.place(within + full)}."
          )


def _ends(full: str) -> list[str]:
  """The ends of a full name, as in the tables, the longest first."""
  parts = full.split(".")
  ends = [".".join(parts[i:]) for i in range(len(parts) - 1)]
  return [*ends, f".{parts[-1]}"]


def _short(selector: str) -> str:
  """A configurable's short name; for a method, with its class."""
  *_, owner, name = ["", *selector.split(".")]
  return f"{owner}.{name}" if owner[:1].isupper() else name


def _default(selector: str, name: str):
  """A parameter's default, or `inspect.Parameter.empty`."""
  parameters = inspect.signature(gin.get_configurable(selector)).parameters
  return parameters[name].default if name in parameters else None


def _kinds_of_default(default) -> list[str]:
  if isinstance(default, bool):
    return ["True or False"]
  if isinstance(default, int | float):
    return ["a number, not text"]
  return []


def either(words) -> str:
  """ "a, b or c"."""
  *others, last = words
  return f"{', '.join(others)} or {last}" if others else last


def unread_macros() -> list[tuple[config.Statement, str]]:
  """The user's macros that nothing reads, with the most similar known name.

  Files of t5 and this project, and those that gin wrote, may define macros for
  other files.
  """
  written = list(config.statements())
  read = set(_READ_BY_CODE).union(*(s.macros for s in written))
  bindable = {
    s.parameter: f"{s.selector}.{s.parameter}"
    for s in reversed(written)
    if s.parameter
  }
  return [
    # `batch_size = 8` may mean `run.batch_size = 8`.
    (s, config.nearest(s.macro, sorted(read)) or bindable.get(s.macro, ""))
    for s in written
    if not s.parameter and s.is_users and s.macro not in read
  ]


def check_macros() -> None:
  """Checks that something reads each of the user's macros.

  A macro in a user's file may be for other runs, so it is refused only if it
  looks like a misspelling.
  """
  for statement, near in unread_macros():
    if statement.source == "flag" or near:
      hint = (
        f"did you mean {near}?"
        if near
        else "a binding has the form name.parameter = value."
      )
      raise errors.UserError(
        f"nothing reads the macro {statement.macro} ({statement.place}): {hint}"
      )


def check_scopes() -> None:
  """Checks that the run enters each scope in which the user binds something."""
  written = list(config.statements())
  known = set(_SCOPES_OF_CODE).union(*(s.scopes for s in written))
  for scope in [s.scope for s in written if s.source == "shipped"]:
    known.update(scope.split("/"))
  for statement in written:
    if not statement.parameter or not statement.is_users:
      continue
    for scope in statement.scope.split("/"):
      near = config.nearest(scope, sorted(known))
      # The user's code may enter its own scopes.
      if scope and near and scope not in known:
        raise errors.UserError(
          f"the run never enters the scope {scope}/ ({statement.place}): did "
          f"you mean {near}/?"
        )


def check_references() -> None:
  """Checks that every reference and macro in the configuration is defined.

  Gin does so when t5 closes the configuration, with a traceback.
  """
  bound = gin.config._CONFIG
  defined = {scope for scope, selector in bound if selector == "gin.macro"}
  is_macro = gin.get_configurable(gin.config.macro)
  for (scope, selector), parameters in bound.items():
    for name, value in parameters.items():
      key = gin.config._format_binding_key(scope, selector, name)
      if key == "run.vocabulary":
        continue  # t5 rebinds it
      if selector == "gin.macro":
        key = scope
      place = config.place(key)
      for macro in gin.config.iterate_references(value, to=is_macro):
        undefined = "/".join(macro.scopes)
        if macro.config_key not in bound:
          hint = config.did_you_mean(undefined, defined) or "."
          raise errors.UserError(
            f"{key} = {value} refers to the macro {undefined}{place}, "
            f"which no gin file or --gin_param defines{hint}"
          )
      one = {(scope, selector): {name: value}}
      try:
        gin.config.find_unknown_references_hook(one)
        gin.config.find_missing_overrides_hook(one)
      except ValueError as e:
        raise errors.UserError(
          f"{key} = {value} cannot be used{place}: {errors.sentence(e)}"
        ) from None


def check(trains: bool, references: bool = True) -> None:
  """Makes all checks of the bindings.

  Args:
    trains: as of `check_values`.
    references: whether all references must be defined; reading a model needs
      fewer than a run.
  """
  check_macros()
  check_scopes()
  if references:
    check_references()
  check_values(trains)
