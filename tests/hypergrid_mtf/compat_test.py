"""Each patch, and what happens without it; the list of patches is complete."""

import ast
import os
import re
import sys
from unittest import mock

import gin.tf
import mesh_tensorflow as mtf
import numpy as np
import pytest
import seqio
import t5.models
import tensorflow as tf2
import tensorflow.compat.v1 as tf
import tensorflow_datasets as tfds
from mesh_tensorflow.transformer import utils
from t5.models import utils as t5_utils
from tensorflow_datasets.core.utils import gcs_utils
from tensorflow_estimator.python.estimator import util

from hypergrid_mtf import compat
from hypergrid_mtf.compat import random_numbers
from tests import command
from tests.hypergrid_mtf import mtf_testing


def _python(code, **variables):
  return command.python("-c", code, **variables)


def test_importing_it_after_tensorflow_still_patches():
  done = _python(
    "import tensorflow, hypergrid_mtf, mesh_tensorflow, t5.models"
    "\nfrom mesh_tensorflow.transformer import transformer_layers"
    "\nprint(t5.models.MtfModel.__name__, 'torch' in __import__('sys').modules)"
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ["MtfModel", "False"]


def test_an_import_that_failed_before_is_refused():
  done = _python(
    "try:\n  import mesh_tensorflow\nexcept AttributeError:\n"
    "  import hypergrid_mtf"  # it fails without the patch: so this is reached
  )
  assert done.stderr.splitlines()[-1] == (
    "ImportError: mesh_tensorflow or t5 was imported before hypergrid_mtf, and "
    "that import failed: import hypergrid_mtf first."
  )


def test_the_list_of_patches_is_whole():
  """docs/dev/patches.md, against what the code replaces."""
  text = (command.ROOT / "docs" / "dev" / "patches.md").read_text()
  rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.M)
  listed = [name for name, _ in rows]
  assert len(listed) == len(set(listed))
  found = set()
  for folder in ("hypergrid_mtf", "t5_tasks", "tools"):
    for path in (command.ROOT / folder).rglob("*.py"):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("patch_"):
          found.add(node.name)
        elif isinstance(node, ast.Call) and (
          ast.unparse(node.func) in ("mock.patch", "mock.patch.object")
        ):
          owner, name = node.args[:2]
          found.add(f"{ast.unparse(owner)}.{name.value}")
  assert set(listed) == found
  for name, row in rows:
    tests = re.findall(r"`(\w+_test)::(\w+)`", row)
    assert tests, name
    for file, test in tests:
      paths = command.ROOT.glob(f"tests/**/{file}.py")
      text = "".join(path.read_text(encoding="utf-8") for path in paths)
      assert f"def {test}(" in text, (name, test)


def _without(owner, name, monkeypatch):
  """Takes the patch of a function away."""
  monkeypatch.setattr(owner, name, getattr(owner, name).__wrapped__)


def test_the_summary_folder_is_made(tmp_path, monkeypatch):
  given = {"t": [1]}, {"t": []}
  t5_utils.write_targets_and_examples(str(tmp_path / "a"), *given)
  assert (tmp_path / "a" / "t_targets").read_text() == "1"
  _without(t5_utils, "write_targets_and_examples", monkeypatch)
  with pytest.raises(tf.errors.NotFoundError):
    t5_utils.write_targets_and_examples(str(tmp_path / "b"), *given)


def test_what_is_decoded_is_text(monkeypatch):
  estimator = mock.Mock()
  estimator.predict.return_value = [{"inputs": b"in", "outputs": b"\xc3\xa9"}]
  assert list(utils.decode(estimator, None, None)) == ["é"]
  _without(utils, "decode", monkeypatch)
  assert list(utils.decode(estimator, None, None)) == [b"\xc3\xa9"]


def test_data_on_disk_are_read_without_the_bucket(tmp_path, monkeypatch):
  class Numbers(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      features = {"n": tfds.features.Scalar(np.int64)}
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features)
      )

    def _split_generators(self, dl_manager):
      return {"train": [(0, {"n": 7})]}

    def _generate_examples(self):
      raise NotImplementedError

  asked = []
  monkeypatch.setattr(
    gcs_utils, "exists", lambda path: bool(asked.append(path))
  )
  Numbers(data_dir=tmp_path).download_and_prepare()
  asked.clear()
  cls = seqio.utils.LazyTfdsLoader

  def load():
    loader = cls("numbers:1.0.0", data_dir=str(tmp_path))
    return [int(x["n"]) for x in tfds.as_numpy(loader.load("train", False))]

  assert load() == [7] and not asked
  _without(cls, "load", monkeypatch)
  assert load() == [7] and asked


def test_the_stand_in_for_pytorch_explains_itself():
  if "torch" in sys.modules:
    pytest.skip("PyTorch is installed, so nothing stands in for it")
  with pytest.raises(ImportError, match="PyTorch"):
    t5.models.HfPyTorchModel("small", "/tmp", None)


def test_inputs_of_estimators_are_not_autotuned(monkeypatch):
  """Its thread would block the process at its end for up to a minute."""
  given = []
  with_options = tf.data.Dataset.with_options

  def spy(self, options):
    given.append(options.autotune.enabled)
    return with_options(self, options)

  monkeypatch.setattr(tf.data.Dataset, "with_options", spy)
  with tf.Graph().as_default(), tf.Session() as sess:
    dataset = tf.data.Dataset.from_tensors({"inputs": [1, 2]})
    features, labels, hooks = util.parse_input_fn_result(dataset)
    assert given == [False] and labels is None
    for hook in hooks:
      hook.begin()
      hook.after_create_session(sess, None)
    assert sess.run(features)["inputs"].tolist() == [1, 2]


_ALIASES = {"Identity", "Reshape", "ExpandDims", "Squeeze"}


def _reads(variable):
  """Operations that read a variable's buffer, except its own update."""
  reads, tensors = set(), list(variable.outputs)
  while tensors:
    for op in tensors.pop().consumers():
      if op.type in _ALIASES:
        tensors += op.outputs
      elif op.type not in ("Assign", "IsVariableInitialized"):
        reads.add(op)
  return reads


def _late_reads(slices):
  """Reads of a training step that may run after the variable's update.

  Args:
    slices: how many processors the batch is split over.

  Returns:
    [(update, read)], names of operations, and the number of updates
  """
  # As `main` has them, which disables what TensorFlow 2 does by default.
  variables = tf.variable_scope("", use_resource=False)
  with tf.Graph().as_default(), variables:
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")
    batch = mtf.Dimension("batch", 4)
    x = mtf.import_tf_tensor(
      mesh, tf.ones([4, 8]), mtf.Shape([batch, mtf.Dimension("d0", 8)])
    )
    for i in range(3):
      into = mtf.Dimension(f"d{i + 1}", 8)
      w = mtf.get_variable(
        mesh, f"w{i}", mtf.Shape([x.shape.dims[-1], into]), dtype=tf.float32
      )
      # [batch, d(i + 1)]
      x = mtf.relu(mtf.einsum([x, w], mtf.Shape([batch, into])))
    gradients = mtf.gradients(
      [mtf.reduce_mean(x)], [v.outputs[0] for v in graph.trainable_variables]
    )
    updates = mtf.optimize.AdafactorOptimizer(learning_rate=0.1).apply_grads(
      gradients, graph.trainable_variables
    )
    lowering = mtf_testing.lower(
      graph, mesh, f"all:{slices}", "batch:all", [""] * slices
    )
    tf_graph = tf.get_default_graph()
    graph_def = tf_graph.as_graph_def()

    def up_to(*ops):
      nodes = tf.graph_util.extract_sub_graph(graph_def, [o.name for o in ops])
      return {tf_graph.get_operation_by_name(n.name) for n in nodes.node}

    step = up_to(*(lowering.lowered_operation(u) for u in updates))
    updates = [op for op in step if op.type == "Assign"]
    late = []
    for update in updates:
      reads = _reads(update.inputs[0].op) & step
      assert reads, update.name
      late += [(update.name, r.name) for r in reads - up_to(update)]
    return late, len(updates)


@pytest.mark.parametrize("slices", [1, 2])
def test_a_step_updates_no_variable_that_it_still_reads(slices, monkeypatch):
  assert _late_reads(slices) == ([], 6 * slices)  # weights, slots

  _without(mtf.Assign, "lower", monkeypatch)
  late, _ = _late_reads(slices)
  assert late, "mesh_tensorflow orders its updates: the patch can go"


def _drawn():
  """Random numbers of two operations on four slices, by the graph's seed.

  Returns:
    for seeds 1, 2 and None: [2 operations, 4 slices, 1 of 2 rows, 3]
  """
  drawn = []
  for seed in (1, 2, None):
    with tf.Graph().as_default(), tf.Session() as sess:
      tf.set_random_seed(seed)
      graph = mtf.Graph()
      mesh = mtf.Mesh(graph, "mesh")
      shape = mtf.Shape([mtf.Dimension("batch", 2), mtf.Dimension("d", 3)])
      x = [mtf.random_uniform(mesh, shape) for _ in range(2)]
      lowering = mtf_testing.lower(
        graph, mesh, "rows:2,columns:2", "batch:rows", [""] * 4
      )
      slices = [lowering.tensors[t].to_laid_out_tensor().all_slices for t in x]
      drawn.append([[s.tolist() for s in op] for op in sess.run(slices)])
  return drawn


def test_random_operations_follow_the_seed_of_the_graph():
  drawn = _drawn()
  # The same in every process, whatever strings hash to there.
  first, last = drawn[0][0][0][0][0], drawn[1][1][3][0][2]
  assert (first, last) == pytest.approx((0.68113589, 0.72675848))
  again = _drawn()
  assert drawn[:2] == again[:2]
  assert drawn[2] != again[2]  # without a seed it is chance, as before
  for op in [op for seeded in drawn for op in seeded]:
    assert op[0] == op[1] != op[2] == op[3]
  assert drawn[0] != drawn[1] and drawn[0][0] != drawn[0][1]


def test_dropout_of_a_step_is_that_of_an_operation_that_counts_its_runs(
  monkeypatch,
):
  """So a run draws the same numbers as without the patch."""
  with tf.Graph().as_default(), tf.Session() as sess:
    tf.set_random_seed(3)
    step = tf.placeholder(tf.int64, [])
    monkeypatch.setattr(random_numbers._Training, "step", step)
    pairs = []
    for draw in (tf.random.uniform, tf.random.normal):
      for shape in ([], [3], [128, 129]):
        seeds = tf.get_seed(77)
        ours = random_numbers._draw(draw, shape, seeds)
        pairs.append((draw(shape, seed=77), ours))
    steps = [sess.run(pairs, {step: n}) for n in range(4)]
    for one, other in [pair for step in steps for pair in step]:
      np.testing.assert_array_equal(one, other)
    assert len({float(first) for (first, _), *_ in steps}) == 4
    monkeypatch.setattr(random_numbers._Training, "microbatch", tf.constant(1))
    pair = ours, random_numbers._draw(draw, shape, seeds)
    once, again = (sess.run(pair, {step: 5}) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(*once)  # of two microbatches


def test_a_configuration_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
  compat.patch()
  path = tmp_path / "operative_config.gin"
  with tf.Graph().as_default(), tf.Session() as sess:
    step = tf.train.get_or_create_global_step()
    sess.run(step.initializer)

    def save():
      hook = gin.tf.GinConfigSaverHook(
        str(tmp_path), summarize_config=True, include_step_in_filename=False
      )
      hook.after_create_session(sess)

    save()
    assert len(os.listdir(tmp_path)) == 2  # it and the events
    path.write_text("of an earlier start")

    def full(source, target):
      with open(target, "w") as f:
        f.write("half")
      raise tf.errors.ResourceExhaustedError(None, None, "No space left")

    monkeypatch.setattr(tf2.io.gfile, "copy", full)
    with pytest.raises(tf.errors.ResourceExhaustedError):
      save()
    assert path.read_text() == "of an earlier start"
    _without(gin.tf.GinConfigSaverHook, "after_create_session", monkeypatch)
    save()
    assert path.read_text() != "of an earlier start"


def test_all_checkpoints_are_their_steps_once_in_order(tmp_path, monkeypatch):
  for step in (10, 0, 2):
    for end in ("index", "meta", "data-00000-of-00001"):
      (tmp_path / f"model.ckpt-{step}.{end}").write_text("")
  steps = t5_utils.get_checkpoints_iterator("all", str(tmp_path))
  assert steps == [0, 2, 10]
  assert list(t5_utils.get_checkpoints_iterator([9, 9], str(tmp_path))) == [10]
  _without(t5_utils, "get_checkpoints_iterator", monkeypatch)
  assert len(t5_utils.get_checkpoints_iterator("all", str(tmp_path))) == 9
