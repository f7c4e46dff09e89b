"""Mends the frozen libraries this project lives in, and nothing else does.

Importing `hypergrid_mtf` calls `mend()`. Each function below mends one thing
and says what, why, and when it can go. All of them can be called twice and in
any order with respect to other imports; a mend that comes too late to help
says so in one sentence (a warning), because a silent half-mended stack is worse
than a loud one.
"""

import functools
import importlib
import importlib.util
import sys
import types
import warnings

import gin

from hypergrid_mtf import tfds_data


def mend() -> None:
  """Applies every mend once; safe to call again."""
  _check_tensorflow()
  _mend_tensor_conversion_registry()
  _mend_t5_models_without_torch()
  _mend_eval_summary_dir()
  _mend_decoded_bytes()
  _mend_scored_targets()
  _mend_lines_of_files()
  _mend_steps_of_all_checkpoints()
  _mend_finetune_arguments()
  _mend_tfds_reads_from_disk()
  _mend_closing_of_input()
  _mend_updates_before_reads()
  _mend_step_counter_before_reads()
  _mend_seeds_of_random_operations()


def _too_late(what: str) -> None:
  warnings.warn(f"hypergrid_mtf.compat: {what}", stacklevel=3)


def _check_tensorflow() -> None:
  """TPUEstimator left TensorFlow in 2.16; nothing here can bring it back."""
  import tensorflow as tf

  version = tuple(int(x) for x in tf.__version__.split(".")[:2])
  if version >= (2, 16):
    raise ImportError(
      f"hypergrid_mtf needs TensorFlow 2.15, the last with TPUEstimator, and "
      f"TensorFlow {tf.__version__} is already imported: install "
      "requirements.txt in an environment of its own."
    )


def _mend_tensor_conversion_registry() -> None:
  """mesh_tensorflow 0.1.21 looks for a function that TensorFlow moved.

  What: `ops.register_tensor_conversion_function` lives in
  `tensor_conversion_registry` since TensorFlow 2.14 (mesh issues 392, 396), so
  `import mesh_tensorflow` raises AttributeError.
  Can go: with a mesh_tensorflow release that imports on TensorFlow 2.15.
  """
  from tensorflow.python.framework import (
    ops,
    tensor_conversion_registry,
  )

  name = "register_tensor_conversion_function"
  if not hasattr(ops, name):
    setattr(ops, name, getattr(tensor_conversion_registry, name))
  # A failed `import mesh_tensorflow` leaves submodules behind, half
  # initialised, and what they registered with gin. They are imported anew, and
  # gin is told that registering them again is meant.
  leftovers = [
    m for m in sys.modules if m.startswith(("mesh_tensorflow.", "t5.models."))
  ]
  if "mesh_tensorflow" not in sys.modules and leftovers:
    for module in leftovers:
      del sys.modules[module]
    gin.enter_interactive_mode()
    try:
      importlib.import_module("mesh_tensorflow.ops")
    finally:
      gin.exit_interactive_mode()


class _NeedsTorch:
  """Stands in for t5's PyTorch model where PyTorch is not installed."""

  def __init__(self, *unused_args, **unused_kwargs):
    raise ImportError(
      "t5.models.HfPyTorchModel needs PyTorch, which is not installed."
    )


def _mend_t5_models_without_torch() -> None:
  """`import t5.models` imports PyTorch, which this project does not use.

  What: `t5/models/__init__.py` imports `hf_model`, which imports torch at the
  top. Where torch is absent, `t5.models.hf_model` becomes a module whose only
  class explains itself when used.
  Can go: with a t5 release that imports hf_model lazily.
  """
  name = "t5.models.hf_model"
  if name in sys.modules or importlib.util.find_spec("torch") is not None:
    return
  stand_in = types.ModuleType(name, "Stand-in: PyTorch is not installed.")
  stand_in.HfPyTorchModel = _NeedsTorch
  sys.modules[name] = stand_in


def _mend_eval_summary_dir() -> None:
  """`MtfModel.eval` writes into a summary folder that nobody has made.

  What: `t5.models.utils.run_eval` writes `<task>_targets` before the folder
  exists. The folder is made first.
  Can go: with a t5 release whose run_eval makes the folder.
  """
  import tensorflow as tf
  from t5.models import utils

  original = utils.write_targets_and_examples
  if hasattr(original, "__wrapped__"):
    return

  @functools.wraps(original)
  def write_targets_and_examples(summary_dir, targets, datasets):
    tf.io.gfile.makedirs(summary_dir)
    return original(summary_dir, targets, datasets)

  for module in list(sys.modules.values()):
    if (
      module is not None
      and module is not utils
      and getattr(module, "__dict__", {}).get("write_targets_and_examples")
      is original
    ):
      _too_late(
        f"{module.__name__} took t5.models.utils.write_targets_and_examples "
        "before hypergrid_mtf was imported, so it may still write into a "
        "summary folder that does not exist: import hypergrid_mtf first."
      )
  utils.write_targets_and_examples = write_targets_and_examples


def _mend_decoded_bytes() -> None:
  """Predictions decoded in the graph are written as Python writes bytes.

  What: without a TPU, `mesh_tensorflow.transformer.utils.decode` yields bytes,
  and `infer` writes the line `b'text'` instead of `text`. They become text.
  Can go: with a mesh_tensorflow whose decode_from_file decodes.
  """
  from mesh_tensorflow.transformer import utils

  original = utils.decode
  if hasattr(original, "mended"):
    return

  @functools.wraps(original)
  def decode(*args, **kwargs):
    for output in original(*args, **kwargs):
      yield output.decode("utf-8") if isinstance(output, bytes) else output

  decode.mended = True
  utils.decode = decode


def _mend_scored_targets() -> None:
  """Scoring without a TPU fails, or takes an empty target for padding.

  What: the graph then decodes the targets it scored to bytes, and everything
  that reads them upstream (`score_with_estimator`, which counts the padding of
  a data set, and `save_scores`) takes them for arrays of ids. They stay ids, as
  on a TPU. An exported model goes on to answer with text; but it gives as many
  scores as its batch has rows, and is cut to as many as it was asked for.
  Can go: with a mesh_tensorflow whose scoring takes decoded targets, and whose
  exported scores have the length of what came in.
  """
  from mesh_tensorflow.transformer import utils

  original = utils.tpu_estimator_model_fn
  if hasattr(original, "_keeps_ids_of_targets"):
    return

  @functools.wraps(original)
  def tpu_estimator_model_fn(*args, **kwargs):
    model_fn = original(*args, **kwargs)
    if not kwargs.get("score_in_predict_mode"):
      return model_fn
    # The vocabulary is there to decode with, and for nothing else.
    without_decoding = original(*args, **{**kwargs, "vocabulary": None})

    # Estimators look at the names of these arguments.
    def scoring(features, labels, mode, params=None, config=None):
      asked = features.get("predict_batch_size")  # in an exported model alone
      if asked is None:
        return without_decoding(features, labels, mode, params, config)
      spec = model_fn(features, labels, mode, params, config)
      cut = {k: v[:asked] for k, v in spec.predictions.items()}
      # Made anew, since what is exported is derived from the predictions.
      fields = {**spec._asdict(), "predictions": cut, "export_outputs": None}
      return type(spec)(**fields)

    return scoring

  tpu_estimator_model_fn._keeps_ids_of_targets = True
  utils.tpu_estimator_model_fn = tpu_estimator_model_fn


def _mend_lines_of_files() -> None:
  """`infer` and scoring drop a blank last line, and score the byte-order mark.

  What: `get_inputs_from_file` strips the last line away where it is blank, so
  that the answers have one line less than the inputs, and takes the mark that
  some editors put before UTF-8 for a letter. Lines come as they are in the
  file; what ends the last one begins no other.
  Can go: with a mesh_tensorflow whose function keeps its lines.
  """
  import tensorflow as tf
  from mesh_tensorflow.transformer import utils

  original = utils.get_inputs_from_file
  if hasattr(original, "__wrapped__"):
    return

  @functools.wraps(original)
  def get_inputs_from_file(input_filename, ignore_comments=False):
    with tf.io.gfile.GFile(input_filename, "rb") as f:
      lines = f.read().decode("utf-8-sig").split("\n")
    if not lines[-1]:
      lines.pop()
    return [
      line.rstrip()
      for line in lines
      if not (ignore_comments and line.startswith("#"))
    ]

  utils.get_inputs_from_file = get_inputs_from_file


def _mend_steps_of_all_checkpoints() -> None:
  """`MtfModel.eval` of all checkpoints evaluates each once for each file.

  What: `t5.models.utils.get_checkpoints_iterator("all")` gives the step of
  every file `model.ckpt*`, as the file system lists them. Each step is given
  once, in order.
  Can go: with a t5 release that does as mesh_tensorflow's own function does.
  """
  from t5.models import utils

  original = utils.get_checkpoints_iterator
  if hasattr(original, "__wrapped__"):
    return

  @functools.wraps(original)
  def get_checkpoints_iterator(checkpoint_steps, model_dir):
    steps = original(checkpoint_steps, model_dir)
    return sorted(set(steps)) if checkpoint_steps == "all" else steps

  utils.get_checkpoints_iterator = get_checkpoints_iterator


def _mend_finetune_arguments() -> None:
  """t5's main calls `MtfModel.finetune` with names that it does not have.

  What: `--use_model_api --mode=finetune` passes `steps` and
  `checkpoint_steps`, the method takes `finetune_steps` and
  `pretrained_checkpoint_step`. Both are taken.
  Can go: with a t5 release whose main and MtfModel agree.
  """
  from t5.models import mtf_model

  original = mtf_model.MtfModel.finetune
  if hasattr(original, "__wrapped__"):
    return
  renamed = {
    "steps": "finetune_steps",
    "checkpoint_steps": "pretrained_checkpoint_step",
  }

  @functools.wraps(original)
  def finetune(self, *args, **kwargs):
    kwargs = {renamed.get(k, k): v for k, v in kwargs.items()}
    return original(self, *args, **kwargs)

  mtf_model.MtfModel.finetune = finetune


def _mend_tfds_reads_from_disk() -> None:
  """SeqIO asks the public cloud bucket for data that is already on disk.

  What: `LazyTfdsLoader` calls `tfds.load(try_gcs=True)`, and TFDS looks into
  gs://tfds-data first: minutes of retries on a machine without internet, and
  an error on one with it when a data folder is given. When the data set is
  prepared on disk, the bucket is switched off for that call.
  Can go: with a SeqIO that checks the disk first.
  """
  from seqio import utils

  cls = utils.LazyTfdsLoader
  for method in ("_get_builder", "load"):
    original = getattr(cls, method)
    if hasattr(original, "__wrapped__"):
      continue

    @functools.wraps(original)
    def call(self, split=None, *args, _original=original, **kwargs):
      name, data_dir = self.get_split_params(split)
      if not (name and tfds_data.is_prepared(name, data_dir)):
        return _original(self, split, *args, **kwargs)
      with tfds_data.without_cloud_bucket():
        return _original(self, split, *args, **kwargs)

    setattr(cls, method, call)


def _mend_closing_of_input() -> None:
  """On a CPU a run sits idle for up to a minute after its last step.

  What: to close its session an Estimator destroys the input's iterator, which
  waits for tf.data's autotuner, and that sleeps between two looks at the
  pipeline, twice as long each time, up to 60 s, deaf to being cancelled. Inputs
  of Estimators on a CPU are read without it; those of TPUs keep it.
  Can go: with a TensorFlow that wakes the autotuner of what it destroys.
  """
  import tensorflow as tf
  from tensorflow_estimator.python.estimator import util

  original = util.parse_input_fn_result
  if hasattr(original, "__wrapped__"):
    return

  @functools.wraps(original)
  def parse_input_fn_result(result):
    if isinstance(result, tf.data.Dataset):
      options = tf.data.Options()
      options.autotune.enabled = False
      result = result.with_options(options)
    return original(result)

  util.parse_input_fn_result = parse_input_fn_result


def _mend_updates_before_reads() -> None:
  """On a CPU a training step reads variables that it has updated already.

  What: a read of a variable shares its buffer, and nothing in mesh_tensorflow's
  graph makes an update wait for the backward pass of the layers below, or for
  another optimizer slot. So gradients mix old and new weights, by the chance of
  the threads: two runs of one seed differ from their first step, and learn more
  slowly than they should. Updates on a PlacementMeshImpl (CPU, GPU) now wait
  for all new values; TPUs keep their graph.
  Can go: with a mesh_tensorflow whose `Assign` orders itself after the reads.
  """
  import mesh_tensorflow as mtf
  import tensorflow as tf
  from mesh_tensorflow import placement_mesh_impl

  original = mtf.Assign.lower
  if hasattr(original, "__wrapped__"):
    return

  def all_new_values(lowering):
    return [
      value
      for assign in lowering.graph.operations
      if isinstance(assign, mtf.Assign)
      for x in assign.inputs
      if x in lowering.tensors  # an Assign that others depend on comes earlier
      for value in lowering.tensors[x].to_laid_out_tensor().all_slices
    ]

  @functools.wraps(original)
  def lower(self, lowering):
    mesh_impl = lowering.mesh_impl(self)
    if not isinstance(mesh_impl, placement_mesh_impl.PlacementMeshImpl):
      return original(self, lowering)
    # One operation in between: n updates of n values would be n * n edges.
    with tf.control_dependencies([tf.group(*all_new_values(lowering))]):
      return original(self, lowering)

  mtf.Assign.lower = lower


def _mend_step_counter_before_reads() -> None:
  """On a CPU the step counter may be read after it counted the step.

  What: learning rate and decay of Adafactor read it, and nothing makes the
  addition wait for them. It does now; TPUs keep their graph.
  Can go: with a mesh_tensorflow that counts after the updates.
  """
  import tensorflow as tf
  from mesh_tensorflow.transformer import utils

  original = utils.tpu_estimator_model_fn
  if hasattr(original, "_orders_step_counter"):
    return

  def order_step_counter(graph):
    # An Estimator's is a resource; a reference variable has no such users.
    counter = tf.compat.v1.train.get_global_step(graph).op.outputs[0]
    users = counter.consumers()
    reads = [op for op in users if op.type == "ReadVariableOp"]
    for op in users:
      if op.type == "AssignAddVariableOp":
        # Without those that read what it counted.
        op._add_control_inputs([r for r in reads if op not in r.control_inputs])

  @functools.wraps(original)
  def tpu_estimator_model_fn(*args, **kwargs):
    model_fn = original(*args, **kwargs)

    # Estimators look at the names of these arguments.
    def ordered(features, labels, mode, params=None, config=None):
      spec = model_fn(features, labels, mode, params, config)
      # A spec for TPUs is of another class.
      if isinstance(spec, tf.estimator.EstimatorSpec) and spec.mode == "train":
        order_step_counter(spec.train_op.graph)
      return spec

    return ordered

  tpu_estimator_model_fn._orders_step_counter = True
  utils.tpu_estimator_model_fn = tpu_estimator_model_fn


def _mend_seeds_of_random_operations() -> None:
  """On a CPU dropout ignores the seed of a run.

  What: `PlacementMeshImpl.random` draws the seed of each operation from
  Python's own generator, which nobody seeds, and from the hash of a string,
  which differs from process to process. Where the TensorFlow graph has a seed
  (Estimators always set one) it now comes from there, as TensorFlow's own does.
  Can go: with a mesh_tensorflow that asks TensorFlow for these seeds.
  """
  import tensorflow as tf
  from mesh_tensorflow import placement_mesh_impl

  cls = placement_mesh_impl.PlacementMeshImpl
  original = cls.random
  if hasattr(original, "__wrapped__"):
    return

  @functools.wraps(original)
  def random(self, shape, tf_fn, kwargs):
    _, op_seed = tf.compat.v1.get_seed(None)
    if op_seed is None:
      return original(self, shape, tf_fn, kwargs)
    slice_shape = self.slice_shape(shape)

    def draw(pnum):
      # By where the slice begins: slices of the same values must be equal.
      seed = hash((op_seed, *self.slice_begin(shape, pnum)))
      return tf_fn(slice_shape, seed=seed, **kwargs)

    return self.slicewise(draw, self.laid_out_pnum())

  cls.random = random
