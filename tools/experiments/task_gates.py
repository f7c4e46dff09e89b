"""Mean gates of each task in a trained model."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

import mesh_tensorflow as mtf
import numpy as np
import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds
from mesh_tensorflow.transformer import utils

import t5_tasks
from hypergrid_mtf import checkpoint_files, checkpoints, errors, layers
from hypergrid_mtf.run import (
  checkpoint_checks,
  data_checks,
  gin_files,
  gin_model,
  trained_model,
)
from t5_tasks import vocabulary_record

_DEFAULT_LENGTH = 512


def load_config(model_dir: str, bindings: Sequence[str] = ()):
  """Binds the configuration that a run saved, and finds its mixture.

  Args:
    model_dir: of a run that was trained.
    bindings: over what was saved.

  Returns:
    a seqio Mixture or Task
  """
  path = os.path.join(model_dir, trained_model.CONFIG)
  if trained_model.trained_facts(model_dir) is None:
    raise errors.UserError(
      f"--model_dir={model_dir} holds no {trained_model.CONFIG}: give the "
      "folder of a run that was trained with hypergrid_mtf.main."
    )
  gin_model.parse([path], bindings, skip_unknown=True)
  t5_tasks.define_from_gin()
  t5_tasks.vocabularies.use_vocabulary()
  name = gin_files.value("mesh_train_dataset_fn.mixture_or_task_name")
  if not name:
    raise errors.UserError(
      f"{path} names no mixture (mesh_train_dataset_fn.mixture_or_task_name): "
      "put back the file that the training wrote."
    )
  return t5_tasks.mixtures.get_mixture_or_task(name)


def _examples(task, length: int, count: int, split: str) -> np.ndarray:
  """Token ids of the first examples of a task, [count, length], padded."""
  with tf.Graph().as_default():
    ds = task.get_dataset(
      {"inputs": length, "targets": length}, split=split, shuffle=False
    )
    rows = [ex["inputs"] for ex in tfds.as_numpy(ds.take(count))]
  out = np.zeros((count, length), np.int32)
  for row, ids in zip(out, rows, strict=False):
    row[: len(ids)] = ids
  return out


def task_gates(
  model_dir: str,
  examples: int = 32,
  split: str = "validation",
  data_dir: str | None = None,
) -> dict[str, dict[str, np.ndarray]]:
  """Mean gate of each task in each gated layer.

  Args:
    model_dir: of a trained HyperGrid model.
    examples: how many examples of each task.
    split: the split to read; tasks without it are left out.
    data_dir: the TFDS data folder; None for the default of TFDS.

  Returns:
    {task: {"encoder/block_000": [grid_rows, grid_cols], …}}; a variant that
    gates one side alone gives one row or one column.

  Raises:
    UserError: for a model without HyperGrid layers or without a checkpoint, or
      where the data or the split is not there.
  """
  checkpoint_checks.check_model_dir(model_dir)
  mixture = load_config(model_dir)
  checkpoint = checkpoints.latest_checkpoint(model_dir)
  if checkpoint is None:
    raise errors.UserError(
      f"--model_dir={model_dir} holds no checkpoint: give the folder of a run "
      "that was trained."
    )
  data_checks.check_data(mixture, data_dir)
  data_checks.check_split(mixture, split)
  model = gin_model.of_mixture(mixture)
  named = gated_layers(model)
  if not named:
    raise errors.UserError(
      f"--model_dir={model_dir} is a vanilla model: it has no gates to draw."
    )
  t5_tasks.vocabularies.check_vocabulary(mixture)
  checkpoint_checks.check_same_vocabulary(
    model_dir, vocabulary_record.record(mixture)
  )
  origin = f"in --model_dir={model_dir}"
  checkpoint_files.check_whole(checkpoint, origin, latest=True)
  checkpoints.check_same_model(
    checkpoint, checkpoints.variable_shapes(model), origin
  )
  length = _input_length()
  tasks = [t for t in seqio.get_subtasks(mixture) if split in t.splits]
  result = {}
  with session(model, checkpoint, origin, examples, length) as gates_of:
    for task in tasks:
      rows = _examples(task, length, examples, split)
      present = rows[:, 0] > 0
      result[task.name] = {
        name.rpartition("/")[0]: _as_grid(value, layer, present)
        for (name, layer), value in zip(named, gates_of(rows), strict=True)
      }
  return result


def gated_layers(model) -> list[tuple[str, layers.HyperGrid]]:
  """The HyperGrid layers of an encoder-decoder and their names.

  Args:
    model: a transformer.Bitransformer.

  Returns:
    ("encoder/block_000/layer_001", layer) of each, in order
  """
  return [
    (f"{stack}/{layer.name}", layer)
    for stack in ("encoder", "decoder")
    if hasattr(model, stack)
    for layer, _ in layers.hypergrid_layers(getattr(model, stack))
  ]


@contextlib.contextmanager
def session(
  model,
  checkpoint: str,
  origin: str,
  examples: int,
  length: int,
  variable_dtype: mtf.VariableDType | None = None,
) -> Iterator[Callable[[np.ndarray], list[np.ndarray]]]:
  """A model with its weights, which gives the gates of its layers.

  Args:
    model: a transformer.Bitransformer.
    checkpoint: the prefix of a checkpoint of it.
    origin: where it came from, for the message.
    examples: rows of inputs at once.
    length: of a row.
    variable_dtype: as bound, if None.

  Yields:
    a function of tokens [examples, length]: for each of `gated_layers` its
    gates, [examples, …], or [...] where they are the same for all

  Raises:
    UserError: if the checkpoint's values cannot be read.
  """
  with tf.Graph().as_default(), tf.Session() as sess:
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "gates")
    ids = tf.placeholder(tf.int32, [examples, length])
    dims = [mtf.Dimension("batch", examples), mtf.Dimension("length", length)]
    tokens = mtf.import_fully_replicated(mesh, ids, mtf.Shape(dims))
    model.call_simple(
      inputs=tokens,
      targets=mtf.ones(
        mesh, mtf.Shape([dims[0], mtf.Dimension("length", 2)]), dtype=tf.int32
      ),
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=variable_dtype or utils.get_variable_dtype(),
    )
    gates = [mtf.anonymize(layer.last_gate) for _, layer in gated_layers(model)]
    impl = mtf.placement_mesh_impl.PlacementMeshImpl(
      mtf.Shape([]), mtf.LayoutRules([]), [""]
    )
    lowering = mtf.Lowering(graph, {mesh: impl})
    fetches = [lowering.export_to_tf_tensor(g) for g in gates]
    saver = tf.train.Saver(
      [v for v in tf.global_variables() if not v.op.name.startswith("stacked")]
    )
    try:
      saver.restore(sess, checkpoint)
    except tf.errors.OpError:
      checkpoint_files.check_whole(
        checkpoint, origin, latest=True, read_values=True
      )
      raise
    sess.run(lowering.copy_masters_to_slices())
    yield lambda rows: sess.run(fetches, {ids: rows})


def _input_length() -> int:
  """Of the training; t5's own where the model API was told it by a flag."""
  lengths = gin_files.value("run.sequence_length")
  if isinstance(lengths, dict):
    lengths = lengths.get("inputs")
  return lengths or _DEFAULT_LENGTH


def _as_grid(value: np.ndarray, layer, present: np.ndarray) -> np.ndarray:
  """[examples, …] -> mean [grid_rows, grid_cols] over examples that exist."""
  value = value.astype(np.float32)
  if layer.variant != "GG":  # global gates are the same for every example
    value = value[present].mean(axis=0)
  return value.reshape(layer.grid_rows.size, layer.grid_cols.size)
