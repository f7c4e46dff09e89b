"""Folders of models of random weights, and what models of folders compute."""

import contextlib
import os
from collections.abc import Callable, Iterator
from unittest import mock

import gin
import mesh_tensorflow as mtf
import numpy as np
import seqio
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds

import t5_tasks
from hypergrid_mtf import checkpoints, trained, weights
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import vocabulary_file
from hypergrid_mtf.run.checks import training_record
from t5_tasks import vocabulary_record
from tests import beam_search, testing
from tests.hypergrid_mtf import mtf_testing

TASK_TOKEN = "HyperGrid.condition_on = 'task_token'"
T5_1_1 = (
  "DenseReluDense.activation = ['gelu', 'linear']",
  "Unitransformer.shared_embedding_and_softmax_weights = False",
)
STEP = 7


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
    variant: a file of operative_configs/hypergrid, or peers/ and its name, or
      several joined by "+".
    bindings: as given to --gin_param.
    size: a file of operative_configs/models.
    mixture: the name of it, or of a task.
    experiment: a file of operative_configs/experiments.

  Returns:
    the folder
  """
  os.makedirs(folder, exist_ok=True)
  paths = [f"models/{size}.gin"]
  paths += [
    f"{name if '/' in name else f'hypergrid/{name}'}.gin"
    for name in variant.split("+")
  ]
  try:
    model_lib.bind(
      [*paths, f"experiments/{experiment}.gin"],
      [*bindings, f"MIXTURE_NAME = '{mixture}'"],
    )
    config = gin.config_str()
    t5_tasks.vocabularies.use_vocabulary()
    found = t5_tasks.mixtures.get_mixture_or_task(mixture)
    shapes = checkpoints.variable_shapes(model_lib.of_mixture(found))
    values = testing.random_weights(shapes, gin.query_parameter("%d_kv"))
  finally:
    gin.clear_config()
  weights.write(str(folder), STEP, values)
  with open(os.path.join(folder, training_record.CONFIG), "w") as f:
    f.write(config)
  vocabulary_file.write(str(folder), vocabulary_record.record(found))
  return str(folder)


@contextlib.contextmanager
def started(source: trained.Trained, function, **shapes) -> Iterator[Callable]:
  """A function of mtf tensors with a model's weights, in a fixed-size graph.

  Args:
    source: an open model.
    function: of mtf tensors by name, which gives a nest of them.
    **shapes: [batch, length] of each.

  Yields:
    a function of int32 arrays by name
  """
  with tf.Graph().as_default():
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    given = {k: tf.placeholder(tf.int32, shape) for k, shape in shapes.items()}
    features = {
      name: mtf.import_fully_replicated(
        mesh,
        tensor,
        mtf.Shape(list(map(mtf.Dimension, ("batch", "length"), shapes[name]))),
      )
      for name, tensor in given.items()
    }
    outputs = tf.nest.map_structure(mtf.anonymize, function(**features))
    lowering = mtf_testing.lower(graph, mesh)
    fetched = tf.nest.map_structure(lowering.export_to_tf_tensor, outputs)
    with tf.Session(config=mtf_testing.quick_options()) as session:
      mtf_testing.set_masters(session, lowering, source.weights)
      yield lambda **rows: session.run(
        fetched, {given[name]: value for name, value in rows.items()}
      )


def run(source: trained.Trained, function, **features) -> np.ndarray:
  """`started`, called once with int32 [batch, length] of each feature."""
  shapes = {name: np.shape(rows) for name, rows in features.items()}
  with started(source, function, **shapes) as call:
    return call(**features)


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
  # As t5 makes a model for one device: its beam search asks.
  one = {"layout": mtf.LayoutRules([]), "mesh_shape": mtf.Shape([])}
  with mock.patch.multiple(source.model.decoder, **one):
    tokens = run(
      source,
      lambda inputs: source.model.decode(
        inputs,
        variable_dtype=mtf_testing.FLOAT32,
        max_decode_length=most,
        **how,
      ),
      inputs=inputs,
    )
  # A row that has ended continues next to the others.
  ended = np.cumsum(tokens == 1, axis=1) - (tokens == 1)
  return np.where(ended, 0, tokens)


def search(
  source, inputs: np.ndarray, most: int, width: int, *how
) -> list[tuple[float, tuple[int, ...]]]:
  """(score, tokens) of each input by `beam_search.search`."""
  count = len(inputs)

  def log_probs(inputs, targets):
    # An untrained model also says 0, which must not be taken for padding.
    no_padding = mtf.ones(targets.mesh, targets.shape, tf.int32)
    logits, _ = source.model.call_simple(
      inputs,
      targets,
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=mtf_testing.FLOAT32,
      decoder_sequence_id=no_padding,
    )
    return mtf.log_softmax(logits, logits.shape.dims[-1])

  rows = count * width
  shapes = {"inputs": (rows, inputs.shape[1]), "targets": (rows, most)}
  with started(source, log_probs, **shapes) as forced:

    def of_prefixes(prefixes):
      given = np.zeros((rows, inputs.shape[1]), np.int32)
      given[: len(prefixes)] = inputs[[n for n, _ in prefixes]]
      targets = mtf_testing.pad([p for _, p in prefixes], most)
      targets = np.pad(targets, [(0, rows - len(prefixes)), (0, 0)])
      found = forced(inputs=given, targets=targets)
      return [row[len(p)] for row, (_, p) in zip(found, prefixes, strict=False)]

    found = beam_search.search(of_prefixes, count, most, width, *how)
  return [hypotheses[0] for hypotheses in found]


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
