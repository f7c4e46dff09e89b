"""Mean gates of each task in a trained model."""

from collections.abc import Sequence

import mesh_tensorflow as mtf
import numpy as np
import seqio
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors, trained
from hypergrid_mtf.run import config
from hypergrid_mtf.run import examples as examples_lib
from hypergrid_mtf.run.checks import data as data_checks

# {task: {"encoder/block_000": [grid_rows, grid_cols], …}}
Gates = dict[str, dict[str, np.ndarray]]


def task_gates(
  model_dir: str,
  examples: int = 32,
  split: str = "validation",
  data_dir: str | None = None,
  modules: Sequence[str] = (),
  step: int | None = None,
  vocabulary: str | None = None,
) -> Gates:
  """Mean gate of each task in each gated layer.

  Args:
    model_dir: of a trained HyperGrid model.
    examples: how many examples of each task.
    split: the split to read; tasks without it are left out.
    data_dir: the TFDS data folder; None for the default of TFDS.
    modules: to import first, such as the user's tasks and gates.
    step: of the checkpoint; None for the latest.
    vocabulary: where the training's vocabulary is now.

  Returns:
    {task: {layer: gate}}; a variant that gates only one side gives one row or
    one column.

  Raises:
    UserError: for a model without HyperGrid layers or a checkpoint, or if the
      data or the split does not exist.
  """
  if examples < 1:
    raise errors.UserError(f"examples = {examples}: give at least 1.")
  tf.disable_v2_behavior()
  config.import_modules(modules)
  if data_dir:
    seqio.set_tfds_data_dir_override(data_dir)
  with trained.open_model(model_dir, step, vocabulary) as source:
    if not source.mixture:
      raise errors.UserError(
        f"{source.config} names no mixture (mesh_train_dataset_fn."
        "mixture_or_task_name): put back the file that the training wrote."
      )
    data_checks.check_data(source.mixture, data_dir)
    data_checks.check_split(source.mixture, split)
    named = trained.gated_layers(source.model)
    if not named:
      raise errors.UserError(
        f"--model_dir={model_dir} has no HyperGrid layers: it has no gates to "
        "draw."
      )
    length = trained.sequence_lengths()["inputs"]
    rows = {
      task.name: _examples(task, length, examples, split)
      for task in source.tasks
      if split in task.splits
    }
    found = compute_gates(source, list(rows.values()))
  return {
    task: {
      name.rpartition("/")[0]: _as_grid(value, layer, ids[:, 0] > 0)
      for (name, layer), value in zip(named, gates, strict=True)
    }
    for (task, ids), gates in zip(rows.items(), found, strict=True)
  }


def compute_gates(
  source: trained.Trained, batches: Sequence[np.ndarray]
) -> list[list[np.ndarray]]:
  """For each batch the gates of all `trained.gated_layers`, in float32.

  Gates are [examples, …], or […] if they are the same for all examples.

  Args:
    source: an open model.
    batches: int32 tokens of inputs, each [examples, length].
  """
  layers, made = trained.gated_layers(source.model), {}
  for name, layer in layers:

    def make_and_keep(context, x, name=name, make=layer.make_gate):
      made[name] = make(context, x)
      return made[name]

    layer.make_gate = make_and_keep

  with tf.Graph().as_default(), tf.Session() as session:
    fed = {
      name: tf.placeholder(tf.float32, value.shape, name)
      for name, value in source.weights.items()
    }
    ids = tf.placeholder(tf.int32, batches[0].shape)
    batch, length = map(mtf.Dimension, ("batch", "length"), ids.shape.as_list())
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "gates")
    with tf.variable_scope(
      "", custom_getter=lambda getter, name, **_: fed[name]
    ):
      source.model.call_simple(
        inputs=mtf.import_tf_tensor(mesh, ids, mtf.Shape([batch, length])),
        targets=mtf.ones(
          mesh, mtf.Shape([batch, mtf.Dimension("length", 2)]), tf.int32
        ),
        compute_loss=False,
        mode=tf.estimator.ModeKeys.EVAL,
        variable_dtype=mtf.VariableDType(tf.float32, tf.float32, tf.float32),
      )
    kept = [mtf.anonymize(made[name]) for name, _ in layers]
    one_device = mtf.placement_mesh_impl.PlacementMeshImpl(
      mtf.Shape([]), mtf.LayoutRules([]), [""]
    )
    lowering = mtf.Lowering(graph, {mesh: one_device}, autostack=False)
    gates = [lowering.export_to_tf_tensor(gate) for gate in kept]
    values = {fed[name]: value for name, value in source.weights.items()}
    return [session.run(gates, {ids: rows, **values}) for rows in batches]


def _examples(task, length: int, count: int, split: str) -> np.ndarray:
  """Token ids of the first examples of a task, [count, length], padded."""
  lengths = {"inputs": length, "targets": length}
  found = examples_lib.first_examples([task], split, count, lengths)
  out = np.zeros((count, length), np.int32)
  for row, example in zip(out, found.get(task.name, ()), strict=False):
    row[: len(example["inputs"])] = example["inputs"]
  return out


def _as_grid(value: np.ndarray, layer, present: np.ndarray) -> np.ndarray:
  """[examples, …] -> mean [grid_rows, grid_cols] over examples that exist."""
  value = value.astype(np.float32)
  if layer.variant != "GG":  # global gates are the same for every example
    value = value[present].mean(axis=0)
  return value.reshape(layer.grid_rows.size, layer.grid_cols.size)
