"""What a program sends as written, before the TPU's compiler changes it."""

import json

import numpy as np

from tools.cost.tpu import compiler, hlo

# Their names in a compiled program.
_KINDS = {
  compiler.ALL_REDUCE: "all-reduce",
  compiler.ALL_TO_ALL: "all-to-all",
  compiler.PERMUTE: "collective-permute",
}


def count_by_axis(path: str, written: dict) -> dict[str, dict[str, int]]:
  """Counts the bytes sent along each set of mesh axes.

  Args:
    path: of the HLO.
    written: its description from `program.write`.

  Returns:
    {kind: {axes joined by "+": bytes that a core contributes per step}}
  """
  axes = dict(written["mesh"])
  found: dict[str, dict[str, int]] = {}
  for i, operands, often, _ in hlo.walk(hlo.read(path), written["loop"]):
    if i.custom_call_target not in _KINDS:
      continue
    config = json.loads(i.backend_config)
    groups = config["groups"] if isinstance(config, dict) else config
    numbers = [written["logical"][replica] for replica in groups[0]]
    places = np.unravel_index(numbers, list(axes.values()))
    along = [n for n, at in zip(axes, places, strict=True) if at.ptp()]
    of_kind = found.setdefault(_KINDS[i.custom_call_target], {})
    name = "+".join(along)
    of_kind[name] = of_kind.get(name, 0) + operands * often
  return found
