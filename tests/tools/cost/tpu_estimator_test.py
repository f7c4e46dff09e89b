"""The TPUEstimator with use_tpu, in every mode, up to its session.

The TPU is only described. All Python code runs: the command line with its
checks, our patches, TPUEstimator's infeed and outfeed, t5's model function, and
the start of the hooks. Running the graph in a session needs a TPU.
"""

import collections
from unittest import mock

import gin
import pytest
import tensorflow.compat.v1 as tf
from absl import flags
from tensorflow.python.client import session
from tensorflow_estimator.python.estimator.tpu import tpu_context

from hypergrid_mtf import main
from tests.hypergrid_mtf import command_line
from tools.cost.tpu import described

pytestmark = pytest.mark.tpu

CORES = [[x, y, 0, core] for x in (0, 1) for y in (0, 1) for core in (0, 1)]
RUN = (
  "--tpu=local",
  "--gin_file=models/nano.gin",
  "--gin_file=hypergrid/L2.gin",
  "--gin_file=experiments/embedded.gin",
  "--gin_param=HyperGrid.grid_rows = 4",
  "--gin_param=HyperGrid.grid_cols = 4",
  "--gin_param=tpu_mesh_shape.tpu_topology = 'v3-8'",
  "--gin_param=tpu_mesh_shape.model_parallelism = 2",
  "--gin_param=MIXTURE_NAME = 'embedded_reverse_v1'",
)


class _Opened(Exception):
  """A session would be opened on this graph."""


def _build(model_dir, *arguments) -> tf.Graph:
  """Calls main up to the first session that holds variables."""
  flags.FLAGS.unparse_flags()
  for name in flags.FLAGS:
    flags.FLAGS[name].unparse()
  flags.FLAGS(["main", f"--model_dir={model_dir}", *RUN, *arguments])
  gin.clear_config()
  original = session.BaseSession.__init__
  held = []

  def open_session(self, target="", graph=None, config=None):
    graph = graph or tf.get_default_graph()
    if graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
      held.append(graph)
      self._session = None  # that its end looks for
      raise _Opened
    original(self, target, graph, config)

  metadata = described.metadata(CORES)
  with (
    mock.patch.object(session.BaseSession, "__init__", open_session),
    mock.patch.object(
      tpu_context.tpu_system_metadata_lib,
      "_query_tpu_system_metadata",
      lambda *args, **kwargs: metadata,
    ),
    pytest.raises(_Opened),
  ):
    main.main(["main"])
  return held[0]


def on_tpu(operation: tf.Operation) -> bool:
  """Whether an operation is part of the TPU's program."""
  return "_tpu_replicate" in operation.node_def.attr


def _save_zeros(graph: tf.Graph, model_dir) -> None:
  """A checkpoint of the graph's variables, as if it had been trained."""
  saved = {
    v.op.name: (v.shape.as_list(), v.dtype.base_dtype)
    for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
  }
  path = str(model_dir / "model.ckpt-0")
  with tf.Graph().as_default(), tf.Session() as s:
    save = tf.raw_ops.SaveV2(
      prefix=path,
      tensor_names=list(saved),
      shape_and_slices=[""] * len(saved),
      tensors=[tf.zeros(*of_one) for of_one in saved.values()],
    )
    s.run(save)
  tf.train.update_checkpoint_state(str(model_dir), path)


def test_the_graphs_of_a_tpu_up_to_the_session(tmp_path):
  """Train, evaluate, decode, score and export; one checkpoint for all."""
  inputs = tmp_path / "inputs"
  inputs.write_text("reverse: ab\n")
  model_dir = tmp_path / "model"
  last = "--gin_param=run.eval_checkpoint_step = -1"
  split = "--gin_param=run.dataset_split = 'validation'"
  more = {
    "perplexity_eval": [last, split],
    "infer": [
      "--gin_file=infer.gin",
      last,
      f"--gin_param=input_filename = '{inputs}'",
      f"--gin_param=output_filename = '{tmp_path}/outputs'",
    ],
    "score_from_dataset": [
      "--gin_file=score_from_task.gin",
      f"--gin_param=scores_filename = '{tmp_path}/scores'",
      last,
      split,
    ],
    "export_infer": [],
  }
  try:
    graphs = {"train": _build(model_dir)}
    _save_zeros(graphs["train"], model_dir)
    for mode, given in more.items():
      given = [*given, f"--gin_param=run.mode = '{mode}'"]
      graphs[mode] = _build(model_dir, *given)
  finally:
    command_line.reset()
  exported = graphs.pop("export_infer")  # it is for CPUs, on t5's own wish
  assert not any(on_tpu(op) for op in exported.get_operations())
  for mode, graph in graphs.items():
    by_type = collections.defaultdict(list)
    for operation in graph.get_operations():
      by_type[operation.type].append(operation)
    (replicated,) = by_type["TPUReplicateMetadata"]
    assert replicated.get_attr("num_replicas") == len(CORES), mode
    # Every core gets the whole batch.
    fed = by_type["InfeedEnqueueTuple"]
    assert len(fed) == len(CORES), mode
    for operation in fed:
      assert all(t.shape.as_list()[0] == 64 for t in operation.inputs), mode
    sums = by_type["CrossReplicaSum"]
    assert sums and all(map(on_tpu, sums)), mode
    for operation in sums:
      groups = tf.make_ndarray(operation.inputs[1].op.get_attr("value"))
      assert sorted(groups.flat) == list(range(len(CORES))), mode
    names = [v.op.name for v in graph.get_collection("variables")]
    assert any("hypergrid" in n.lower() for n in names), mode
