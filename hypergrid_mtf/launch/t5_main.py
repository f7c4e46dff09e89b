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
  mtf_model,
)

from hypergrid_mtf.launch import gin_files, request


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


def run(asked: request.Request, flags) -> None:
  """Runs what the configuration asks for.

  Args:
    asked: the run.
    flags: absl's FLAGS, parsed.
  """
  # Many gin files of t5 bind it to what is there no more.
  gin.bind_parameter("run.vocabulary", mesh_transformer.get_vocabulary())
  if not (flags.tpu or flags.use_model_api):
    for name in ("slice_dtype", "activation_dtype"):
      gin.bind_parameter(f"utils.get_variable_dtype.{name}", "float32")
  gin.finalize()
  where = {
    name: flags[name].value
    for name in ("tpu_job_name", "tpu", "gcp_project", "tpu_zone", "model_dir")
  }
  if not flags.use_model_api:
    utils.run(**where)
    return
  model = mtf_model.MtfModel(
    **where,
    tpu_topology=flags.tpu_topology,
    model_parallelism=flags.model_parallelism,
    batch_size=flags.batch_size,
    sequence_length={
      "inputs": flags.input_sequence_length,
      "targets": flags.target_sequence_length,
    },
  )
  _call_api(model, asked, flags)


def _call_api(model, asked, flags) -> None:
  """The method of `MtfModel` that --mode names."""
  steps = asked.checkpoint_step
  step = steps[0] if isinstance(steps, list) else steps
  decoding = {
    name: flags[name].value
    for name in ("beam_size", "temperature", "keep_top_k")
  }
  if asked.mode == "train":
    model.train(asked.mixture, steps=flags.train_steps)
  elif asked.mode == "finetune":
    model.finetune(
      asked.mixture,
      finetune_steps=flags.train_steps,
      pretrained_model_dir=flags.pretrained_model_dir,
      pretrained_checkpoint_step=step,
    )
  elif asked.mode == "eval":
    model.eval(
      asked.mixture,
      checkpoint_steps=steps,
      summary_dir=flags.eval_summary_dir,
      split=flags.eval_split,
    )
  elif asked.mode == "predict":
    model.predict(
      input_file=flags.input_file,
      output_file=flags.output_file,
      checkpoint_steps=steps,
      **decoding,
    )
  elif asked.mode == "score":
    model.score(
      flags.input_file,
      flags.target_file,
      scores_file=flags.output_file,
      checkpoint_steps=steps,
    )
  else:
    model.export(
      export_dir=flags.export_dir,
      checkpoint_step=step,
      eval_with_score=asked.mode == "export_score",
      **decoding,
    )
