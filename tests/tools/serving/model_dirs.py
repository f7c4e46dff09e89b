"""Folders of models of random weights, and what models of folders compute."""

import os

import gin
import mesh_tensorflow as mtf
import numpy as np
import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds

import t5_tasks
from hypergrid_mtf import checkpoints
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import vocabulary_file
from hypergrid_mtf.run.checks import trained as trained_model
from t5_tasks import vocabulary_record
from tests.hypergrid_mtf import mtf_testing
from tools.serving import trained, weights

TASK_TOKEN = "HyperGrid.condition_on = 'task_token'"
T5_1_1 = (
  "DenseReluDense.activation = ['gelu', 'linear']",
  "Unitransformer.shared_embedding_and_softmax_weights = False",
)
STEP = 7


def _random_weights(shapes, key_size: int) -> weights.Weights:
  """Values of a scale as after a training, so that gates differ.

  Queries have the scale that T5 starts with. Without it the attention of eight
  layers is so sharp that a change of all weights by 2^-24, their rounding,
  changes logits by 6e-3, and no comparison could ask for 1e-4.
  """
  rng = np.random.default_rng(0)
  values = {}
  for name, shape in shapes.items():
    value = rng.normal(size=shape).astype(np.float32)
    if name.endswith("scale"):
      value = 1 + 0.1 * value
    elif len(shape) == 2 and not name.endswith(("embedding", "bias")):
      value *= np.float32(shape[0] ** -0.5)
    if name.endswith("/q"):
      value *= np.float32(key_size**-0.5)
    values[name] = value
  return values


def make(
  folder,
  variant="L2",
  bindings=(),
  size="nano",
  mixture="embedded_v1",
  experiment="embedded",
) -> str:
  """A model_dir as a training leaves it, with random weights.

  Args:
    folder: that is made.
    variant: a file of operative_configs/hypergrid, or several joined by "+".
    bindings: as given to --gin_param.
    size: a file of operative_configs/models.
    mixture: the name of it, or of a task.
    experiment: a file of operative_configs/experiments.

  Returns:
    the folder
  """
  os.makedirs(folder, exist_ok=True)
  paths = [f"models/{size}.gin"]
  paths += [f"hypergrid/{name}.gin" for name in variant.split("+")]
  try:
    model_lib.bind(
      [*paths, f"experiments/{experiment}.gin"],
      [*bindings, f"MIXTURE_NAME = '{mixture}'"],
    )
    config = gin.config_str()
    t5_tasks.vocabularies.use_vocabulary()
    found = t5_tasks.mixtures.get_mixture_or_task(mixture)
    shapes = checkpoints.variable_shapes(model_lib.of_mixture(found))
    values = _random_weights(shapes, gin.query_parameter("%d_kv"))
  finally:
    gin.clear_config()
  weights.write(str(folder), STEP, values)
  with open(os.path.join(folder, trained_model.CONFIG), "w") as f:
    f.write(config)
  vocabulary_file.write(str(folder), vocabulary_record.record(found))
  return str(folder)


def run(source: trained.Trained, function, **features) -> np.ndarray:
  """A function of mtf tensors with a model's weights, in a fixed-size graph.

  Args:
    source: an open model.
    function: of mtf tensors by name, which gives one.
    **features: int32 [batch, length] of each.
  """
  with tf.Graph().as_default():
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    output = function(
      **{
        name: mtf_testing.import_array(mesh, rows, ["batch", "length"])
        for name, rows in features.items()
      }
    )
    output = mtf.anonymize(output)
    lowering = mtf_testing.lower(graph, mesh)
    fetched = lowering.export_to_tf_tensor(output)
    with tf.Session(config=mtf_testing.quick_options()) as session:
      mtf_testing.set_masters(session, lowering, source.weights)
      return session.run(fetched)


def logits(source, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """[batch, targets length, vocabulary] of teacher forcing."""
  return run(
    source,
    lambda inputs, targets: source.model.call_simple(
      inputs,
      targets,
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=mtf_testing.FLOAT32,
    )[0],
    inputs=inputs,
    targets=targets,
  )


def decode(source, inputs: np.ndarray, most: int, **how) -> np.ndarray:
  """Tokens of `Bitransformer.decode`, [batch, most], zeros after </s>."""
  tokens = run(
    source,
    lambda inputs: source.model.decode(
      inputs, variable_dtype=mtf_testing.FLOAT32, max_decode_length=most, **how
    ),
    inputs=inputs,
  )
  # A row that has ended continues next to the others.
  ended = np.cumsum(tokens == 1, axis=1) - (tokens == 1)
  return np.where(ended, 0, tokens)


def logits_of(folder, inputs, targets) -> np.ndarray:
  """`logits` of the model in a folder."""
  with trained.open_model(str(folder)) as source:
    return logits(source, inputs, targets)


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
  keys = ("inputs", "targets")
  with tf.Graph().as_default():
    ds = seqio.get_mixture_or_task(task).get_dataset(
      dict(zip(keys, lengths, strict=True)), split=split, shuffle=False
    )
    rows = list(tfds.as_numpy(ds.take(count)))
  inputs, targets = (
    mtf_testing.pad([row[key] for row in rows], length)
    for key, length in zip(keys, lengths, strict=True)
  )
  return inputs, targets
