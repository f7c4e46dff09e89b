"""What t5's `t5_mesh_transformer` does, in parts between which one can check.

Its `main` parses and runs in one function. Its flags are defined there and read
here, and what it calls is called.
"""

import contextlib
import os
import sys

import gin
import t5
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils
from t5.models import (
  mesh_transformer,
  mesh_transformer_main,  # noqa: F401  (defines the flags)
)

from hypergrid_mtf.run import gin_files


def log_command(model_dir: str) -> None:
  """Keeps the command line in `<model_dir>/commands`, as t5 does."""
  folder = os.path.join(model_dir, "commands")
  with contextlib.suppress(
    tf.errors.PermissionDeniedError, tf.errors.InvalidArgumentError
  ):
    tf.io.gfile.makedirs(folder)
    path, suffix = os.path.join(folder, "command"), 0
    while tf.io.gfile.exists(path):
      suffix += 1
      path = os.path.join(folder, f"command.{suffix}")
    with tf.io.gfile.GFile(path, "w") as f:
      f.write(" ".join(sys.argv))


def parse(flags) -> None:
  """Reads Mesh TensorFlow's defaults, --gin_file and --gin_param.

  Args:
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: naming the flag or the file and line, the text, and the fault.
  """
  old = mesh_transformer.DEPRECATED_GIN_REFERENCES
  gin_files.parse(
    utils.parse_gin_defaults_and_flags,
    skip_unknown=flags.skip_all_gin_unknowns
    or (*old, *flags.additional_deprecated_gin_references),
    finalize_config=False,
  )
  # Before the checks, which look for cached tasks there.
  t5.data.add_global_cache_dirs(flags.additional_task_cache_dirs)


def run(flags) -> None:
  """Runs what the configuration asks for.

  Args:
    flags: absl's FLAGS, parsed.
  """
  # Many gin files of t5 bind it to what is there no more.
  gin.bind_parameter("run.vocabulary", mesh_transformer.get_vocabulary())
  if not flags.tpu:
    for name in ("slice_dtype", "activation_dtype"):
      gin.bind_parameter(f"utils.get_variable_dtype.{name}", "float32")
  gin.finalize()
  utils.run(
    tpu_job_name=flags.tpu_job_name,
    tpu=flags.tpu,
    gcp_project=flags.gcp_project,
    tpu_zone=flags.tpu_zone,
    model_dir=flags.model_dir,
  )
