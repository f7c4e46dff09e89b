"""Reads the program that the compiler of a TPU made: costs, collectives.

Only what the entry reaches counts: the bodies of loops as often as they run,
and fusions as the compiler costs them, as one instruction.
"""

import collections
import dataclasses
import math
import re

_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)
_MATMUL = "matrix product"
# Where an instruction comes from, by the names of Mesh TensorFlow's scopes.
_SCOPES = {
  "hypergrid": r"hypergrid",
  "feed-forward": r"DenseReluDense|DenseGated",
  "attention": r"Attention",
}
_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "token": 0}  # others say it: f32, s8
# mtf.while_loop, as Mesh TensorFlow names it.
_LOOP = re.compile(r'op_name="[^"]*\bwhile_loop[^"]*while')


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  type: str
  opcode: str
  rest: str  # of the line: operands, attributes

  def called(self, attribute: str) -> str | None:
    found = re.search(rf"\b{attribute}=%?([\w.-]+)", self.rest)
    return found[1] if found else None

  def operands(self) -> list[str]:
    return re.findall(r"%([\w.-]+)", self.rest.partition(")")[0])

  def cycles(self) -> int | None:
    found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
    return int(found[1]) if found else None

  def group(self) -> int:
    """Devices that a collective joins; 0 where it does not say."""
    found = re.search(r"replica_groups=\{\{([\d,]+)\}", self.rest)
    if found:
      return found[1].count(",") + 1
    found = re.search(r"replica_groups=\[\d+,(\d+)\]<=", self.rest)
    return int(found[1]) if found else 0

  def scope(self) -> str:
    found = re.search(r'op_name="([^"]*)"', self.rest)
    name = found[1] if found else ""
    return next((s for s, p in _SCOPES.items() if re.search(p, name)), "other")


def _type_and_rest(text: str) -> tuple[str, str]:
  """Splits an instruction after its type, which may be a tuple of types."""
  if not text.startswith("("):
    kind, _, rest = text.partition(" ")
    return kind, rest
  depth = 0
  for i, letter in enumerate(text):
    depth += {"(": 1, ")": -1}.get(letter, 0)
    if not depth:
      return text[: i + 1], text[i + 2 :]
  raise ValueError(f"not an instruction: {text[:80]}")


def _parse(text: str) -> tuple[str, dict[str, list[_Instruction]]]:
  """The name of the entry, and the instructions of each computation."""
  current: list[_Instruction] = []
  entry, computations = "", {"": current}
  for line in text.splitlines():
    header = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
    if header:
      current = computations.setdefault(header[2], [])
      entry = header[2] if header[1] else entry
      continue
    found = re.match(r"\s+(?:ROOT )?%([\w.-]+) = (.*)", line)
    if found:
      kind, rest = _type_and_rest(found[2])
      opcode, _, rest = rest.partition("(")
      current.append(_Instruction(found[1], kind, opcode, rest))
  return entry, computations


def size_of(kind: str) -> int:
  """Bytes of a type as HLO writes it.

  Args:
    kind: "f32[8,16]{1,0}", or a tuple of such.
  """
  total = 0
  for name, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", kind):
    digits = re.sub(r"\D", "", name)
    each = _BYTES.get(name, int(digits or 8) // 8)
    total += each * math.prod(int(n) for n in sizes.split(",") if n)
  return total


def costs(text: str, loop: int = 1) -> dict:
  """What a compiled program costs a core.

  Args:
    text: the program as HLO.
    loop: how often mtf's while loop runs: microbatches, or decoding steps.
      Another loop, which the compiler made, counts as once.

  Returns:
    "instructions" that have a cost, "cycles" (estimated by the compiler; what
    overlaps is counted twice) in all and "cycles_by_kind", "cycles_by_scope",
    "loop_cycles" of mtf's loop once: a microbatch, or a step of decoding;
    "collectives" ({kind: {"count", "bytes"}}: sent by a core in one step) and
    "groups" ({kind: {cores that send to each other: bytes}}),
    "loops" ({"mtf", "other"})
  """
  entry, computations = _parse(text)
  times: collections.Counter[str] = collections.Counter()
  inside: collections.Counter[str] = collections.Counter()
  loops = collections.Counter({"mtf": 0, "other": 0})

  def reach(name, often, in_loop=0):
    times[name] += often
    inside[name] += in_loop
    for i in computations[name]:
      called, each, each_inside = [], often, in_loop
      if i.opcode == "while":
        called = [i.called("body"), i.called("condition")]
        of_mtf = bool(_LOOP.search(i.rest))
        loops["mtf" if of_mtf else "other"] += 1
        if of_mtf:
          each, each_inside = each * loop, 1
      elif i.opcode in ("call", "async-start"):
        called = [i.called("to_apply") or i.called("calls")]
      for c in called:
        if c in computations:
          reach(c, each, each_inside)

  reach(entry, 1)
  by_kind: collections.Counter[str] = collections.Counter()
  by_scope: collections.Counter[str] = collections.Counter()
  sent: dict[str, dict[str, int]] = {}
  groups: dict[str, dict[str, int]] = {}
  instructions = loop_cycles = 0
  for name in times:
    types = {i.name: i.type for i in computations[name]}
    for i in computations[name]:
      cycles = i.cycles()
      kind = _kind(i, computations)
      if cycles is not None:
        instructions += 1
        by_kind[kind] += cycles * times[name]
        by_scope[i.scope()] += cycles * times[name]
        loop_cycles += cycles * inside[name]
      if kind in _COLLECTIVES and not i.opcode.endswith("-done"):
        size = sum(size_of(types.get(o, "")) for o in i.operands())
        of_kind = sent.setdefault(kind, {"count": 0, "bytes": 0})
        of_kind["count"] += times[name]
        of_kind["bytes"] += size * times[name]
        of_size = groups.setdefault(kind, {})
        cores = str(i.group())
        of_size[cores] = of_size.get(cores, 0) + size * times[name]
  return {
    "instructions": instructions,
    "cycles": by_kind.total(),
    "cycles_by_kind": dict(by_kind.most_common()),
    "cycles_by_scope": dict(by_scope.most_common()),
    "loop_cycles": loop_cycles,
    "collectives": sent,
    "groups": groups,
    "loops": dict(loops),
  }


def _kind(instruction, computations) -> str:
  """The opcode; a fusion by what is inside."""
  opcode = re.sub("-(start|done)$", "", instruction.opcode)
  if opcode in ("convolution", "dot"):
    return _MATMUL
  if opcode == "fusion":
    inside = computations.get(instruction.called("calls"), ())
    if any(i.opcode in ("convolution", "dot") for i in inside):
      return _MATMUL
  return opcode
