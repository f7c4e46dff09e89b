"""What flags and gin ask for, and what follows from it."""

import dataclasses
import functools
import os
import re
from typing import Any

import gin
import mesh_tensorflow as mtf
import seqio
from mesh_tensorflow.transformer import utils

import t5_tasks
from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import (
  bindings,
  config,
  examples,
  files,
  input_files,
)
from hypergrid_mtf.run import mesh as mesh_lib
from t5_tasks import mixtures, vocabularies, vocabulary_record

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
START = "run.init_checkpoint"
WARM_START = "warm_start.json"
# Training examples of each task that are read before a run.
_SAMPLED = 50


@dataclasses.dataclass(frozen=True)
class Run:
  """One run, as flags and gin describe it.

  Each property is computed once, when it is first needed, or raises a UserError
  that says why it cannot be. Properties never bind gin parameters; `settle`
  does.

  Attributes:
    flags: absl's FLAGS, parsed; gin has its configuration.
  """

  flags: Any

  # What is asked.

  @property
  def model_dir(self) -> str:
    return self.flags.model_dir

  @functools.cached_property
  def mode(self) -> str:
    mode = config.value("run.mode", "train")
    if mode not in MODES:
      raise errors.UserError(
        f"run.mode = {mode!r} is unknown: choose one of "
        f"{', '.join(map(repr, MODES))}."
      )
    return mode

  @property
  def trains(self) -> bool:
    """Whether it trains (and so may start without a checkpoint)."""
    return self.mode == "train"

  @property
  def evaluates(self) -> bool:
    return self.mode in ("eval", "score_eval", "perplexity_eval")

  @property
  def exports(self) -> bool:
    return self.mode.startswith("export")

  @property
  def waits(self) -> bool:
    """Whether it waits for checkpoints that do not exist yet."""
    reads_several = self.evaluates or self.mode == "infer"
    return reads_several and self.checkpoint_step is None

  @functools.cached_property
  def mixture_name(self) -> str | None:
    """The name of the mixture or task, or None."""
    function = f"mesh_{'train' if self.trains else 'eval'}_dataset_fn"
    names = (
      config.value(f"{owner}.mixture_or_task_name")
      for owner in (function, "mesh_transformer.get_vocabulary")
    )
    return next(filter(None, names), None)

  @functools.cached_property
  def split(self) -> str | None:
    """The split to decode or score."""
    if self.evaluates or self.mode == "score_from_dataset":
      return config.value("run.dataset_split", "train")
    return None

  @functools.cached_property
  def train_steps(self) -> int | None:
    """The step to stop at."""
    steps = config.value("run.train_steps")
    return steps if isinstance(steps, int) else None

  @property
  def checkpoint_parameter(self) -> str:
    return f"run.{'export' if self.exports else 'eval'}_checkpoint_step"

  @functools.cached_property
  def checkpoint_step(self) -> Any:
    """Which checkpoints it reads, as bound for t5.

    Steps, "all", -1 for the last, or None for the last and future ones.
    """
    if self.trains:
      return None
    step = config.value(self.checkpoint_parameter)
    scores_once = self.mode.startswith("score_from")
    return -1 if step is None and scores_once else step

  @functools.cached_property
  def init_checkpoint(self) -> Any:
    """The initial checkpoint of a training, as it was given."""
    if not self.trains or START in self.required:
      return None
    return config.value(START) or None

  @functools.cached_property
  def required(self) -> list[str]:
    """The parameters that gin files mark with %gin.REQUIRED."""
    mark = r"^([\w./]+) = %gin\.REQUIRED$"
    return re.findall(mark, gin.config_str(), re.M)

  @functools.cached_property
  def input_files(self) -> tuple[tuple[str, Any], ...]:
    """(Where it was given, path) of each file that must exist."""
    names = {
      "infer": ["decode_from_file.input_filename"],
      "score_from_strings": [
        "score_from_strings.inputs",
        "score_from_strings.targets",
      ],
    }.get(self.mode, [])
    given = ((name, config.value(name)) for name in names)
    # `checks.mode` checks that the necessary ones are given.
    return tuple((name, path) for name, path in given if path is not None)

  @functools.cached_property
  def input_lines(self) -> dict[str, list[str]]:
    """{where a file was given: its lines}."""
    return input_files.check_files(self.input_files)

  @functools.cached_property
  def export_path(self) -> str:
    given = config.value("run.export_path")
    return given or os.path.join(self.model_dir, "export")

  @functools.cached_property
  def eval_dir_suffix(self) -> str | None:
    """The suffix that keeps scores out of the folder of answers."""
    given = config.value("run.eval_dir_suffix")
    return "scores" if given is None and self.mode == "score_eval" else given

  @functools.cached_property
  def results(self) -> str:
    """Where the results are.

    A folder, or a pattern of file names, to which t5 adds the step or the
    content.
    """
    if self.exports:
      return self.export_path
    if self.mode == "infer":
      name = config.value("decode_from_file.output_filename")
      folder = config.value("decode_from_dataset.decode_output_dir", "")
      return f"{name}-*" if name else folder
    if self.mode.startswith("score_from"):
      name = config.value("save_scores.scores_filename")
      return f"{name}.*" if name else ""
    if self.mode == "perplexity_eval":
      return os.path.join(self.model_dir, f"eval_*_{self.split}_*")
    return self.eval_folder(self.split) if self.split else self.model_dir

  def eval_folder(self, split: str) -> str:
    """Where t5 writes the evaluation of a split."""
    folder = config.value("run.eval_summary_dir") or os.path.join(
      self.model_dir, f"{split}_eval"
    )
    suffix = self.eval_dir_suffix
    return folder if suffix is None else f"{folder}_{suffix}"

  # The data.

  @functools.cached_property
  def vocabulary_name(self) -> str | None:
    """From --vocabulary, as stored in the configuration."""
    path = self.flags.vocabulary
    exists = path is not None and os.path.exists(path)
    return os.path.abspath(path) if exists else path

  @functools.cached_property
  def mixture(self) -> seqio.Mixture | seqio.Task:
    """The mixture or task, with the vocabulary of the run."""
    name = self.vocabulary_name
    bound = config.value("t5_tasks.vocabularies.use_vocabulary.name")
    # Bound, not passed, so that operative_config.gin records it.
    given = {} if name in (None, bound) else {"name": name}
    t5_tasks.define_from_gin()  # tasks first: they get the vocabulary
    vocabulary = vocabularies.use_vocabulary(**given)
    if not self.mixture_name:
      raise errors.UserError(
        "no mixture or task was given: add a gin file from experiments/, or "
        '--gin_file=dataset.gin and --gin_param="MIXTURE_NAME = '
        "'embedded_v1'\"."
      )
    mixture = mixtures.get_mixture_or_task(self.mixture_name)
    vocabularies.check_used(vocabulary, mixture)
    vocabularies.check_vocabulary(mixture)
    return mixture

  @functools.cached_property
  def vocabulary(self) -> dict[str, dict]:
    """{feature: facts} of the vocabularies, to be recorded and compared."""
    return vocabulary_record.record(self.mixture)

  @functools.cached_property
  def reader(self) -> str:
    """The name of the function that reads the training data."""
    name = "mesh_train_dataset_fn"
    try:
      reference = gin.query_parameter("run.train_dataset_fn")
    except ValueError:
      return name
    return str(reference).rsplit(".", 1)[-1].strip("@()")

  @property
  def cached_parameter(self) -> str:
    return f"mesh_{'train' if self.trains else 'eval'}_dataset_fn.use_cached"

  @functools.cached_property
  def use_cached(self) -> bool:
    """Whether it reads cached tasks instead of raw data."""
    return bool(config.value(self.cached_parameter, False))

  @functools.cached_property
  def examples(self) -> examples.Examples:
    """The first training examples of each task."""
    if not self.trains or self.reader != "mesh_train_dataset_fn":
      return {}
    tasks = examples.training_tasks(self.mixture)
    examples.check_examples(tasks, "train", self.use_cached)
    return examples.first_examples(
      tasks, "train", _SAMPLED, self.lengths, self.use_cached
    )

  # The sizes.

  @functools.cached_property
  def lengths(self) -> dict[str, int] | None:
    """run.sequence_length by feature; None for the examples' own lengths."""
    name = "run.sequence_length"
    lengths = config.value(name)
    if lengths is None:
      return None
    if bindings.is_positive(lengths):
      return {"inputs": lengths, "targets": lengths}
    if isinstance(lengths, dict) and all(
      map(bindings.is_positive, lengths.values())
    ):
      return lengths
    raise errors.UserError(
      f"{name} = {lengths!r} is not a length{config.place(name)}: give an "
      'integer, or {"inputs": 512, "targets": 128}.'
    )

  @functools.cached_property
  def batch_size(self) -> int | tuple[str, int]:
    """run.batch_size: sequences, or a pair of method and number.

    A default from t5's files, which assume lengths that are powers of two, is
    adjusted if the run does not train and nothing depends on it.
    """
    name = "run.batch_size"
    size = config.value(name, ("tokens_per_replica", 2048))
    if bindings.is_positive(size):
      return size
    methods = [
      f"{what}_per_{share}"
      for what in ("sequences", "tokens")
      for share in ("batch", "replica")
    ]
    if not (
      isinstance(size, list | tuple)
      and len(size) == 2
      and size[0] in methods
      and bindings.is_positive(size[1])
    ):
      raise errors.UserError(
        f"{name} = {size!r} is not a batch size{config.place(name)}: give a "
        "positive integer, or a pair such as ('tokens_per_batch', 4096) with "
        f"one of {methods}."
      )
    method, count = size
    found = config.origin(name)
    if (
      method.startswith("tokens")
      and self.lengths
      and count >= max(self.lengths.values())
      and not self.trains
      and found
      and found.source == "shipped"
    ):
      return method, count - count % max(self.lengths.values())
    return method, count

  @functools.cached_property
  def num_sequences(self) -> int | None:
    """The sequences of a step, over the whole mesh.

    None if that needs a length, and there is none.
    """
    if isinstance(self.batch_size, int):
      return self.batch_size
    if self.lengths is None and self.batch_size[0].startswith("tokens"):
      return None
    return utils.compute_batch_size(
      self.lengths, self.mesh.shape, self.mesh.rules, self.batch_size
    )

  @functools.cached_property
  def outer_batch(self) -> int:
    """The outer batches that t5 splits a step into, before the mesh does."""
    if self.trains or self.mode == "perplexity_eval":
      return config.value("tpu_estimator_model_fn.outer_batch_size", 1) or 1
    return 1

  # The model.

  @functools.cached_property
  def mesh(self) -> mesh_lib.Mesh:
    return mesh_lib.of_run(bool(self.flags.tpu))

  @functools.cached_property
  def model(self):
    """The model from `model.build`, without a mesh."""
    return model_lib.of_mixture(self.mixture)

  @functools.cached_property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """{variable name: shape} of the model."""
    return checkpoints.variable_shapes(self.model)

  @functools.cached_property
  def tensors(self) -> list[tuple[mtf.Operation, list[mtf.Dimension]]]:
    """The tensors of a forward pass, from `model_lib.list_tensors`."""
    outer = self.outer_batch
    return model_lib.list_tensors(
      self.model,
      self.num_sequences or outer * self.mesh.num_shards("batch"),
      self.lengths or {"inputs": 16, "targets": 16},  # evaluation finds its own
      outer,
    )

  # The checkpoints. On gs://, listing a folder costs a round trip.

  @functools.cached_property
  def latest(self) -> str | None:
    """The prefix of the latest checkpoint in its folder."""
    return checkpoints.latest_checkpoint(self.model_dir)

  @property
  def latest_step(self) -> int:
    """The step of the latest checkpoint, by its name; 0 if there is none."""
    if self.latest is None:
      return 0
    return utils.get_step_from_checkpoint_path(self.latest)

  @functools.cached_property
  def steps(self) -> list[int]:
    """The steps of the checkpoints in its folder."""
    return checkpoints.list_steps(self.model_dir)

  @functools.cached_property
  def read(self) -> list[str]:
    """The checkpoints that it reads from its own folder, in order.

    Missing steps are left out.
    """
    if self.latest is None:
      return []
    step = self.checkpoint_step
    if step is None or step == -1:
      return [self.latest]
    there = checkpoints.list_steps(self.model_dir, parts=True)
    if step != "all":
      wanted = step if isinstance(step, list | tuple) else [step]
      there = [s for s in there if s in wanted]
    return [checkpoints.path_of(self.model_dir, s) for s in there]

  @property
  def begins(self) -> bool:
    """Whether it is a training without a checkpoint of its own."""
    return self.trains and self.latest is None

  @property
  def is_warm_start(self) -> bool:
    return bool(self.init_checkpoint) and self.begins

  @functools.cached_property
  def recorded_start(self) -> dict:
    """The record of the training's initial checkpoint."""
    return files.read_json(os.path.join(self.model_dir, WARM_START))

  @property
  def began(self) -> int:
    """The step of a training's first batch: 0, or that of its warm start."""
    if self.is_warm_start:
      return self.source_step or 0
    return 0 if self.begins else self.recorded_start.get("step") or 0

  @functools.cached_property
  def source(self) -> str:
    """The prefix of the initial checkpoint."""
    given = self.init_checkpoint
    if not isinstance(given, str):
      raise errors.UserError(
        f"{START} = {given!r} is not the path of a checkpoint."
      )
    return checkpoints.of_path(given, START)

  @functools.cached_property
  def source_shapes(self) -> dict[str, tuple[int, ...]]:
    """{variable name: shape} of the intact initial checkpoint."""
    path = self.source
    if not checkpoints.exists(path):
      there = checkpoints.list_steps(os.path.dirname(path))
      others = (
        f"; {os.path.dirname(path)} has steps "
        f"{checkpoints.describe_steps(there)}"
      )
      raise errors.UserError(
        f"the checkpoint {path} ({START}) does not exist: there is no file "
        f"{path}.index{others if there else ''}."
      )
    checkpoints.check_intact(path, START)
    return checkpoints.reader_shapes(path, START)

  @functools.cached_property
  def source_step(self) -> int | None:
    _ = self.source_shapes  # raises if it cannot be read
    return checkpoints.step_of(self.source)

  @functools.cached_property
  def variable_filter(self):
    """The user's function that says which variables to load, by name."""
    given = config.value("should_load_variable.filter_fn")
    return given or (lambda name: True)

  @functools.cached_property
  def trained_shapes(self) -> dict[str, tuple[int, ...]]:
    """{variable: shape} of those that the optimizer changes."""
    pattern = config.value("run.variable_filter")
    if not isinstance(pattern, str):
      return self.shapes  # None, or a function of mtf.Variables
    return {n: s for n, s in self.shapes.items() if re.search(pattern, n)}

  @functools.cached_property
  def warm_start(self) -> checkpoints.WarmStart:
    """What the model loads from the initial checkpoint."""
    return checkpoints.warm_start(
      self.source_shapes,
      self.shapes,
      config.value("run.init_variable_filter") or "",
      self.variable_filter,
    )
