"""From what the compiler says to a step time, hours and a price."""

import dataclasses

from tools.cost.plan import chips, run


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What no compiler knows.

  Attributes:
    utilisation: of the estimated speed that a real run reaches, 0 to 1.
    price: of a chip and hour; None for no prices.
    steps: of the whole run; None for no hours.
  """

  utilisation: float = 1.0
  price: float | None = None
  steps: int | None = None


def assumptions(slice_: chips.Slice, inputs: Inputs) -> list[str]:
  """What the times rest on, as sentences.

  Args:
    slice_: the chips.
    inputs: what was given.
  """
  chip = slice_.chip
  return [
    "cycles are the compiler's estimates, summed over instructions; a loop's "
    "body counts as often as it runs, and what overlaps counts twice",
    f"a core runs at {chip.clock / 1e6:.0f} MHz",
    "a collective moves its bytes round a ring of the torus at "
    f"{slice_.ring / 1e9:.0f} GB/s a core (two links of "
    f"{chip.link / 1e9:.0f} GB/s a chip, shared by {slice_.per_chip} core(s)), "
    "and nothing is computed meanwhile",
    f"a run reaches {inputs.utilisation:.0%} of that speed (--utilisation)",
    "input pipeline, checkpoints and evaluation take no time",
    f"a core has {slice_.hbm / 2**30:.1f} GiB of memory, and the program "
    "itself lies there too",
  ]


def communication(groups: dict, slice_: chips.Slice) -> float:
  """Seconds of the collectives of a step.

  Args:
    groups: of `compiled.costs`.
    slice_: the chips.
  """
  seconds = 0.0
  for kind, sizes in groups.items():
    for size, sent in sizes.items():
      n = int(size) or len(slice_.cores)
      # Bytes that pass a core's links, for each byte that it puts in.
      passed = {
        "all-reduce": 2 * (n - 1) / n,
        "all-gather": n - 1,
        "reduce-scatter": (n - 1) / n,
        "all-to-all": (n - 1) / n,
      }.get(kind, 1.0)
      seconds += sent * passed / slice_.ring
  return seconds


def of(
  found: dict,
  chosen: run.Candidate,
  lengths: dict[str, int],
  slice_: chips.Slice,
  inputs: Inputs,
) -> dict:
  """Whether a candidate fits, and what it takes.

  Args:
    found: of `programs.measure` or `programs.extrapolate`.
    chosen: the candidate.
    lengths: tokens of a row.
    slice_: the chips.
    inputs: what was given.

  Returns:
    `found` with "fits"; and, where it compiles, "needs" (bytes a core),
    "step_seconds" {"compute", "collectives", "step"}, "tokens_per_second",
    "mfu" (share of the chips' peak that matrix products reach), "hours",
    "price"
  """
  if not found["compiles"]:
    return found | {"fits": False}
  memory = found["memory"]
  needs = memory["peak"] + memory["program"]
  compute = found["cycles"] / slice_.chip.clock
  sent = communication(found["groups"], slice_)
  step = (compute + sent) / inputs.utilisation
  tokens = chosen.batch * sum(lengths.values())
  answer = found | {
    "needs": needs,
    "fits": needs <= slice_.hbm,
    "step_seconds": {"compute": compute, "collectives": sent, "step": step},
    "tokens_per_second": tokens / step,
    "mfu": found["matmul_flops"] / (step * slice_.chip.peak / slice_.per_chip),
  }
  if inputs.steps:
    answer["hours"] = inputs.steps * step / 3600
    if inputs.price is not None:
      answer["price"] = answer["hours"] * slice_.chips * inputs.price
  return answer


def cheapest(candidates: list[dict], model: str) -> int | None:
  """The number of the candidate that fits and is cheapest a token.

  All have the same chips, so it is the one of most tokens a second.

  Args:
    candidates: with "models" {name: of `of`}.
    model: whose.
  """
  fitting = [
    (-c["models"][model]["tokens_per_second"], i)
    for i, c in enumerate(candidates)
    if c["models"].get(model, {}).get("fits")
  ]
  return min(fitting)[1] if fitting else None
