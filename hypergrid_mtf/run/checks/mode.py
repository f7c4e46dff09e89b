"""Checks what each mode of t5 assumes, besides a model and its data.

t5 finds out only inside its graph, or after the work is done, that an output
file has no name, or that the mode's gin file was not given.
"""

import os

import seqio

from hypergrid_mtf import errors
from hypergrid_mtf.run import config, files, request
from hypergrid_mtf.run.checks import data

# t5's own gin files have these placeholders for the user's paths.
_PLACEHOLDERS = "/path/to/"


def check_mode(run: request.Run) -> None:
  """Checks that the mode's inputs and outputs were given, and are writable."""
  _check_selection(run)
  if run.mode == "infer":
    _check_infer()
  elif run.mode.startswith("score_from"):
    _check_scoring(run)
  elif run.exports:
    files.check_output_dir(run.results, "run.export_path")
  elif run.evaluates:
    _check_evaluation(run)


def _check_selection(run: request.Run) -> None:
  """Checks that a training with --evaluate has metrics and a folder."""
  if not run.flags.evaluate:
    return
  data.check_split(run.mixture, "validation", run.use_cached)
  tasks = seqio.get_subtasks(run.mixture)
  if not any(t.metric_fns for t in tasks if "validation" in t.splits):
    raise errors.UserError(
      f"--evaluate needs a metric, and no task of {run.mixture.name} with a "
      "validation split has one: leave it out."
    )
  files.check_output_dir(run.eval_folder("validation"), "run.eval_summary_dir")


def _check_infer() -> None:
  decode = config.value("infer_model.decode_fn")
  name = getattr(decode, "__name__", "")
  if name == "decode_from_dataset":
    model_type = config.value("run.model_type", "bitransformer")
    if model_type != "lm":
      raise errors.UserError(
        "infer_model.decode_fn = @decode_from_dataset (infer_from_task.gin) "
        "decodes only with language models, but run.model_type is "
        f"{model_type!r}: use eval.gin, which writes the answers too, or "
        "infer.gin with a file of inputs."
      )
    return
  if decode is not None and name != "decode_from_file":
    return  # a user's function
  for macro in ("input_filename", "output_filename"):
    _check_given(f"decode_from_file.{macro}", macro, "infer.gin")
  _check_output("decode_from_file.output_filename")


def _check_scoring(run: request.Run) -> None:
  mode, gin_file = run.mode, "score_from_file.gin"
  if mode == "score_from_strings":
    _check_given(f"{mode}.targets", "targets_filename", gin_file)
    if config.value("run.model_type", "bitransformer") != "lm":
      _check_given(f"{mode}.inputs", "inputs_filename", gin_file)
  else:
    gin_file = "score_from_task.gin"
    _check_given(f"{mode}.score_dataset_fn", None, gin_file)
  name = f"{mode}.score_postprocess_fn"
  _check_given(name, None, gin_file)
  save = getattr(config.value(name), "__name__", "")
  if save in ("save_scores", "save_scores_to_tfrecords"):
    name = f"{save}.scores_filename"
    _check_given(name, "scores_filename", gin_file)
    _check_output(name)
  step = run.checkpoint_step
  if step == "all" or (isinstance(step, list | tuple) and len(step) != 1):
    raise errors.UserError(
      f"{run.checkpoint_parameter} = {step!r}: mode {mode!r} scores only one "
      "checkpoint; give its step, or -1 for the last."
    )


def _check_evaluation(run: request.Run) -> None:
  if config.value("run.eval_dataset_fn") is None and (
    run.mode != "perplexity_eval"
    or config.value("run.train_dataset_fn") is None
  ):
    _check_given("run.eval_dataset_fn", None, f"{run.mode}.gin")
  if run.mode == "score_eval":
    _check_score_metrics(run)
  if run.mode != "perplexity_eval":
    files.check_output_dir(run.results, "run.eval_summary_dir")


def _check_score_metrics(run: request.Run) -> None:
  """Checks that `score_eval` has a metric to compute."""
  if not any(
    task.score_metric_fns
    for task in seqio.get_subtasks(run.mixture)
    if run.split in task.splits
  ):
    raise errors.UserError(
      "run.mode = 'score_eval' computes metrics of log likelihoods, such as "
      f"rank_classification, and no task of {run.mixture.name} has one: use "
      "'eval' for its metrics, 'perplexity_eval' for the loss, or "
      "--gin_file=score_from_task.gin to have the log likelihoods written."
    )


def _check_given(name: str, macro: str | None, gin_file: str) -> None:
  """Checks that a path is bound, and not t5's placeholder."""
  value = config.value(name)
  if value is None:
    also = f" and --gin_param=\"{macro} = '…'\"" if macro else ""
    raise errors.UserError(
      f"{name} is not given: add --gin_file={gin_file}{also}."
    )
  if isinstance(value, str) and value.startswith(_PLACEHOLDERS):
    raise errors.UserError(
      f"{name} = {value!r} is the placeholder of {gin_file} for a path: give "
      f"--gin_param=\"{macro or name} = '…'\"."
    )


def _check_output(name: str) -> None:
  """Checks the folder of output files whose names begin with a path."""
  path = config.value(name)
  if not isinstance(path, str) or not path:
    raise errors.UserError(
      f"{name} = {path!r} is not the name of a file: give its beginning, to "
      "which t5 adds the step or the content."
    )
  if "://" not in path:
    files.check_output_dir(os.path.dirname(path) or ".", name)


def note_waiting(run: request.Run) -> list[str]:
  """Notes a run that waits for checkpoints, or has nothing to do."""
  if run.waits:
    first = "" if run.latest else "waiting for the first checkpoint: "
    last = config.value("get_checkpoint_iterator.stop_after")
    until = "it is stopped" if last is None else f"step {last}"
    return [
      f"{first}run.eval_checkpoint_step = None follows the training in "
      f"{run.model_dir} until {until}; -1 uses the last checkpoint"
    ]
  step = run.latest_step
  if run.trains and run.train_steps and step >= run.train_steps:
    return [f"already at step {step} of {run.train_steps}: nothing to train"]
  return []
