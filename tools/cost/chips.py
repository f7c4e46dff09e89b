"""Public data of TPU chips (clock, memory, links), and estimates from them.

Clocks, memories and links of v2 to v4 are those of Jouppi et al., "A
Domain-Specific Supercomputer for Training Deep Neural Networks" (CACM 2020) and
"TPU v4: An Optically Reconfigurable Supercomputer for Machine Learning" (ISCA
2023); of v5e, v5p and v6e those of cloud.google.com/tpu/docs, where the clock
is computed from peak FLOPs and matrix units.
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
    link: bytes per second of a link, each way.
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
    topology: libtpu's name: "v3:4x8".
    cores: coordinates [x, y, z, core on its chip].
  """

  topology: str
  cores: list[list[int]]

  @property
  def chip(self) -> Chip:
    """The kind of chip."""
    return CHIPS[self.topology.partition(":")[0]]

  @property
  def per_chip(self) -> int:
    """Cores per chip that are separate devices."""
    return 1 + max(core for *_, core in self.cores)

  @property
  def chips(self) -> int:
    """The number of chips."""
    return len(self.cores) // self.per_chip

  @property
  def hbm(self) -> float:
    """Bytes of memory per core."""
    return self.chip.hbm / self.per_chip

  @property
  def ring(self) -> float:
    """Bytes per second that a core sends into a ring, in both directions.

    A ring uses one dimension of the torus: two links per chip, shared by the
    chip's cores.
    """
    return 2 * self.chip.link / self.per_chip


def make_slice(topology: str, cores) -> Slice:
  """Makes a Slice of a known kind of chip.

  Args:
    topology: libtpu's name.
    cores: a function that returns its cores.

  Raises:
    UserError: for an unknown kind.
  """
  if topology.partition(":")[0] not in CHIPS:
    raise errors.UserError(
      f"--topology={topology} does not begin with any of {', '.join(CHIPS)}: "
      "give a kind and its chips, such as v3:2x2, v3:4x8 or v4:2x2x1."
    )
  return Slice(topology, cores(topology))


# Bytes over the links of each of n cores, per byte that it contributes.
_PASSED = {
  "all-reduce": lambda n: 2 * (n - 1) / n,
  "all-to-all": lambda n: (n - 1) / n,
  "collective-permute": lambda n: 1,
}


def send_seconds(by_axis: dict, mesh: dict[str, int], slice_: Slice) -> float:
  """Seconds of the collectives of a step.

  Args:
    by_axis: from `sent.count_by_axis`.
    mesh: {axis: size}.
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
    found: from `plan.measure`, or extrapolated from two of them.
    mesh: {axis: size}.
    slice_: the chips.

  Returns:
    "fits" and, if it compiles, "needs" (bytes per core) and "step_seconds"
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
  """The assumptions behind the times, as sentences."""
  chip = slice_.chip
  return [
    "cycles are the compiler's estimates, summed over instructions; a loop's "
    "body counts as often as it runs, overlapping work counts twice, and a "
    "loop made by the compiler counts once",
    f"a core runs at {chip.clock / 1e6:.0f} MHz",
    "a collective moves its bytes around a ring of the torus at "
    f"{slice_.ring / 1e9:.0f} GB/s per core (two links of "
    f"{chip.link / 1e9:.0f} GB/s per chip, shared by {slice_.per_chip} "
    "core(s)), and nothing is computed meanwhile",
    "input pipeline, checkpoints and evaluation take no time",
    f"a core has {slice_.hbm / 2**30:.1f} GiB of memory, which also holds the "
    "program",
  ]
