"""The checks of a run before its graph is built, in order.

A check is a function of a `request.Run` that raises a UserError of one
sentence; a note is one that returns lines to print. Neither binds nor prints;
both read properties of the run. To add one, write a function and list it here.
"""

from collections.abc import Callable

from hypergrid_mtf.run import request
from hypergrid_mtf.run.checks import (
  checkpoint,
  config,
  data,
  mesh,
  mode,
  sizes,
  training_record,
)

CHECKS: tuple[Callable[[request.Run], None], ...] = (
  config.check_flags,
  config.check_bindings,
  config.check_decoding,
  data.check_mixture,
  sizes.check_lengths,
  sizes.check_batch_size,
  sizes.check_train_steps,
  sizes.check_trained,
  data.check_input_files,
  data.check_sources,
  mesh.check_mesh,
  sizes.check_packing,
  mesh.check_tpu,
  checkpoint.check_steps,
  checkpoint.check_checkpoints,
  checkpoint.check_warm_start,
  mode.check_mode,
  data.check_examples,
  data.check_task_tokens,
)
NOTES: tuple[Callable[[request.Run], list[str]], ...] = (
  config.note_unread_macros,
  mesh.note_mesh,
  sizes.note_trained,
  data.note_bucket,
  training_record.note_function,
  training_record.note_lengths,
  training_record.note_data,
  checkpoint.note_checkpoints,
  mode.note_waiting,
  data.note_lost_characters,
  data.note_cuts,
  data.note_collisions,
)


def check_run(run: request.Run) -> None:
  """Raises the UserError of the first check that fails."""
  for check in CHECKS:
    check(run)


def list_notes(run: request.Run) -> list[str]:
  """The notes about a run that passed its checks."""
  return [line for note in NOTES for line in note(run)]
