"""Running small Mesh TensorFlow graphs in tests."""

import contextlib
import re
import types
import zlib

import mesh_tensorflow as mtf
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer
from tensorflow.python.eager import context as eager_context

from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import config

FLOAT32 = mtf.VariableDType(tf.float32, tf.float32, tf.float32)
BFLOAT16 = mtf.VariableDType(tf.float32, tf.bfloat16, tf.bfloat16)


def mesh(graph, on_tpu=False):
  """A mesh; with `on_tpu`, one that the layer treats as a TPU's."""
  placer = mtf.utils.BalancedVariablePlacer([""], [0]) if on_tpu else None
  return mtf.Mesh(graph, "mesh", placer)


def lower(graph, mesh, mesh_shape="", layout="", devices=("",)):
  """Lowers an mtf graph to TensorFlow on the local CPU."""
  impl = mtf.placement_mesh_impl.PlacementMeshImpl(
    mtf.convert_to_shape(mesh_shape),
    mtf.convert_to_layout_rules(layout),
    list(devices),
  )
  return mtf.Lowering(graph, {mesh: impl}, autostack=False)


def quick_options():
  """Disables TensorFlow's rewriting, which is slow for small graphs."""
  options = tf.ConfigProto()
  options.graph_options.rewrite_options.disable_meta_optimizer = True
  options.graph_options.optimizer_options.opt_level = -1
  return options


def session(lowering):
  """A session whose variables are initialised and copied to the slices."""
  sess = tf.Session(config=quick_options())
  sess.run(tf.global_variables_initializer())
  sess.run(lowering.copy_masters_to_slices())
  return sess


def set_masters(sess, lowering, values):
  """Sets variables by name, {name: array}, on all slices."""
  found = [v for v in tf.global_variables() if v.op.name in values]
  sess.run(  # as v.load does, but all of them in one call
    [v.initializer for v in found],
    {
      v.initializer.inputs[1]: values[v.op.name].astype(v.dtype.as_numpy_dtype)
      for v in found
    },
  )
  sess.run(lowering.copy_masters_to_slices())


def evaluate(mesh, tensors, values=None, run=tf.Session.run):
  """Values of a nest of mtf tensors on one device, as float32.

  Args:
    mesh: of the tensors.
    tensors: a nest of them.
    values: {variable: value} of those that are not to have their initial one.
    run: a function of a session and a nest, such as run_compiled.
  """
  lowering = lower(mesh.graph, mesh)

  def export(tensor):
    return tf.cast(lowering.export_to_tf_tensor(tensor), tf.float32)

  fetches = tf.nest.map_structure(export, tensors)
  with session(lowering) as sess:
    set_masters(sess, lowering, values or {})
    return run(sess, fetches)


def _to_compile(sess, fetches):
  """A function of arrays for XLA to compile, the arrays, and its results.

  Variables and other arrays are arguments of it: as constants they would be
  folded, and nothing of the program would be left to run.
  """
  outputs = [t.op.name for t in tf.nest.flatten(fetches)]
  frozen = tf.graph_util.convert_variables_to_constants(
    sess, sess.graph.as_graph_def(), outputs
  )
  arrays = {
    node.name + ":0": tf.make_ndarray(node.attr["value"].tensor)
    for node in frozen.node
    if node.op == "Const"
  }
  # A list of integers is a shape or a permutation.
  arrays = {
    k: v for k, v in arrays.items() if v.ndim > 1 or v.dtype.kind == "f"
  }
  for node in frozen.node:
    node.device = ""

  def program(*values):
    return tf.import_graph_def(
      frozen,
      dict(zip(arrays, values, strict=True)),
      [name + ":0" for name in outputs],
    )

  return tf2.function(program, jit_compile=True), list(arrays.values())


def run_compiled(sess, fetches):
  """`sess.run` of float tensors, compiled by XLA as a whole for this CPU."""
  function, arrays = _to_compile(sess, fetches)
  with eager_context.eager_mode():
    values = [v.numpy() for v in function(*map(tf2.constant, arrays))]
  return tf.nest.pack_sequence_as(fetches, values)


def compiled(sess, fetches, stage="optimized_hlo") -> str:
  """The text of `run_compiled`'s program; at stage "hlo", XLA's input."""
  function, arrays = _to_compile(sess, fetches)
  with eager_context.eager_mode():
    return function.experimental_get_compiler_ir(*map(tf2.constant, arrays))(
      stage=stage, device_name="/device:CPU:0"
    )


def random_params(rng, scope):
  """Random values for every trainable variable below a scope, scope removed."""
  out = {}
  for v in tf.trainable_variables(scope):
    shape = v.shape.as_list()
    scale = shape[0] ** -0.5 if len(shape) > 1 else 1.0
    out[v.op.name] = rng.normal(0, scale, shape)
  return out


def fake_context(x, decoder=None, **kwargs):
  """A Context as Unitransformer makes it for x [batch, length, d_model]."""
  model = types.SimpleNamespace(
    model_dim=x.shape.dims[-1],
    ensemble_dims=[],
    autoregressive=bool(decoder),
    layout=None,
    mesh_shape=None,
  )
  kwargs.setdefault("mode", tf.estimator.ModeKeys.EVAL)
  kwargs.setdefault("variable_dtype", FLOAT32)
  return transformer.Context(
    model=model,
    mesh=x.mesh,
    batch_dims=x.shape.dims[:-2],
    length_dim=x.shape.dims[-2],
    **kwargs,
  )


def import_array(mesh, value, names, dtype=None):
  """A NumPy array as an mtf tensor with named dimensions."""
  value = np.asarray(value)
  shape = mtf.Shape(
    [mtf.Dimension(n, s) for n, s in zip(names, value.shape, strict=True)]
  )
  tensor = tf.constant(value if dtype is None else value.astype(np.float32))
  if dtype is not None:
    tensor = tf.cast(tensor, dtype)
  return mtf.import_fully_replicated(mesh, tensor, shape)


def pad(rows, length):
  """Rows of token ids as an int32 array [rows, length]."""
  out = np.zeros((len(rows), length), np.int32)
  for row, ids in zip(out, rows, strict=True):
    row[: len(ids)] = ids
  return out


def random_features(lengths, packed=False, leading=(), tasks=0):
  """Four rows of token ids, with padding at the end of most.

  Args:
    lengths: {"inputs": …, "targets": …}, 6 or more.
    packed: two examples a row, with their segmentation and position.
    leading: dimensions in front, as of an ensemble.
    tasks: of which each example begins with the token; 0 for none.

  Returns:
    {feature: int32 [*leading, 4, length]}
  """
  rng = np.random.default_rng(0)
  features = {}
  for key, length in lengths.items():
    at = np.arange(length)
    ends = np.array([[length], [length - 1], [length - 2], [length]])
    starts = np.array([[2], [3], [1], [4]])  # of the second example
    second, real = at >= starts, at < ends
    features[key] = rng.integers(2, 60, (*leading, *real.shape)) * real
    if tasks and key == "inputs":
      begins = (at == 0) | packed & (at == starts)
      token = VOCAB_SIZE - 1 - rng.integers(0, tasks, real.shape)
      features[key] = np.where(begins, token, features[key])
    if packed:
      features[f"{key}_segmentation"] = (1 + second) * real
      features[f"{key}_position"] = np.where(second, at - starts, at) * real
  return {
    name: np.broadcast_to(
      value, (*leading, *real.shape[:1], value.shape[-1])
    ).astype(np.int32)
    for name, value in features.items()
  }


SMALL = """
d_model = 16
d_ff = 32
num_layers = 2
num_heads = 2
d_kv = 8
HyperGrid.grid_rows = 4
HyperGrid.grid_cols = 4
dropout_rate = 0.0
"""
VOCAB_SIZE = 64


def small_model(
  layers="L2", bindings="", layout=None, mesh_shape=None, vocab_size=VOCAB_SIZE
):
  """A Bitransformer of the configs, small enough to look at.

  Args:
    layers: a file of operative_configs/hypergrid, or peers/ and its name.
    bindings: further gin bindings, one a line.
    layout: as in utils.build_model.
    mesh_shape: as in utils.build_model.
    vocab_size: of inputs and targets.
  """
  path = layers if "/" in layers else f"hypergrid/{layers}"
  config.parse_files(
    [config.DEFAULTS, "models/tiny.gin", f"{path}.gin"],
    [SMALL, bindings, "Unitransformer.vocab_divisor = 1"],
  )
  return model_lib.build(vocab_size, None, layout, mesh_shape)


def _start_at_zero(getter, *args, **kwargs):
  """A variable without the operations that draw its first value."""
  return getter(*args, **kwargs | {"initializer": tf.zeros_initializer()})


class Model:
  """One small model in one graph, called in several ways.

  `feature` and `call` add parts to the graph; `start` then lowers all of them
  and gives every variable a value. Arguments are those of `small_model`.
  """

  def __init__(
    self,
    layers="L2",
    bindings="",
    layout="",
    mesh_shape="",
    vocab_size=VOCAB_SIZE,
    dtype=FLOAT32,
  ):
    self.model = small_model(layers, bindings, layout, mesh_shape, vocab_size)
    self._mesh_arguments = mesh_shape or "", layout or ""
    self._placeholders: dict = {}
    self.dtype = dtype
    self.tf_graph = tf.Graph()
    with self.tf_graph.as_default():
      tf.get_variable_scope().set_custom_getter(_start_at_zero)
    self.graph = mtf.Graph()
    self.mesh = mtf.Mesh(self.graph, "mesh")

  def feature(self, name, *sizes):
    """The mtf tensor of an int32 placeholder [(ensemble,) batch, length]."""
    if name not in self._placeholders:
      dims = ["ensemble", "batch", "length"][-len(sizes) :]
      shape = mtf.Shape(list(map(mtf.Dimension, dims, sizes)))
      placeholder = tf.placeholder(tf.int32, sizes, name)
      tensor = mtf.import_fully_replicated(self.mesh, placeholder, shape)
      self._placeholders[name] = placeholder, tensor
    return self._placeholders[name][1]

  def call(self, given, train=True, **kwargs):
    """Logits and, in training, the loss, of {feature: mtf tensor}."""
    kwargs.setdefault("decoder_sequence_id", given.get("targets_segmentation"))
    return self.model.call_simple(
      inputs=given["inputs"],
      targets=given["targets"],
      compute_loss=train,
      mode=tf.estimator.ModeKeys.TRAIN if train else "eval",
      variable_dtype=self.dtype,
      encoder_sequence_id=given.get("inputs_segmentation"),
      encoder_position=given.get("inputs_position"),
      decoder_position=given.get("targets_position"),
      **kwargs,
    )

  def gradients(self, loss):
    """{variable: gradient} of a scalar."""
    variables = self.graph.trainable_variables
    found = mtf.gradients([loss], [v.outputs[0] for v in variables])
    return {v.name: g for v, g in zip(variables, found, strict=True)}

  @contextlib.contextmanager
  def start(self, fetches, seed=0, scale=1.0):
    """Yields run(names=all, **placeholders), which gives the tensors so named.

    Args:
      fetches: {name: nest of mtf tensors}
      seed: of the weights, the same for the same names and shapes
      scale: factor on HyperGrid's own
    """
    mesh_shape, layout = self._mesh_arguments
    devices = ["cpu:0"] * mtf.convert_to_shape(mesh_shape).size
    fetches = tf.nest.map_structure(mtf.anonymize, fetches)
    self.lowering = lower(self.graph, self.mesh, mesh_shape, layout, devices)

    def export(tensor):
      tensor = self.lowering.export_to_tf_tensor(tensor)
      is_narrow = tensor.dtype == tf.bfloat16
      return tf.cast(tensor, tf.float32) if is_narrow else tensor

    exported = tf.nest.map_structure(export, fetches)
    with session(self.lowering) as self.session:
      self.set_weights(self.random_weights(seed, scale))

      def run(names=None, **values):
        feed = {self._placeholders[k][0]: v for k, v in values.items()}
        of = exported if names is None else [exported[n] for n in names]
        return self.session.run(of, feed)

      yield run

  def set_weights(self, values):
    """Sets variables by name, {name: array}, on all slices."""
    set_masters(self.session, self.lowering, values)

  def random_weights(self, seed=0, scale=1.0):
    """{variable: value}, as in `start`."""
    values = {}
    for variable in self.graph.trainable_variables:
      name, shape = variable.name, variable.shape.to_integer_list
      rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
      value = rng.normal(0, 1, shape)
      if name.endswith("kernel") or "/q" in name or "/k" in name:
        value *= shape[0] ** -0.5
      if name.endswith("scale"):
        value = 1 + 0.1 * value
      if "/hypergrid/" in name:
        value *= scale
      if re.search("/(adapter|hyperprompt)/", name) and len(shape) > 1:
        value = rng.normal(0, (value.size / shape[-1]) ** -0.5, shape)
      values[name] = value
    return values
