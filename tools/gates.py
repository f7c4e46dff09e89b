r"""Draws which regions of the feed-forward weights each task opens and closes.

  python -m tools.gates --model_dir=DIR --output=gates.png

The model is rebuilt from `<model_dir>/operative_config.gin` and its last
checkpoint, run on validation examples of each task, and the gates of each layer
are averaged over the examples. The numbers are written beside the picture as
`.npz`, one array `<task>/<stack>/block_<n> [grid_rows, grid_cols]` a layer.
"""

import os

import gin
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import mesh_tensorflow as mtf  # noqa: E402
import numpy as np  # noqa: E402
import seqio  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402
from absl import flags  # noqa: E402
from mesh_tensorflow.transformer import utils  # noqa: E402
from t5.models import mesh_transformer_main  # noqa: E402, F401  (its flags)

import t5_tasks  # noqa: E402
from hypergrid_mtf import console, errors, preflight, request  # noqa: E402

FLAGS = flags.FLAGS  # --model_dir and --t5_tfds_data_dir are t5's own


def load_config(model_dir: str):
  """Binds the configuration that a run saved, and finds its mixture.

  Args:
    model_dir: of a run that was trained.

  Returns:
    a seqio Mixture or Task
  """
  path = os.path.join(model_dir, "operative_config.gin")
  if not tf.io.gfile.exists(path):
    raise errors.UserError(
      f"--model_dir={model_dir} holds no operative_config.gin: give the folder "
      "of a run that was trained with hypergrid_mtf.main."
    )
  with gin.unlock_config():
    gin.clear_config()
    gin.parse_config_file(path, skip_unknown=True)
  t5_tasks.vocabularies.use_vocabulary()
  t5_tasks.mixtures.define_mixture()
  name = request.gin_value("mesh_train_dataset_fn.mixture_or_task_name")
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
  model_dir: str, examples: int = 32, split: str = "validation"
) -> dict[str, dict[str, np.ndarray]]:
  """Mean gate of each task in each gated layer.

  Args:
    model_dir: of a trained HyperGrid model.
    examples: how many examples of each task.
    split: the split to read; tasks without it are left out.

  Returns:
    {task: {"encoder/block_000": [grid_rows, grid_cols], …}}; a variant that
    gates one side alone gives one row or one column.

  Raises:
    UserError: for a model without HyperGrid layers or without a checkpoint.
  """
  mixture = load_config(model_dir)
  checkpoint = preflight.latest_checkpoint(model_dir)
  if checkpoint is None:
    raise errors.UserError(f"--model_dir={model_dir} holds no checkpoint.")
  length = request.gin_value("run.sequence_length")["inputs"]
  model = preflight.build_model(mixture)
  named = [
    (f"{stack}/{layer.name.split('/')[0]}", layer)
    for stack in ("encoder", "decoder")
    for layer, _ in preflight.hypergrid_layers(getattr(model, stack))
  ]
  if not named:
    raise errors.UserError(
      f"--model_dir={model_dir} is a vanilla model: it has no gates to draw."
    )
  tasks = [t for t in seqio.get_subtasks(mixture) if split in t.splits]
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
      variable_dtype=utils.get_variable_dtype(),
    )
    gates = [mtf.anonymize(layer.last_gate) for _, layer in named]
    impl = mtf.placement_mesh_impl.PlacementMeshImpl(
      mtf.Shape([]), mtf.LayoutRules([]), [""]
    )
    lowering = mtf.Lowering(graph, {mesh: impl})
    fetches = [lowering.export_to_tf_tensor(g) for g in gates]
    tf.train.Saver(
      [v for v in tf.global_variables() if not v.op.name.startswith("stacked")]
    ).restore(sess, checkpoint)
    sess.run(lowering.copy_masters_to_slices())
    result = {}
    for task in tasks:
      rows = _examples(task, length, examples, split)
      values = sess.run(fetches, {ids: rows})
      present = rows[:, 0] > 0
      result[task.name] = {
        name: _as_grid(value, layer, present)
        for (name, layer), value in zip(named, values, strict=True)
      }
    return result


def _as_grid(value: np.ndarray, layer, present: np.ndarray) -> np.ndarray:
  """[examples, …] -> mean [grid_rows, grid_cols] over examples that exist."""
  value = value.astype(np.float32)
  if layer.variant != "GG":  # global gates are the same for every example
    value = value[present].mean(axis=0)
  return value.reshape(layer.grid_rows.size, layer.grid_cols.size)


def draw(gates: dict[str, dict[str, np.ndarray]], path: str) -> None:
  """Draws one small map a task and layer.

  Args:
    gates: from `task_gates`.
    path: of the PNG to write.
  """
  tasks = list(gates)
  names = list(next(iter(gates.values())))
  figure, axes = plt.subplots(
    len(tasks),
    len(names),
    figsize=(1.5 * len(names) + 2.4, 1.25 * len(tasks) + 1.2),
    squeeze=False,
    layout="constrained",
  )
  top = max(1.0, *(g.max() for by in gates.values() for g in by.values()))
  image = None
  for row, task in zip(axes, tasks, strict=True):
    for axis, name in zip(row, names, strict=True):
      image = axis.imshow(
        gates[task][name], vmin=0.0, vmax=top, cmap="RdBu_r", aspect="auto"
      )
      axis.set_xticks([])
      axis.set_yticks([])
      if task == tasks[0]:
        axis.set_title(name.replace("/block_", "\nblock "), fontsize=8)
      if name == names[0]:
        axis.set_ylabel(
          task, fontsize=8, rotation=0, horizontalalignment="right"
        )
  figure.colorbar(image, ax=axes, shrink=0.6, label="gate")
  figure.suptitle(
    "Mean gate of each task (rows: regions of d_ff, columns: of d_model)",
    fontsize=9,
  )
  part = f"{path}.part"
  figure.savefig(part, dpi=130, format="png")
  plt.close(figure)
  os.replace(part, path)


def main(argv) -> None:
  """Draws the gates of one model.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  preflight.check_output(FLAGS.output)
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  gates = task_gates(FLAGS.model_dir, FLAGS.examples, FLAGS.split)
  draw(gates, FLAGS.output)
  numbers = os.path.splitext(FLAGS.output)[0] + ".npz"
  with open(numbers + ".part", "wb") as f:
    np.savez_compressed(
      f, **{f"{t}/{n}": g for t, by in gates.items() for n, g in by.items()}
    )
  os.replace(numbers + ".part", numbers)
  console.say(f"wrote {FLAGS.output} and {numbers}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("output", "gates.png", "The picture to write.")
  flags.DEFINE_integer("examples", 32, "Examples a task.", lower_bound=1)
  flags.DEFINE_string("split", "validation", "The split to read.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
