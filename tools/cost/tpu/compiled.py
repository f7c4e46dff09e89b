"""The cost per core of a program compiled for a TPU.

Loop bodies count as often as they run; a fusion counts as one instruction, as
in the compiler's costs.
"""

import collections
import re

from tools.cost.tpu import hlo

_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)
_PRODUCTS = ("convolution", "dot")
# The part of the model that an instruction belongs to, by scope names.
_SCOPES = {
  "hypergrid": r"hypergrid",
  "feed-forward": r"DenseReluDense|DenseGated",
  "attention": r"Attention",
}


def costs(module, loop: int = 1) -> dict:
  """The cost per core of a compiled program.

  Args:
    module: from `hlo.read`.
    loop: as in `hlo.walk`.

  Returns:
    "instructions" that have a cost; "cycles" (the compiler's estimate; overlaps
    count twice) in total, "cycles_by_kind" and "cycles_by_scope"; "loop_cycles"
    of one pass of mtf's loop: a microbatch, or a decoding step; "collectives"
    ({kind: {"count", "bytes"}}, sent by a core in one step); "loops" ({"mtf",
    "other"})
  """
  fused = {
    c.id: {i.opcode for i in c.instructions} for c in module.computations
  }
  by_kind: collections.Counter[str] = collections.Counter()
  by_scope: collections.Counter[str] = collections.Counter()
  collectives: dict[str, dict[str, int]] = {}
  loops = {"mtf": 0, "other": 0}
  instructions = loop_cycles = 0
  for i, operands, often, in_loop in hlo.walk(module, loop):
    kind = re.sub("-(start|done)$", "", i.opcode)
    inside = {kind}.union(
      *(fused[c] for c in i.called_computation_ids if kind == "fusion")
    )
    if inside.intersection(_PRODUCTS):
      kind = "matrix product"
    if found := re.search(rb'"estimated_cycles":"(\d+)"', i.backend_config):
      cycles = int(found[1])
      instructions += 1
      loop_cycles += cycles * in_loop
      by_kind[kind] += cycles * often
      by_scope[_scope(i.metadata.op_name)] += cycles * often
    if kind in _COLLECTIVES and not i.opcode.endswith("-done"):
      of_kind = collectives.setdefault(kind, {"count": 0, "bytes": 0})
      of_kind["count"] += often
      of_kind["bytes"] += operands * often
    if i.opcode == "while":
      loops["mtf" if hlo.is_mtf_loop(i) else "other"] += 1
  return {
    "instructions": instructions,
    "cycles": by_kind.total(),
    "cycles_by_kind": dict(by_kind.most_common()),
    "cycles_by_scope": dict(by_scope.most_common()),
    "loop_cycles": loop_cycles,
    "collectives": collectives,
    "loops": loops,
  }


def _scope(name: str) -> str:
  return next((s for s, p in _SCOPES.items() if re.search(p, name)), "other")
