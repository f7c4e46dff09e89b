"""Which checkpoints of a folder a run asks for, and whether they are there.

t5 takes the nearest checkpoint in place of one that is not there. That is
another model's score under the number that was asked for, so it is refused, in
every mode alike.
"""

from hypergrid_mtf import checkpoint_files, errors
from hypergrid_mtf.run import gin_files, gin_statements, request

_SEVERAL = ("eval", "score_eval", "perplexity_eval", "infer")


def check_steps(asked: request.Request, flags) -> None:
  """Checks the steps that a run asks for.

  Args:
    asked: the run.
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: naming the steps that there are.
  """
  if not asked.trains:
    _check_gin(asked.mode, flags.model_dir)


def _is_step(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_gin(mode: str, model_dir: str) -> None:
  exports = mode.startswith("export")
  name = f"run.{'export' if exports else 'eval'}_checkpoint_step"
  value = gin_files.value(name)
  several = mode in _SEVERAL
  # -1 is the last one, and so is None to an export; None elsewhere waits for
  # those to come.
  if value is None or (value == -1 and isinstance(value, int)):
    return
  if value == "all" and not exports:
    return
  steps = value if isinstance(value, list | tuple) else [value]
  said = f"{name} = {value!r}"
  told = gin_statements.told(name)
  if not steps or not all(map(_is_step, steps)):
    others = ", a list of steps, 'all'" if several else ""
    raise errors.UserError(
      f"{said} is not a step{told}: give the number of one{others}, or -1 for "
      "the last."
    )
  if exports and len(steps) > 1:
    raise errors.UserError(
      f"{said} is more than one step{told}: one can be exported."
    )
  there = _check_there(steps, model_dir, f"{said}{told}")
  if exports and steps == [0] and there and there != [0]:
    raise errors.UserError(
      f"{said} is taken for the last step by t5{told}: the checkpoint of step "
      "0 can be exported from a folder of its own."
    )


def _check_there(steps, model_dir: str, said: str) -> list[int]:
  """Checks that steps are there, in a folder that has any."""
  there = checkpoint_files.steps(model_dir)
  missing = [step for step in steps if step not in there]
  if there and missing:
    raise errors.UserError(
      f"{said}: there is no checkpoint of step {missing[0]} in "
      f"--model_dir={model_dir}, which has those of "
      f"{', '.join(map(str, there))}."
    )
  return there
