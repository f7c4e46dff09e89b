"""Checks that bindings and flags are known, valid and complete."""

from hypergrid_mtf import errors
from hypergrid_mtf.run import bindings, config, request

# t5 uses these flags only for its model API.
_API_FLAGS = (
  "use_model_api mode batch_size input_sequence_length target_sequence_length "
  "tpu_topology model_parallelism train_steps mixture_or_task checkpoint_mode "
  "pretrained_model_dir checkpoint_steps eval_summary_dir eval_split "
  "input_file target_file output_file export_dir beam_size temperature "
  "keep_top_k"
)


def check_flags(run: request.Run) -> None:
  """Checks that flags are not of t5's model API, and fit together."""
  for name in _API_FLAGS.split():
    value = run.flags[name].value
    if run.flags[name].present and value is not False:
      given = ",".join(value) if isinstance(value, list) else value
      given = f"--{name}" if value is True else f"--{name}={given}"
      raise errors.UserError(
        f"{given} belongs to t5's model API, which this program does not have: "
        "give gin bindings instead, or use t5.models.MtfModel from Python "
        "(docs/python.md)."
      )
  flags = run.flags
  patience = flags.patience
  if patience is not None and (patience < 1 or not flags.evaluate):
    raise errors.UserError(
      f"--patience={patience} must be a positive integer, and needs --evaluate."
    )
  if flags.evaluate and not run.trains:
    raise errors.UserError(
      f"--evaluate is for training, but run.mode is {run.mode!r}: leave it out."
    )
  if flags.evaluate and flags.tpu:
    raise errors.UserError(
      "--evaluate needs the training's device, and a TPU cannot be shared: "
      "evaluate after the training, or follow it from another machine "
      "(run.eval_checkpoint_step = None)."
    )


def check_bindings(run: request.Run) -> None:
  """Checks that every binding is read and has a value that t5 can use."""
  bindings.check_macros()
  bindings.check_scopes()
  _check_required(run)
  bindings.check_references()
  bindings.check_values(run.trains)


def _check_required(run: request.Run) -> None:
  """Checks that everything marked %gin.REQUIRED was given.

  Only a new training needs an initial checkpoint: `settle` has bound it to None
  for other runs.
  """
  names = [n for n in run.required if n != request.START or run.begins]
  if not names:
    return
  name = names[0]
  written = config.origin(name)
  where = written.place if written else "this configuration"
  if name != request.START:
    raise errors.UserError(
      f'{where}: {name} is required; give --gin_param="{name} = …".'
    )
  raise errors.UserError(
    f"{where}: {name} is required: the pretrained T5 that training starts "
    f"from; give --gin_param=\"{name} = '…/model.ckpt-STEP'\" with a "
    "run.train_steps above that STEP, or None instead of the path to train "
    "from random weights."
  )


def check_decoding(run: request.Run) -> None:
  """Checks that decoding does not both sample and use beam search."""
  if run.mode not in ("eval", "infer", "export", "export_infer"):
    return
  decode = "Bitransformer.decode"
  beams = config.value(f"{decode}.beam_size", 1)
  if beams == 1:
    return
  for name, none in (("temperature", 0), ("sampling_keep_top_k", -1)):
    name = f"{decode}.{name}"
    value = config.value(name, none)
    if value != none:
      where = f"{decode}.beam_size"
      raise errors.UserError(
        f"{where} = {beams}{config.place(where)} uses beam search and {name} = "
        f"{value}{config.place(name)} samples, and t5 cannot do both: give "
        f"{where} = 1, or {name} = {none}."
      )


def note_unread_macros(run: request.Run) -> list[str]:
  """Notes macros in a user's file that nothing reads."""
  del run
  return [
    f"nothing reads the macro {statement.macro} ({statement.place})"
    for statement, near in bindings.unread_macros()
    if not near and statement.source != "flag"
  ]
