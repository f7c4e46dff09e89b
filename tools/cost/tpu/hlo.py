"""XLA programs (HLO): writes them from a graph, reads and walks them."""

import hashlib
import math
import re
from collections.abc import Iterator

import tensorflow as tf2
import tensorflow.compat.v1 as tf
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2
from tensorflow.python.eager import context as eager

_CALLS = ("while", "call", "async-start")


def write(graph, arguments, results, path) -> list[dict]:
  """Writes the HLO that computes some tensors of a graph from others.

  Args:
    graph: a tf.Graph.
    arguments: [(placeholder, description)].
    results: tensors of the graph.
    path: of the file.

  Returns:
    descriptions of further arguments: variables on the host that t5 reads,
      which is the step counter.
  """
  names_in = [t.op.name for t, _ in arguments]
  names_out = [t.name for t in results]
  nodes = tf.graph_util.extract_sub_graph(
    graph.as_graph_def(), sorted({n.split(":")[0] for n in names_out})
  )
  kept, hosted = [], {}
  for node in nodes.node:
    node.device = ""
    node.attr.pop("_class", None)
    if node.op == "ReadVariableOp":
      handle = node.input[0].split(":")[0]
      kind = tf.as_dtype(node.attr["dtype"].type)
      shape = graph.get_tensor_by_name(f"{node.name}:0").shape
      hosted[handle] = tf2.TensorSpec(shape, kind, name=handle)
      # Reads the argument that replaces the variable.
      del node.input[:]
      node.input.append(f"{handle}_argument")
      node.op = "Identity"
      node.attr.clear()
      node.attr["T"].type = kind.as_datatype_enum
    kept.append(node)
  drop = {*names_in, *hosted}
  kept = [n for n in kept if n.name not in drop]
  del nodes.node[:]
  nodes.node.extend(kept)
  reads = {i.split(":")[0].lstrip("^") for n in kept for i in n.input}
  inputs = [*names_in, *(f"{h}_argument" for h in hosted)]

  def program(*args):
    given = dict(zip(inputs, args, strict=True))
    return tf.graph_util.import_graph_def(
      nodes,
      input_map={f"{n}:0": a for n, a in given.items() if n in reads},
      return_elements=names_out,
      name="",
    )

  signature = [tf2.TensorSpec(t.shape, t.dtype) for t, _ in arguments]
  signature += [tf2.TensorSpec(s.shape, s.dtype) for s in hosted.values()]
  with eager.eager_mode():
    function = tf2.function(
      program, jit_compile=True, input_signature=signature
    )
    hlo = function.experimental_get_compiler_ir(*signature)(
      stage="hlo_serialized", device_name="/device:CPU:0"
    )
  with open(path, "wb") as f:
    f.write(hlo)
  return [
    dict(
      kind="host variable",
      name=s.name,
      shape=s.shape.as_list(),
      dtype=s.dtype.name,
    )
    for s in hosted.values()
  ]


def read(path: str) -> hlo_pb2.HloModuleProto:
  """Reads a program written by `write` or the compiler."""
  with open(path, "rb") as f:
    return hlo_pb2.HloModuleProto.FromString(f.read())


def is_mtf_loop(instruction) -> bool:
  """Whether an instruction is mtf.while_loop, by its name."""
  name = instruction.metadata.op_name
  is_named = re.search(r"\bwhile_loop.*while", name) is not None
  return instruction.opcode == "while" and is_named


def walk(module: hlo_pb2.HloModuleProto, loop: int) -> Iterator[tuple]:
  """Yields the instructions that a program runs; a fusion is one.

  Args:
    module: from `read`.
    loop: how often mtf's while loop runs: microbatches, or decoding steps.
      Loops made by the compiler count once.

  Yields:
    (instruction, bytes of its operands, how often it runs, how often in one
    pass of mtf's loop)
  """
  computations = {c.id: c.instructions for c in module.computations}

  def reach(computation: int, often: int, in_loop: int):
    sizes = {i.id: num_bytes(i.shape) for i in computations[computation]}
    for i in computations[computation]:
      yield i, sum(sizes[o] for o in i.operand_ids), often, in_loop
      inside = (often * loop, 1) if is_mtf_loop(i) else (often, in_loop)
      for called in i.called_computation_ids if i.opcode in _CALLS else ():
        yield from reach(called, *inside)

  yield from reach(module.entry_computation_id, 1, 0)


def num_bytes(shape: xla_data_pb2.ShapeProto) -> int:
  """Bytes of an array, or of all arrays of a tuple."""
  name = xla_data_pb2.PrimitiveType.Name(shape.element_type)
  bits = 8 if name == "PRED" else int(re.sub(r"\D", "", name) or 0)
  size = math.prod(shape.dimensions) * bits // 8
  return size + sum(map(num_bytes, shape.tuple_shapes))


def digest(path: str) -> str:
  """A hash of a program without names, since TensorFlow numbers them."""
  module = read(path)
  for field in ("name", "entry_computation_name", "id"):
    module.ClearField(field)
  for computation in module.computations:
    computation.name = ""
  return hashlib.sha256(module.SerializeToString(True)).hexdigest()
