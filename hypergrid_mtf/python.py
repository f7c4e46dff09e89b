"""T5 with HyperGrid from Python: each method is a run of the command line.

    from hypergrid_mtf.python import Model

    model = Model("runs/l2", "nano", "L2", "embedded")
    model.train(steps=300)
    model.evaluate()                  # a pandas DataFrame
    model.predict(["reverse: abc"])   # a list of texts
    gate_figures.figure(model.gates())

So each can continue, evaluate or export a model of the other. What the command
line refuses, a method refuses with a UserError of the same sentence.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from unittest import mock

import gin
import pandas as pd
import tensorflow.compat.v1 as tf
from absl import flags
from absl.testing import flagsaver

from hypergrid_mtf import errors, main, task_gates
from hypergrid_mtf.run import estimator, files

_TABLE = "t5_tasks.table.define_table"


class Model:
  """A model in a folder, trained or not."""

  def __init__(
    self,
    model_dir: str,
    size: str | None = None,
    variant: str | None = None,
    experiment: str | None = None,
    *,
    vocabulary: str | None = None,
    seed: int | None = None,
    gin_files: Sequence[str] = (),
    bindings: Sequence[str] = (),
    options: Sequence[str] = (),
  ):
    """Describes a model; nothing is read or built yet.

    Args:
      model_dir: its folder. A trained model needs nothing else.
      size: a name of operative_configs/models, such as "base".
      variant: of operative_configs/hypergrid, such as "L2" or "vanilla".
      experiment: of operative_configs/experiments, such as "glue".
      vocabulary: as --vocabulary.
      seed: as --seed.
      gin_files: more gin files, such as "data/local_mixture.gin".
      bindings: as --gin_param; they override the files.
      options: other flags of the command line, such as "--tpu=NAME".
    """
    self.model_dir = os.fspath(model_dir)
    named = {"models": size, "hypergrid": variant, "experiments": experiment}
    self._files = [f"{k}/{v}.gin" for k, v in named.items() if v]
    self._files += map(os.fspath, gin_files)
    self._bindings = list(bindings)
    self._options = list(options)
    if vocabulary is not None:
      self._options.append(f"--vocabulary={vocabulary}")
    if seed is not None:
      self._options.append(f"--seed={seed}")

  def train(
    self,
    data: str | pd.DataFrame | None = None,
    validation: pd.DataFrame | None = None,
    steps: int | None = None,
    bindings: Sequence[str] = (),
  ) -> None:
    """Trains, or resumes an interrupted training.

    Args:
      data: a mixture or task by name; a frame with the columns "inputs" and
        "targets"; None for the mixture of the experiment.
      validation: a frame to evaluate on, if `data` is a frame.
      steps: the step to stop at; None for the experiment's.
      bindings: for this training.
    """
    given = []
    if isinstance(data, pd.DataFrame):
      given += self._write_table(train=data, validation=validation)
    elif data is not None:
      given.append(f"MIXTURE_NAME = {data!r}")
    self._bindings += given  # for its evaluations too
    if steps is not None:
      bindings = [f"run.train_steps = {steps}", *bindings]
    self._run([], bindings)

  def evaluate(
    self,
    split: str = "validation",
    step: int | str = -1,
    bindings: Sequence[str] = (),
  ) -> pd.DataFrame:
    """Decodes a split and computes the metrics of its tasks.

    Args:
      split: "validation", "test" or "train".
      step: of the checkpoint; -1 for the last, "all" for each.
      bindings: for this evaluation.

    Returns:
      one row per metric, with the columns step, task, metric and value
    """
    asked = [
      f"run.dataset_split = {split!r}",
      f"run.eval_checkpoint_step = {step!r}",
    ]
    progress = self._run(["experiments/local_eval.gin"], [*asked, *bindings])
    return pd.DataFrame(
      progress.metrics, columns=["step", "task", "metric", "value"]
    )

  def predict(
    self,
    texts: Sequence[str],
    beam_size: int = 1,
    step: int = -1,
    bindings: Sequence[str] = (),
  ) -> list[str]:
    """Answers texts, greedily or with the beam search of beam_search.gin.

    Args:
      texts: inputs, without line breaks.
      beam_size: width of the beam; 1 is greedy.
      step: of a checkpoint; -1 for the last.
      bindings: for this decoding, such as a length limit.
    """
    search = ["beam_search.gin"] if beam_size > 1 else ["greedy_decode.gin"]
    with _files(inputs=texts) as paths:
      output = f"{paths['inputs']}.answers"
      asked = [
        f"input_filename = {paths['inputs']!r}",
        f"output_filename = {output!r}",
        f"infer_checkpoint_step = {step}",
      ]
      if beam_size > 1:
        asked.append(f"Bitransformer.decode.beam_size = {beam_size}")
      progress = self._run(["infer.gin", *search], [*asked, *bindings], False)
      return _read_lines(f"{output}-{progress.step}")

  def score(
    self, inputs: Sequence[str], targets: Sequence[str], step: int = -1
  ) -> list[float]:
    """The log-likelihood of each target, given its input.

    Args:
      inputs: without line breaks.
      targets: one per input.
      step: of a checkpoint; -1 for the last.
    """
    if len(inputs) != len(targets):
      raise errors.UserError(
        f"there are {len(inputs)} inputs and {len(targets)} targets: give one "
        "target per input."
      )
    with _files(inputs=inputs, targets=targets) as paths:
      output = f"{paths['inputs']}.scored"
      asked = [f"{name}_filename = {path!r}" for name, path in paths.items()]
      asked += [
        f"scores_filename = {output!r}",
        f"run.eval_checkpoint_step = {step}",
      ]
      self._run(["score_from_file.gin"], asked, False)
      return [float(line) for line in _read_lines(f"{output}.scores")]

  def export(self, folder: str | None = None, step: int = -1) -> str:
    """Writes t5's own SavedModel: texts in, texts out.

    Args:
      folder: where; None for `<model_dir>/export`.
      step: of a checkpoint; -1 for the last.

    Returns:
      the folder of the SavedModel
    """
    asked = [
      "run.mode = 'export_infer'",
      f"run.export_checkpoint_step = {None if step == -1 else step}",
    ]
    if folder is not None:
      asked.append(f"run.export_path = {os.path.abspath(folder)!r}")
    exported = self._run(["greedy_decode.gin"], asked).export
    assert exported
    return exported

  def gates(
    self, split: str = "validation", examples: int = 32, step: int = -1
  ) -> task_gates.Gates:
    """The mean gate of each task in each layer; `gate_figures` draws them.

    Args:
      split: the split to read; tasks without it are left out.
      examples: number of examples per task.
      step: of a checkpoint; -1 for the last.

    Returns:
      {task: {"encoder/block_000": [grid_rows, grid_cols], …}}
    """
    with self._flags([], []) as given:
      return task_gates.task_gates(
        given.model_dir,
        examples,
        split,
        given.t5_tfds_data_dir,
        given.module_import,
        None if step == -1 else step,
        given.vocabulary,
      )

  def _write_table(self, **frames: pd.DataFrame | None) -> list[str]:
    """Writes frames to the model's folder; returns bindings of their task."""
    folder = self.model_dir
    if "://" not in folder:
      folder = os.path.abspath(folder)  # the record may be read from elsewhere
    name = re.sub(r"\W", "_", os.path.basename(folder.rstrip("/")))
    bindings = [f"MIXTURE_NAME = {name!r}", f"{_TABLE}.name = {name!r}"]
    for split, frame in frames.items():
      if frame is None:
        continue
      missing = {"inputs", "targets"} - set(frame.columns)
      if missing:
        raise errors.UserError(
          f"the frame of {split} has no column {sorted(missing)[0]!r}: give "
          "'inputs' and 'targets'."
        )
      empty = frame[["inputs", "targets"]].isna().any(axis=1)
      if empty.any():
        raise errors.UserError(
          f"the frame of {split} has no text in row {empty.idxmax()}: fill the "
          "missing values, or drop their rows."
        )
      path = os.path.join(folder, f"{split}.jsonl")
      rows = frame[["inputs", "targets"]].astype(str)
      files.write(path, rows.to_json(orient="records", lines=True))
      bindings.append(f"{_TABLE}.{split} = {path!r}")
    return bindings

  def _run(
    self,
    files: Sequence[str],
    bindings: Sequence[str],
    keeps_results: bool = True,
  ) -> estimator.Progress:
    """Runs the command line with more gin files and bindings."""
    with self._flags(files, bindings):
      progress = main.execute(keeps_results=keeps_results)
    assert progress
    return progress

  @contextlib.contextmanager
  def _flags(
    self, files: Sequence[str], bindings: Sequence[str]
  ) -> Iterator[flags.FlagValues]:
    """Within this context, FLAGS are those of a command line, and gin new."""
    argv = [
      "hypergrid_mtf",
      f"--model_dir={self.model_dir}",
      *(f"--gin_file={path}" for path in [*self._files, *files]),
      *(f"--gin_param={b}" for b in [*self._bindings, *bindings]),
      *self._options,
    ]
    saved = flagsaver.save_flag_values()
    gin.clear_config()
    try:
      flags.FLAGS(argv)
      with (
        mock.patch.object(sys, "argv", argv),  # t5 records the command
        _logged(self.model_dir),
      ):
        yield flags.FLAGS
    except flags.Error as e:
      raise errors.UserError(errors.sentence(e)) from None
    finally:
      flagsaver.restore_flag_values(saved)
      gin.clear_config()


@contextlib.contextmanager
def _logged(model_dir: str) -> Iterator[None]:
  """Within this context, a local model's folder has what the libraries log.

  In a notebook TensorFlow would print it all, and t5 the loss of each step.
  """
  if "://" in model_dir:
    yield
    return
  log = logging.FileHandler(
    os.path.join(model_dir, "hypergrid_mtf.log"), delay=True
  )
  log.addFilter(lambda _: os.path.isdir(model_dir))  # a run makes it
  tensorflow, root = tf.get_logger(), logging.getLogger()
  printers, tensorflow.handlers = tensorflow.handlers, []
  root.addHandler(log)
  try:
    with mock.patch.object(tf, "Print", _without_loss(tf.Print)):
      yield
  finally:
    tensorflow.handlers = printers
    root.removeHandler(log)
    log.close()


def _without_loss(original):
  """tf.Print as it is, but for the loss of a step, which train.csv has."""

  def print_(value, data, message=None, **options):
    if message == "step, tf_loss":
      return value
    return original(value, data, message, **options)

  return print_


@contextlib.contextmanager
def _files(**texts: Sequence[str]) -> Iterator[dict[str, str]]:
  """Within this context, texts as files with one text per line."""
  with tempfile.TemporaryDirectory() as folder:
    paths = {name: os.path.join(folder, name) for name in texts}
    for name, path in paths.items():
      if isinstance(texts[name], str):
        raise errors.UserError(
          f"{name} = {texts[name]!r} is one text: give a list of texts."
        )
      for number, text in enumerate(texts[name]):
        if "\n" in text:
          raise errors.UserError(
            f"{name}[{number}] = {text!r} has a line break: a text is one line."
          )
      with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.writelines(f"{text}\n" for text in texts[name])
    yield paths


def _read_lines(path: str) -> list[str]:
  with open(path, encoding="utf-8", newline="\n") as f:
    return f.read().removesuffix("\n").split("\n")
