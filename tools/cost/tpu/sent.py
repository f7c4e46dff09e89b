"""What a program sends, as it was written, before the TPU's compiler saw it."""

import math

from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2

from tools.cost.tpu import compiled, compiler

# A compiled program names them so.
_KINDS = {
  compiler.ALL_REDUCE: "all-reduce",
  compiler.ALL_TO_ALL: "all-to-all",
  compiler.PERMUTE: "collective-permute",
}


def count(path: str, loop: int = 1) -> dict[str, dict[str, int]]:
  """Counts the marked collectives of a program.

  Args:
    path: of its HLO, from `program.write`.
    loop: how often the loop of Mesh TensorFlow runs.

  Returns:
    {kind: {"count", "bytes"}}: of one step, bytes that a core puts in
  """
  with open(path, "rb") as f:
    module = hlo_pb2.HloModuleProto.FromString(f.read())
  computations = {c.id: c for c in module.computations}
  found: dict[str, dict[str, int]] = {}

  def reach(computation: int, often: int) -> None:
    shapes = {i.id: i.shape for i in computations[computation].instructions}
    for i in computations[computation].instructions:
      if i.opcode == "custom-call" and i.custom_call_target in _KINDS:
        kind = _KINDS[i.custom_call_target]
        of_kind = found.setdefault(kind, {"count": 0, "bytes": 0})
        of_kind["count"] += often
        size = sum(_bytes(shapes[operand]) for operand in i.operand_ids)
        of_kind["bytes"] += size * often
      for called in i.called_computation_ids:
        reach(called, often * (loop if i.opcode == "while" else 1))

  reach(module.entry_computation_id, 1)
  return found


def _bytes(shape: xla_data_pb2.ShapeProto) -> int:
  name = xla_data_pb2.PrimitiveType.Name(shape.element_type).lower()
  return math.prod(shape.dimensions) * compiled.size_of(f"{name}[]")
