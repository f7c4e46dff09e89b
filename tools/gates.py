r"""Draws which regions of the feed-forward weights each task opens and closes.

  python -m tools.gates --model_dir=DIR --output=gates.png

The model is rebuilt from `<model_dir>/operative_config.gin` and its last
checkpoint, run on validation examples of each task, and the gates of each layer
are averaged over the examples. The numbers are written beside the picture as
`.npz`, one array `<task>/<stack>/block_<n> [grid_rows, grid_cols]` a layer;
TensorBoard shows the pictures too.
"""

import io
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
from hypergrid_mtf import (  # noqa: E402
  checkpoint_files,
  checkpoints,
  errors,
  layers,
)
from hypergrid_mtf.launch import (  # noqa: E402
  checkpoint_checks,
  console,
  data_checks,
  files,
  gin_files,
  preflight,
  trained_model,
)
from t5_tasks import vocabulary_record  # noqa: E402

_DEFAULT_LENGTH = 512
_PICTURES = ("png", "pdf", "svg", "jpg", "jpeg", "eps", "tif", "tiff", "webp")

FLAGS = flags.FLAGS  # --model_dir and --t5_tfds_data_dir are t5's own


def load_config(model_dir: str):
  """Binds the configuration that a run saved, and finds its mixture.

  Args:
    model_dir: of a run that was trained.

  Returns:
    a seqio Mixture or Task
  """
  path = os.path.join(model_dir, trained_model.CONFIG)
  if trained_model.trained_facts(model_dir) is None:
    raise errors.UserError(
      f"--model_dir={model_dir} holds no {trained_model.CONFIG}: give the "
      "folder of a run that was trained with hypergrid_mtf.main."
    )
  with gin.unlock_config():
    gin.clear_config()
    gin.parse_config_file(path, skip_unknown=True)
  t5_tasks.vocabularies.use_vocabulary()
  t5_tasks.mixtures.define_mixture()
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
  model = preflight.build_model(mixture)
  named = [
    (f"{stack}/{layer.name.split('/')[0]}", layer)
    for stack in ("encoder", "decoder")
    if hasattr(model, stack)
    for layer, _ in layers.hypergrid_layers(getattr(model, stack))
  ]
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


def figure(gates: dict[str, dict[str, np.ndarray]]):
  """Draws one small map a task and layer.

  Args:
    gates: from `task_gates`.

  Returns:
    a matplotlib Figure
  """
  tasks = list(gates)
  names = list(next(iter(gates.values())))
  drawn, axes = plt.subplots(
    len(tasks),
    len(names),
    figsize=(1.5 * len(names) + 2.4, 1.25 * len(tasks) + 1.2),
    squeeze=False,
    layout="constrained",
  )
  grids = [g for by in gates.values() for g in by.values()]
  low = min(0.0, *(g.min() for g in grids))  # of a gate of the user's own
  top = max(1.0, *(g.max() for g in grids))
  image = None
  for row, task in zip(axes, tasks, strict=True):
    for axis, name in zip(row, names, strict=True):
      image = axis.imshow(
        gates[task][name], vmin=low, vmax=top, cmap="RdBu_r", aspect="auto"
      )
      axis.set_xticks([])
      axis.set_yticks([])
      if task == tasks[0]:
        axis.set_title(name.replace("/block_", "\nblock "), fontsize=8)
      if name == names[0]:
        axis.set_ylabel(
          task, fontsize=8, rotation=0, horizontalalignment="right"
        )
  drawn.colorbar(image, ax=axes, shrink=0.6, label="gate")
  drawn.suptitle(
    "Mean gate of each task (rows: regions of d_ff, columns: of d_model)",
    fontsize=9,
  )
  return drawn


def distances(
  gates: dict[str, dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """How far the gates of two tasks are apart.

  Args:
    gates: from `task_gates`.

  Returns:
    {layer: [tasks, tasks]}, the mean absolute difference of their gates
  """
  names = list(next(iter(gates.values())))
  found = {}
  for name in names:
    stacked = np.stack([by_layer[name] for by_layer in gates.values()])
    apart = np.abs(stacked[:, None] - stacked[None])
    found[name] = apart.mean(axis=(2, 3))
  return found


def distance_figure(apart: dict[str, np.ndarray], tasks: list[str]):
  """Draws one matrix of tasks a layer.

  Args:
    apart: from `distances`.
    tasks: their names, in the same order.

  Returns:
    a matplotlib Figure
  """
  drawn, axes = plt.subplots(
    1,
    len(apart),
    figsize=(1.7 * len(apart) + 2.6, 2.9),
    squeeze=False,
    layout="constrained",
  )
  top = max(1e-6, *(d.max() for d in apart.values()))
  image = None
  for axis, (name, matrix) in zip(axes[0], apart.items(), strict=True):
    image = axis.imshow(matrix, vmin=0.0, vmax=top, cmap="viridis")
    axis.set_title(name.replace("/block_", "\nblock "), fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
  axes[0][0].set_yticks(range(len(tasks)), tasks, fontsize=7)
  drawn.colorbar(image, ax=axes, shrink=0.6, label="mean |difference|")
  return drawn


def _picture(drawn, kind: str = "png", dpi: int = 130) -> bytes:
  buffer = io.BytesIO()
  drawn.savefig(buffer, format=kind, dpi=dpi)
  return buffer.getvalue()


def paths_of(output: str) -> tuple[str, str, str]:
  """What is written for one --output.

  Args:
    output: the path of the picture; without a suffix it is a PNG.

  Returns:
    (path of the picture, its kind, path of the numbers beside it)

  Raises:
    UserError: for a suffix that is not a picture's.
  """
  base, suffix = os.path.splitext(output)
  kind = suffix[1:].lower() or "png"
  drawn = plt.figure()
  writable = drawn.canvas.get_supported_filetypes()
  plt.close(drawn)
  kinds = [k for k in _PICTURES if k in writable]
  if kind not in kinds:
    raise errors.UserError(
      f"--output={output} is the picture, which cannot be a {suffix} file: "
      f"give {base}.png, or one of {', '.join(kinds)} (the numbers go to "
      f"{base}.npz)."
    )
  return output, kind, f"{base}.npz"


def to_tensorboard(pictures: dict[str, bytes], model_dir: str) -> None:
  """Adds pictures to what TensorBoard shows of a run, at its last step.

  Args:
    pictures: {tag: PNG}.
    model_dir: of the run; they go to `<model_dir>/gates`.
  """
  step = utils.get_step_from_checkpoint_path(
    checkpoints.latest_checkpoint(model_dir)
  )
  with tf.Graph().as_default():
    writer = tf.summary.FileWriter(os.path.join(model_dir, "gates"))
    for tag, png in pictures.items():
      image = tf.Summary.Image(encoded_image_string=png)
      value = tf.Summary.Value(tag=tag, image=image)
      writer.add_summary(tf.Summary(value=[value]), step)
    writer.close()


def write(
  gates: dict[str, dict[str, np.ndarray]], model_dir: str, output: str
) -> str:
  """Writes picture and numbers, and shows both pictures in TensorBoard.

  Args:
    gates: from `task_gates`.
    model_dir: of the model.
    output: the path of the picture.

  Returns:
    the path of the numbers, one array `<task>/<layer>` each
  """
  output, kind, numbers = paths_of(output)
  arrays = {f"{t}/{n}": g for t, by in gates.items() for n, g in by.items()}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  files.write(numbers, buffer.getvalue())
  drawn = {
    "gates": figure(gates),
    "distances between tasks": distance_figure(distances(gates), list(gates)),
  }
  files.write(output, _picture(drawn["gates"], kind))
  pictures = {tag: _picture(f) for tag, f in drawn.items()}
  for each in drawn.values():
    plt.close(each)
  try:
    to_tensorboard(pictures, model_dir)
  except tf.errors.OpError as e:  # a folder of someone else's
    console.say(f"not shown in TensorBoard: {errors.sentence(e)}")
  return numbers


def main(argv) -> None:
  """Draws the gates of one model.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  paths_of(FLAGS.output)
  files.check_output(FLAGS.output)
  gin_files.import_modules(FLAGS.module_import)
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  gates = task_gates(
    FLAGS.model_dir, FLAGS.examples, FLAGS.split, FLAGS.t5_tfds_data_dir
  )
  numbers = write(gates, FLAGS.model_dir, FLAGS.output)
  console.say(
    f"wrote {FLAGS.output} and {numbers}, and to TensorBoard "
    f"({os.path.join(FLAGS.model_dir, 'gates')})"
  )


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("output", "gates.png", "The picture to write.")
  flags.DEFINE_integer("examples", 32, "Examples a task.", lower_bound=1)
  flags.DEFINE_string("split", "validation", "The split to read.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
