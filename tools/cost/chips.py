"""What is public about the chips (clock, memory, links), and what follows.

Clocks, memories and links of v2 to v4 are those of Jouppi et al., "A
Domain-Specific Supercomputer for Training Deep Neural Networks" (CACM 2020) and
"TPU v4: An Optically Reconfigurable Supercomputer for Machine Learning" (ISCA
2023); of v5e, v5p and v6e those of cloud.google.com/tpu/docs, where the clock
follows from peak FLOPs and the matrix units.
"""

import dataclasses
import math

from hypergrid_mtf import errors


@dataclasses.dataclass(frozen=True)
class Chip:
  """A kind of chip.

  Attributes:
    clock: in Hz.
    units: matrix units of the chip, each of `side` × `side` multipliers.
    side: of a matrix unit.
    hbm: bytes of the chip's memory.
    links: to other chips.
    link: bytes a second of a link, each way.
  """

  clock: float
  units: int
  side: int
  hbm: float
  links: int
  link: float

  @property
  def peak(self) -> float:
    """Peak FLOP/s of the chip in bfloat16."""
    return 2.0 * self.units * self.side**2 * self.clock


_GIB = 2.0**30
CHIPS = {
  "v2": Chip(0.70e9, 2, 128, 16 * _GIB, 4, 62e9),
  "v3": Chip(0.94e9, 4, 128, 32 * _GIB, 4, 82e9),
  "v4": Chip(1.05e9, 8, 128, 32 * _GIB, 6, 50e9),
  "v5e": Chip(1.50e9, 4, 128, 16 * _GIB, 4, 50e9),
  "v5p": Chip(1.75e9, 8, 128, 95 * _GIB, 6, 100e9),
  "v6e": Chip(1.75e9, 4, 256, 32 * _GIB, 4, 112e9),
}


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips that are rented together.

  Attributes:
    topology: as libtpu names it: "v3:4x8".
    cores: coordinates [x, y, z, core on its chip].
  """

  topology: str
  cores: list[list[int]]

  @property
  def chip(self) -> Chip:
    """Its kind."""
    return CHIPS[self.topology.partition(":")[0]]

  @property
  def per_chip(self) -> int:
    """Cores of a chip that are a device of their own."""
    return 1 + max(core for *_, core in self.cores)

  @property
  def chips(self) -> int:
    """How many chips there are."""
    return len(self.cores) // self.per_chip

  @property
  def hbm(self) -> float:
    """Bytes of memory a core."""
    return self.chip.hbm / self.per_chip

  @property
  def ring(self) -> float:
    """Bytes a second that a core sends into a ring, both ways.

    A ring takes one dimension of the torus, two links of each chip, which the
    cores of the chip share.
    """
    return 2 * self.chip.link / self.per_chip


def make_slice(topology: str, cores) -> Slice:
  """A topology whose clock and memory are known.

  Args:
    topology: as libtpu names it.
    cores: a function that gives its cores.

  Raises:
    UserError: for another one.
  """
  if topology.partition(":")[0] not in CHIPS:
    raise errors.UserError(
      f"--topology={topology} begins with none of {', '.join(CHIPS)}: give a "
      "kind and its chips, such as v3:2x2, v3:4x8 or v4:2x2x1."
    )
  return Slice(topology, cores(topology))


# Bytes that pass the links of one of n cores, for each byte that it puts in.
_PASSED = {
  "all-reduce": lambda n: 2 * (n - 1) / n,
  "all-to-all": lambda n: (n - 1) / n,
  "collective-permute": lambda n: 1,
}


def send_seconds(by_axis: dict, mesh: dict[str, int], slice_: Slice) -> float:
  """Seconds of the collectives of a step.

  Args:
    by_axis: of `sent.count_by_axis`.
    mesh: {axis: its size}.
    slice_: the chips.
  """
  return (
    sum(
      size * _PASSED[kind](math.prod(mesh[a] for a in axes.split("+") if a))
      for kind, of_kind in by_axis.items()
      for axes, size in of_kind.items()
    )
    / slice_.ring
  )


def estimate(found: dict, mesh: dict[str, int], slice_: Slice) -> dict:
  """Whether a program fits, and how long a step of it takes.

  Args:
    found: of `plan.measure`, or a line through two of them.
    mesh: {axis: its size}.
    slice_: the chips.

  Returns:
    "fits" and, where it compiles, "needs" (bytes a core) and "step_seconds"
    {"compute", "collectives", "step"}
  """
  if not found["compiles"]:
    return {"fits": False}
  needs = found["memory"]["peak"] + found["memory"]["program"]
  compute = found["cycles"] / slice_.chip.clock
  sent = send_seconds(found["by_axis"], mesh, slice_)
  seconds = dict(compute=compute, collectives=sent, step=compute + sent)
  fits = needs <= slice_.hbm
  return {"needs": needs, "fits": fits, "step_seconds": seconds}


def assumptions(slice_: Slice) -> list[str]:
  """What the times rest on, as sentences."""
  chip = slice_.chip
  return [
    "cycles are the compiler's estimates, summed over instructions; a loop's "
    "body counts as often as it runs, and what overlaps counts twice; a loop "
    "that the compiler made itself counts once",
    f"a core runs at {chip.clock / 1e6:.0f} MHz",
    "a collective moves its bytes round a ring of the torus at "
    f"{slice_.ring / 1e9:.0f} GB/s a core (two links of "
    f"{chip.link / 1e9:.0f} GB/s a chip, shared by {slice_.per_chip} core(s)), "
    "and nothing is computed meanwhile",
    "input pipeline, checkpoints and evaluation take no time",
    f"a core has {slice_.hbm / 2**30:.1f} GiB of memory, and the program "
    "itself lies there too",
  ]
