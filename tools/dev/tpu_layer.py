r"""Compiles one feed-forward layer in every order with the TPU's compiler.

  python -m tools.dev.tpu_layer --size=base --variants=L2 --grids=16x16,32x32 \
    --rows=packed,unpacked --topologies=v3:2x2,v4:2x2x1 --output=layer.json

The layer is the first encoder layer of the gin files, called as by
Unitransformer and lowered as in t5's full step, for one core; vanilla T5's is
compiled too. Variables are arguments; y and, in training, all gradients are
results. A layer takes seconds to compile, a full step minutes. All figures are
the compiler's estimates (docs/dev/tpu_compiler.md).
"""

import dataclasses
import itertools
import os
import tempfile

from absl import flags

from hypergrid_mtf.run import console, t5_flags
from tools.cost import models

FLAGS = flags.FLAGS

_STEPS = ("train", "eval")
_ROWS = ("packed", "unpacked")


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("gin_param")
  models.define_size("base", activation_dtype="bfloat16")
  models.define_compared(["L2"])
  flags.DEFINE_list(
    "contraction", None, "HyperGrid.contraction, one or more; by default all."
  )
  flags.DEFINE_list("steps", ["train"], f"Of {', '.join(_STEPS)}.")
  flags.DEFINE_list("rows", list(_ROWS), "Any of packed, unpacked.")
  flags.DEFINE_integer("batch", 8, "Sequences on one core.", lower_bound=1)
  flags.DEFINE_integer("tokens", 512, "Tokens per sequence.", lower_bound=1)
  flags.DEFINE_list("topologies", ["v3:2x2"], "Names of topologies in libtpu.")
  flags.DEFINE_string("keep", None, "A folder for the programs in HLO.")
  flags.DEFINE_string("cache", "runs/tpu_layer", "A folder of cached answers.")
  flags.DEFINE_string("output", None, "Also write the estimates as JSON.")


console.read_flags(__name__, define_flags)

import mesh_tensorflow as mtf
import pandas as pd
import tensorflow.compat.v1 as tf
from mesh_tensorflow import simd_mesh_impl
from mesh_tensorflow.transformer import transformer, transformer_layers, utils

from hypergrid_mtf import errors, layers, product
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import files
from tools.cost.tpu import client, edges, hlo

_CELL = ["topology", "step", "rows"]  # what is fixed within a table
_VANILLA = models.VANILLA.variant
_NONE = float("nan")
_CONFIG = ("size", "batch", "tokens", "activation_dtype", "gin_param")


class _Arguments:
  """A graph's mesh, and the arguments of its program."""

  def __init__(self, dtype: tf.DType):
    # Tells the layer that it is on a TPU.
    placer = mtf.utils.BalancedVariablePlacer(["/device:CPU:0"], [0])
    self.mesh = mtf.Mesh(mtf.Graph(), "mesh", placer)
    self.dtype = dtype
    self.given: list[tuple[tf.Tensor, dict]] = []

  def add(self, name: str, shape, dtype: tf.DType | None = None) -> mtf.Tensor:
    """Adds an argument."""
    shape = mtf.convert_to_shape(shape)
    tensor = tf.placeholder(dtype or self.dtype, shape.to_integer_list, name)
    self.given.append((tensor, dict(kind="feature", name=name)))
    return mtf.import_fully_replicated(self.mesh, tensor, shape, name)


def _call(arguments: _Arguments, stack, step: str, rows: str, f):
  """x and y of the layer."""
  layer = next(
    layer
    for layer in stack.layer_stack.layers
    if isinstance(layer, transformer_layers.DenseReluDense)
  )
  # As in t5's models, whose batches also have an outer dimension.
  sizes = {"outer_batch": 1, "batch": f.batch}
  batch_dims = [mtf.Dimension(name, size) for name, size in sizes.items()]
  length_dim = mtf.Dimension("length", f.tokens)
  row = [*batch_dims, length_dim, stack.model_dim]
  sequence_id: mtf.Tensor | int = 1  # one example per sequence
  if rows == "packed" and isinstance(layer, layers.HyperGrid):
    sequence_id = arguments.add("segmentation", row[:-1], tf.int32)
  context = transformer.Context(
    model=stack,
    mesh=arguments.mesh,
    batch_dims=batch_dims,
    length_dim=length_dim,
    variable_dtype=utils.get_variable_dtype(),
    mode=step,
    sequence_id=sequence_id,
  )
  x = arguments.add("x", row)
  return x, layer.call(context, x)


def write_layer(
  step: str, rows: str, setting: models.Setting, core, path: str, f
) -> dict:
  """Builds a layer's program and writes it.

  Args:
    step: "train" (forward and backward) or "eval" (forward).
    rows: "packed", several examples per sequence, or "unpacked".
    setting: the model.
    core: coordinates [x, y, z, core] of one core.
    path: of the HLO.
    f: absl's FLAGS, parsed.

  Returns:
    as `program.write`, without the fields of a full step

  Raises:
    UserError: for flags that describe no model, or an order that cannot be
      used.
  """
  bindings = [
    f'utils.get_variable_dtype.activation_dtype = "{f.activation_dtype}"',
    'utils.get_variable_dtype.slice_dtype = "float32"',
    *setting.gin_params,
    *(f.gin_param or ()),
  ]
  slices = edges.Slices()
  with (
    model_lib.configured(
      [f"models/{f.size}.gin", *setting.gin_files],
      bindings,
      models.VOCAB_SIZE,
      trains=True,
    ) as model,
    tf.Graph().as_default() as graph,
    edges.patched([core], slices),
  ):
    if not hasattr(model, "encoder"):
      raise errors.UserError(
        f"models/{f.size}.gin has no encoder: choose another --size."
      )
    arguments = _Arguments(tf.as_dtype(f.activation_dtype))
    with tf.variable_scope("layer"):
      x, y = _call(arguments, model.encoder, step, rows, f)
    results = {"y": y}
    if step == "train":
      dy = arguments.add("dy", y.shape)
      variables = arguments.mesh.graph.trainable_variables
      inputs = {"x": x} | {v.name: v.outputs[0] for v in variables}
      grads = mtf.gradients([y], list(inputs.values()), [dy])
      results |= {
        f"d_{name}": grad
        for name, grad in zip(inputs, grads, strict=True)
        if grad is not None
      }
    impl = simd_mesh_impl.SimdMeshImpl("", "")
    lowering = mtf.Lowering(
      arguments.mesh.graph, {arguments.mesh: impl}, autostack=False
    )
    given = arguments.given + [
      (piece, dict(kind="variable", name=name))
      for name, (_, piece) in slices.arguments.items()
    ]
    tensors = [lowering.export_to_tf_tensor(t) for t in results.values()]
    hlo.write(graph, given, tensors, path)
  return {
    "arguments": [description for _, description in given],
    "results": [dict(kind="output", name=name) for name in results],
    "replicas": 1,
    "cores": [core],
    "loop": 1,
  }


def compile_layer(
  topology: str, core, step: str, rows: str, setting: models.Setting, f
) -> dict:
  """The compiler's figures for a layer; other arguments as in `write_layer`.

  Args:
    topology: as libtpu names it.

  Returns:
    what is compiled, "model" in words, "digest" of the program, and "estimate"
    from `client.compile_program`
  """
  model = " ".join([setting.variant, setting.gated_kernel]).strip()
  if setting.grid_rows:
    model += f" {setting.grid_rows}x{setting.grid_cols}"
  words = topology.replace(":", "_"), step, rows, setting.name
  with tempfile.TemporaryDirectory() as temporary:
    folder = os.path.join(f.keep, "-".join(words)) if f.keep else temporary
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "program.hlo")
    written = write_layer(step, rows, setting, core, path, f)
    cache = None if f.keep else f.cache
    return {
      "topology": topology,
      "step": step,
      "rows": rows,
      **{name: f[name].value for name in _CONFIG},
      **dataclasses.asdict(setting),
      "model": model,
      "digest": hlo.digest(path),
      "estimate": client.compile_program(topology, written, path, cache),
    }


def frame_of(records: list[dict]) -> pd.DataFrame:
  """The figures of records, which include vanilla's.

  Returns:
    one row each, in order: "topology", "step", "rows", "model", "contraction",
    "digest", "cycles" (millions), "temporaries" (MB), "flops" (billions), and
    "ratio" of the cycles to vanilla's
  """
  frame = pd.DataFrame(records)
  for column, scale in (("cycles", 1e6), ("flops", 1e9)):
    frame[column] = [e.get(column, _NONE) / scale for e in frame.estimate]
  frame["temporaries"] = [
    e["memory"]["temporaries"] / 1e6 if e["compiles"] else _NONE
    for e in frame.estimate
  ]
  vanilla = frame[frame.variant == _VANILLA].set_index(_CELL).cycles
  base = vanilla.reindex(pd.MultiIndex.from_frame(frame[_CELL]))
  frame["ratio"] = frame.cycles.to_numpy() / base.to_numpy()
  return frame


def table_of(frame: pd.DataFrame) -> pd.DataFrame:
  """Cycles relative to vanilla's: a row per cell and model, a column per order.

  The last columns say which order "auto" chooses, and which is cheapest.

  Args:
    frame: from `frame_of`.
  """
  gated = frame[frame.variant != _VANILLA]
  keys = [*_CELL, "model"]
  orders = [o for o in product.cost.CHOICES if o in set(gated.contraction)]

  def pivot(values):
    return gated.pivot(index=keys, columns="contraction", values=values)

  table = pivot("ratio")[orders]
  named = [order for order in orders if order != "auto"]
  if named and len(orders) > len(named):
    same = pivot("digest")[named].eq(pivot("digest")["auto"], axis=0)
    table["auto is"] = same.idxmax(axis=1).where(same.any(axis=1), "another")
    table["cheapest"] = pivot("ratio")[named].idxmin(axis=1)
  return table


def main(argv) -> None:
  """Compiles layer after layer, and prints the tables."""
  del argv
  tf.disable_v2_behavior()
  client.check(FLAGS.output)
  models.choose("steps", FLAGS.steps, _STEPS)
  models.choose("rows", FLAGS.rows, _ROWS)
  settings = models.settings(
    FLAGS.variants,
    FLAGS.grids,
    FLAGS.contraction or product.cost.CHOICES,
    kernels=FLAGS.gated_kernel,
  )
  cores = {topology: client.cores(topology)[0] for topology in FLAGS.topologies}
  records: list[dict] = []
  for (topology, core), step, rows, setting in itertools.product(
    cores.items(), FLAGS.steps, FLAGS.rows, settings
  ):
    try:
      records.append(compile_layer(topology, core, step, rows, setting, FLAGS))
    except errors.UserError as e:
      if str(e) == product.cost.cannot_serve_packed_rows(setting.contraction):
        continue
      raise
    last = frame_of(records).iloc[-1]
    console.say(
      f"{last.topology} {last.step} {last.rows} {last.model} "
      f"{last.contraction}: {last.cycles:.3f} million cycles "
      f"({last.ratio:.2f}), {last.temporaries:.1f} MB of temporaries, "
      f"{last.flops:.3f} billion FLOPs"
    )
    if FLAGS.output:
      files.write_json(FLAGS.output, records)
  table = table_of(frame_of(records))
  text = table.to_string(
    sparsify=False, float_format="{:.2f}".format, na_rep="-"
  )
  console.say(f"\ncycles relative to vanilla's\n{text}")
  if FLAGS.output:
    console.say(f"wrote {FLAGS.output}")


if __name__ == "__main__":
  console.run(main)
