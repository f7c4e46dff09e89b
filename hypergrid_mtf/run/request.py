"""What a command line asks for: what the checks and the last line need."""

import dataclasses
import os

import gin

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files

# What run.mode can be.
MODES = (
  "train",
  "eval",
  "score_eval",
  "perplexity_eval",
  "infer",
  "score_from_strings",
  "score_from_dataset",
  "export",
  "export_infer",
  "export_score",
)


@dataclasses.dataclass(frozen=True)
class Request:
  """One run.

  Attributes:
    mode: one of MODES.
    mixture: name of the mixture or task; None if nothing names one.
    trains: whether it trains (and may start from no checkpoint).
    waits: whether it waits for checkpoints that are not there yet.
    split: the split that is decoded or scored, or None.
    input_files: (where it was given, path) of files that must exist.
    results: what a reader finds the results by: a folder, or a pattern of the
      files' names, to which t5 adds the step or what a file holds.
    train_steps: the step to stop at, or None.
    step: the one checkpoint asked for by its number, or None.
    checkpoint_step: which checkpoints it reads, as t5 is told: steps, "all",
      -1 for the last, or None for the last and those to come.
    warm_from: (where it was given, a checkpoint that training starts from), or
      None.
  """

  mode: str
  mixture: str | None
  trains: bool
  waits: bool
  split: str | None
  input_files: tuple[tuple[str, str | None], ...]
  results: str
  train_steps: int | None = None
  step: int | None = None
  checkpoint_step: object = None
  warm_from: tuple[str, object] | None = None


def from_gin(flags) -> Request:
  """Reads the request from gin bindings, as `utils.run` will.

  Args:
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: for an unknown mode.
  """
  mode = gin_files.value("run.mode", "train")
  if mode not in MODES:
    raise errors.UserError(
      f"run.mode = {mode!r} is unknown: choose one of "
      f"{', '.join(map(repr, MODES))}."
    )
  evaluates = mode in ("eval", "score_eval", "perplexity_eval")
  from_data = evaluates or mode == "score_from_dataset"
  split = gin_files.value("run.dataset_split", "train") if from_data else None
  step = gin_files.value("run.eval_checkpoint_step")
  if mode.startswith("export"):
    if not gin_files.value("run.export_path"):
      gin.bind_parameter(
        "run.export_path", os.path.join(flags.model_dir, "export")
      )
    results = gin_files.value("run.export_path")
    step = gin_files.value("run.export_checkpoint_step")
  elif mode == "infer":
    results = _files_by("decode_from_file.output_filename", "-*") or (
      gin_files.value("decode_from_dataset.decode_output_dir", "")
    )
  elif mode.startswith("score_from"):
    results = _files_by("save_scores.scores_filename", ".*")
  elif mode == "perplexity_eval":
    results = os.path.join(flags.model_dir, f"eval_*_{split}_*")
  elif split:
    results = _eval_folder(flags.model_dir, split, mode == "score_eval")
  else:
    results = flags.model_dir
  train_steps = gin_files.value("run.train_steps")
  return Request(
    mode=mode,
    mixture=_gin_mixture(mode),
    trains=mode == "train",
    waits=(evaluates or mode == "infer") and step is None,
    split=split,
    input_files=tuple(_input_files(mode)),
    results=results,
    train_steps=train_steps if isinstance(train_steps, int) else None,
    step=step if isinstance(step, int) and step >= 0 else None,
    checkpoint_step=step,
    warm_from=_warm_from(mode),
  )


def _input_files(mode: str) -> list[tuple[str, str | None]]:
  names = {
    "infer": ["decode_from_file.input_filename"],
    "score_from_strings": [
      "score_from_strings.inputs",
      "score_from_strings.targets",
    ],
  }.get(mode, [])
  given = [(name, gin_files.value(name)) for name in names]
  # What has to be given, `mode_checks` says.
  return [(name, path) for name, path in given if path is not None]


def _files_by(name: str, suffix: str) -> str:
  path = gin_files.value(name)
  return f"{path}{suffix}" if path else ""


def _eval_folder(model_dir: str, split: str, scores: bool) -> str:
  """The folder an evaluation writes; scores do not go where answers are."""
  suffix = "run.eval_dir_suffix"
  if scores and gin_files.value(suffix) is None:
    gin.bind_parameter(suffix, "scores")
  folder = gin_files.value("run.eval_summary_dir") or os.path.join(
    model_dir, f"{split}_eval"
  )
  end = gin_files.value(suffix)
  return folder if end is None else f"{folder}_{end}"


def _warm_from(mode: str) -> tuple[str, object] | None:
  given = gin_files.value("run.init_checkpoint") if mode == "train" else None
  return ("run.init_checkpoint", given) if given else None


def _gin_mixture(mode: str) -> str | None:
  function = (
    "mesh_train_dataset_fn" if mode == "train" else "mesh_eval_dataset_fn"
  )
  for parameter in (
    f"{function}.mixture_or_task_name",
    "mesh_transformer.get_vocabulary.mixture_or_task_name",
  ):
    name = gin_files.value(parameter)
    if name:
      return name
  return None
