"""Folders of models of random weights, and what models of folders compute."""

import dataclasses
import os

import gin
import mesh_tensorflow as mtf
import numpy as np
import seqio
import tensorflow.compat.v1 as tf

import t5_tasks
from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import gin_model, trained_model, vocabulary_file
from t5_tasks import vocabulary_record
from tests.hypergrid_mtf import mtf_testing
from tools.serving import weights

TASK_TOKEN = "HyperGrid.condition_on = 'task_token'"
T5_1_1 = (
  "DenseReluDense.activation = ['gelu', 'linear']",
  "Unitransformer.shared_embedding_and_softmax_weights = False",
)
STEP = 7


def random_weights(shapes, seed=0) -> weights.Weights:
  """Values of a scale as after a training, so that gates differ."""
  rng = np.random.default_rng(seed)

  def value(name, shape):
    noise = rng.normal(size=shape).astype(np.float32)
    if name.endswith("scale"):
      return 1 + 0.1 * noise
    if len(shape) == 2 and not name.endswith(("embedding", "bias")):
      return noise * np.float32(shape[0] ** -0.5)
    return noise

  return {name: value(name, shape) for name, shape in shapes.items()}


def make(
  folder,
  variant="L2",
  bindings=(TASK_TOKEN,),
  size="nano",
  mixture="embedded_v1_task_token",
) -> str:
  """A model_dir as a training leaves it, with random weights.

  Args:
    folder: that is made.
    variant: a file of operative_configs/hypergrid, or several joined by "+".
    bindings: as given to --gin_param.
    size: a file of operative_configs/models.
    mixture: the name of it, or of a task.

  Returns:
    the folder
  """
  os.makedirs(folder, exist_ok=True)
  paths = [f"models/{size}.gin"]
  paths += [f"hypergrid/{name}.gin" for name in variant.split("+")]
  try:
    gin_model.bind(
      [*paths, "experiments/embedded.gin"],
      [*bindings, f"MIXTURE_NAME = '{mixture}'"],
    )
    config = gin.config_str()
    found = t5_tasks.mixtures.get_mixture_or_task(mixture)
    shapes = checkpoints.variable_shapes(gin_model.of_mixture(found))
  finally:
    gin.clear_config()
  weights.write(str(folder), STEP, random_weights(shapes))
  with open(os.path.join(folder, trained_model.CONFIG), "w") as f:
    f.write(config)
  vocabulary_file.write(str(folder), vocabulary_record.record(found))
  return str(folder)


@dataclasses.dataclass(frozen=True)
class Computed:
  """What a model computes: logits, and tokens chosen one by one."""

  logits: np.ndarray
  greedy: np.ndarray | None


def compute(
  folder: str, inputs: np.ndarray, targets: np.ndarray, most: int = 0
) -> Computed:
  """What the model of a folder computes, as its own configuration has it.

  Args:
    folder: a model_dir.
    inputs: int32 [batch, length]
    targets: int32 [batch, targets length]
    most: how many tokens are decoded; 0 for none.

  Returns:
    logits [batch, targets length, vocabulary], greedy [batch, most]
  """
  checkpoint = checkpoints.latest_checkpoint(folder)
  try:
    gin_model.parse(
      [os.path.join(folder, trained_model.CONFIG)], skip_unknown=True
    )
    rows = checkpoints.reader_shapes(checkpoint, folder)[weights.EMBEDDING][0]
    model = gin_model.build(rows)
    return _run(model, checkpoint, inputs, targets, most)
  finally:
    gin.clear_config()


def _run(model, checkpoint, inputs, targets, most) -> Computed:
  with tf.Graph().as_default():
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    names = ["batch", "length"]
    tokens = mtf_testing.import_array(mesh, inputs, names)
    logits, _ = model.call_simple(
      inputs=tokens,
      targets=mtf_testing.import_array(mesh, targets, names),
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=mtf_testing.FLOAT32,
    )
    fetches = [mtf.anonymize(logits)]
    if most:
      decoded = model.decode(
        tokens, variable_dtype=mtf_testing.FLOAT32, max_decode_length=most
      )
      fetches.append(mtf.anonymize(decoded))
    lowering = mtf_testing.lower(graph, mesh)
    fetches = [lowering.export_to_tf_tensor(f) for f in fetches]
    with tf.Session(config=mtf_testing.quick_options()) as sess:
      tf.train.Saver(tf.global_variables()).restore(sess, checkpoint)
      sess.run(lowering.copy_masters_to_slices())
      found = sess.run(fetches)
  return Computed(found[0], _until_the_end(found[1]) if most else None)


def _until_the_end(tokens: np.ndarray) -> np.ndarray:
  """Zeros after </s>: a row that has ended goes on beside the others."""
  ended = np.cumsum(tokens == 1, axis=1) - (tokens == 1)
  return np.where(ended, 0, tokens)


def logits(folder: str, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """Only the logits of `compute`."""
  return compute(folder, inputs, targets).logits


def examples(
  task: str, count: int, lengths=(24, 16), split="validation"
) -> tuple[np.ndarray, np.ndarray]:
  """Tokens of a task's first examples, padded.

  Args:
    task: its name.
    count: how many; fewer if it has no more.
    lengths: of inputs and targets.
    split: that is read.

  Returns:
    int32 [count, length] of each
  """
  import tensorflow_datasets as tfds

  keys = ("inputs", "targets")
  with tf.Graph().as_default():
    ds = seqio.get_mixture_or_task(task).get_dataset(
      dict(zip(keys, lengths, strict=True)), split=split, shuffle=False
    )
    rows = list(tfds.as_numpy(ds.take(count)))
  padded = []
  for key, length in zip(keys, lengths, strict=True):
    out = np.zeros((len(rows), length), np.int32)
    for row, example in zip(out, rows, strict=True):
      row[: len(example[key])] = example[key]
    padded.append(out)
  return padded[0], padded[1]
