"""What a program sends, as it was written, before the TPU's compiler saw it."""

import json
import math
from collections.abc import Iterator

import numpy as np
from tensorflow.compiler.xla import xla_data_pb2

from tools.cost.tpu import compiled, compiler, hlo

# A compiled program names them so.
_KINDS = {
  compiler.ALL_REDUCE: "all-reduce",
  compiler.ALL_TO_ALL: "all-to-all",
  compiler.PERMUTE: "collective-permute",
}


def _marked(path: str, loop: int) -> Iterator[tuple[str, bytes, int, int]]:
  """The marked collectives of a program: kind, config, bytes, how often."""
  module = hlo.read(path)
  computations = {c.id: c for c in module.computations}

  def reach(computation: int, often: int):
    shapes = {i.id: i.shape for i in computations[computation].instructions}
    for i in computations[computation].instructions:
      if i.opcode == "custom-call" and i.custom_call_target in _KINDS:
        kind = _KINDS[i.custom_call_target]
        size = sum(_bytes(shapes[operand]) for operand in i.operand_ids)
        yield kind, i.backend_config, size, often
      for called in i.called_computation_ids:
        yield from reach(called, often * (loop if i.opcode == "while" else 1))

  yield from reach(module.entry_computation_id, 1)


def count_by_axis(path: str, written: dict) -> dict[str, dict[str, int]]:
  """What goes along which axes of the mesh.

  Args:
    path: of the HLO.
    written: what `program.write` said of it.

  Returns:
    {kind: {axes joined by "+": bytes that a core puts in, in one step}}
  """
  axes = written["mesh"]
  found: dict[str, dict[str, int]] = {}
  for kind, config, size, often in _marked(path, written["loop"]):
    groups = json.loads(config)
    groups = groups["groups"] if isinstance(groups, dict) else groups
    numbers = [written["logical"][replica] for replica in groups[0]]
    places = np.unravel_index(numbers, [n for _, n in axes])
    along = [
      name
      for (name, _), at in zip(axes, places, strict=True)
      if len(set(at.tolist())) > 1
    ]
    of_kind = found.setdefault(kind, {})
    name = "+".join(along)
    of_kind[name] = of_kind.get(name, 0) + size * often
  return found


def _bytes(shape: xla_data_pb2.ShapeProto) -> int:
  name = xla_data_pb2.PrimitiveType.Name(shape.element_type).lower()
  return math.prod(shape.dimensions) * compiled.size_of(f"{name}[]")
