"""Patches of the pinned libraries.

`hypergrid_mtf.load` calls `patch()`. Each function `patch_*` patches one thing;
its docstring says what, why, and when it can go, and docs/dev/patches.md lists
them all. Patches that last only while a command runs are in
`hypergrid_mtf.run`, and in the same list.
"""

from hypergrid_mtf.compat import imports


def patch() -> None:
  """Applies every patch once; safe to call repeatedly.

  Raises:
    ImportError: for a TensorFlow without TPUEstimator, or an import of
      mesh_tensorflow that failed before.
  """
  imports.check_tensorflow()
  imports.patch_tensor_conversion_registry()
  imports.patch_t5_models_without_torch()

  # These import the libraries, which the patches above make possible.
  from hypergrid_mtf.compat import (
    data,
    evaluation,
    mesh_training,
    random_numbers,
    text,
  )

  mesh_training.patch_updates_before_reads()
  mesh_training.patch_step_counter_before_reads()
  mesh_training.patch_saved_configuration()
  random_numbers.patch_random_operations_of_training()
  text.patch_decoded_bytes()
  text.patch_written_inputs()
  text.patch_scored_targets()
  text.patch_lines_of_files()
  evaluation.patch_eval_summary_dir()
  evaluation.patch_steps_of_all_checkpoints()
  data.patch_tfds_reads_from_disk()
  data.patch_splits_of_cached_tasks()
  data.patch_closing_of_input()
