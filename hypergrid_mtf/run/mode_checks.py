"""What each mode of t5 takes for granted, beside a model and its data.

t5 finds out inside its graph, or after the work is done, that a file to write
has no name, or that a mode was asked for without the gin file that belongs to
it. Each check raises UserError instead.
"""

import os

import gin
import seqio

from hypergrid_mtf import checkpoint_files, errors
from hypergrid_mtf.run import (
  console,
  files,
  gin_files,
  request,
)

# t5's own gin files name these where a user's path belongs.
_PLACEHOLDERS = "/path/to/"


def check(asked: request.Request, mixture_or_task, flags) -> None:
  """Checks what the mode of a run needs.

  Args:
    asked: the run.
    mixture_or_task: a seqio Mixture or Task.
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: naming what is missing, and what gives it.
  """
  if asked.mode.endswith("eval") or asked.mode == "infer":
    _check_all_steps(flags.model_dir)
  if asked.mode == "infer":
    _check_infer()
  elif asked.mode.startswith("score_from"):
    _check_scoring(asked.mode)
  elif asked.mode.startswith("export"):
    files.check_output_dir(asked.results, "run.export_path")
  elif asked.mode.endswith("eval"):
    _check_evaluation(asked, mixture_or_task)


def _check_all_steps(model_dir: str) -> None:
  """Checks that "all" is not none: to t5 it begins after step 0."""
  name = "run.eval_checkpoint_step"
  if gin_files.value(name) == "all" and checkpoint_files.steps(model_dir) == [
    0
  ]:
    raise errors.UserError(
      f"{name} = 'all' leaves out step 0, and --model_dir={model_dir} has no "
      "other: give 0."
    )


def _check_infer() -> None:
  decode = gin_files.value("infer_model.decode_fn")
  if getattr(decode, "__name__", "") == "decode_from_dataset":
    model_type = gin_files.value("run.model_type", "bitransformer")
    if model_type != "lm":
      raise errors.UserError(
        "infer_model.decode_fn = @decode_from_dataset (infer_from_task.gin) "
        f"decodes with language models alone, and run.model_type is "
        f"{model_type!r}: take eval.gin, which writes the answers too, or "
        "infer.gin with a file of inputs."
      )
    return
  if decode is not None and getattr(decode, "__name__", "") != (
    "decode_from_file"
  ):
    return  # the user's own
  for macro in ("input_filename", "output_filename"):
    _check_given(f"decode_from_file.{macro}", macro, "infer.gin")
  _check_output("decode_from_file.output_filename")


def _check_scoring(mode: str) -> None:
  own, gin_file = {
    "score_from_strings": ("targets", "score_from_file.gin"),
    "score_from_dataset": ("score_dataset_fn", "score_from_task.gin"),
  }[mode]
  if own == "targets":
    _check_given(f"{mode}.targets", "targets_filename", gin_file)
    if gin_files.value("run.model_type", "bitransformer") != "lm":
      _check_given(f"{mode}.inputs", "inputs_filename", gin_file)
  else:
    _check_given(f"{mode}.{own}", None, gin_file)
  name = f"{mode}.score_postprocess_fn"
  _check_given(name, None, gin_file)
  save = getattr(gin_files.value(name), "__name__", "")
  if save in ("save_scores", "save_scores_to_tfrecords"):
    name = f"{save}.scores_filename"
    _check_given(name, "scores_filename", gin_file)
    _check_output(name)
  _check_one_step(mode)


def _check_one_step(mode: str) -> None:
  name = "run.eval_checkpoint_step"
  step = gin_files.value(name)
  if step is None:
    gin.bind_parameter(name, -1)
    console.say(f"{name} is not given: the last checkpoint is scored")
  elif step == "all" or (isinstance(step, list | tuple) and len(step) != 1):
    raise errors.UserError(
      f"{name} = {step!r}: mode {mode!r} scores with one checkpoint; give its "
      "step, or -1 for the last."
    )


def _check_evaluation(asked: request.Request, mixture_or_task) -> None:
  if gin_files.value("run.eval_dataset_fn") is None and (
    asked.mode != "perplexity_eval"
    or gin_files.value("run.train_dataset_fn") is None
  ):
    _check_given("run.eval_dataset_fn", None, f"{asked.mode}.gin")
  if asked.mode == "score_eval":
    _check_score_metrics(mixture_or_task, asked.split)
  if asked.mode != "perplexity_eval":
    files.check_output_dir(asked.results, "run.eval_summary_dir")


def _check_score_metrics(mixture_or_task, split: str | None) -> None:
  """Checks that `score_eval` has something to compute."""
  if not any(
    task.score_metric_fns
    for task in seqio.get_subtasks(mixture_or_task)
    if split in task.splits
  ):
    raise errors.UserError(
      f"run.mode = 'score_eval' computes metrics of log likelihoods, such as "
      f"rank_classification, and no task of {mixture_or_task.name} has one: "
      "take 'eval' for its metrics, 'perplexity_eval' for the loss, or "
      "--gin_file=score_from_task.gin to have the log likelihoods written."
    )


def _check_given(name: str, macro: str | None, gin_file: str) -> None:
  """Checks that something is bound, and not as t5's gin file leaves it."""
  value = gin_files.value(name)
  if value is None:
    also = ""
    if macro:
      also = f" and --gin_param=\"{macro} = '…'\""
    raise errors.UserError(
      f"{name} is not given: add --gin_file={gin_file}{also}."
    )
  if isinstance(value, str) and value.startswith(_PLACEHOLDERS):
    raise errors.UserError(
      f"{name} = {value!r} is what {gin_file} has in place of a path: give "
      f"--gin_param=\"{macro or name} = '…'\"."
    )


def _check_output(name: str) -> None:
  path = gin_files.value(name)
  if not isinstance(path, str) or not path:
    raise errors.UserError(
      f"{name} = {path!r} is not the name of a file: give the start of one, to "
      "which t5 adds the step or what the file holds."
    )
  _check_folder_of(path, name)


def _check_folder_of(path: str, name: str) -> None:
  """Checks the folder of files whose names begin with a path."""
  if "://" not in path:
    files.check_output_dir(os.path.dirname(path) or ".", name)
