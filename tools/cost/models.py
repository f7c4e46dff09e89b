"""The models of a comparison; imports none of the libraries."""

import dataclasses
import itertools
import os
import re

from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files

flags.disclaim_key_flags()  # --help shows them as the calling program's

VOCAB_SIZE = 32100  # the public vocabulary with its 100 sentinels
VARIANTS = ("L2", "LG", "GL", "row", "col", "GG")  # as in `gate`
PEERS = tuple(  # as in peers/
  name.removesuffix(".gin")
  for name in sorted(os.listdir(os.path.join(gin_files.folder(), "peers")))
  if name != "frozen.gin"
)
STACKS = ("both", "encoder", "decoder")


def sizes() -> list[str]:
  """The available model sizes, sorted."""
  names = os.listdir(os.path.join(gin_files.folder(), "models"))
  return sorted(n.removesuffix(".gin") for n in names if n.endswith(".gin"))


@dataclasses.dataclass(frozen=True)
class Setting:
  """One model: vanilla T5, or HyperGrid with the settings that change its cost.

  Attributes:
    variant: a file of operative_configs/hypergrid or peers.
    grid_rows: grid rows; 0 for those of the gin files.
    grid_cols: grid columns; 0 for those of the gin files.
    contraction: HyperGrid.contraction, or "auto".
    stacks: which stacks are gated, one of STACKS.
    gated_kernel: HyperGrid.gated_kernel; empty for that of the gin files.
  """

  variant: str = "vanilla"
  grid_rows: int = 0
  grid_cols: int = 0
  contraction: str = "auto"
  stacks: str = "both"
  gated_kernel: str = ""

  @property
  def name(self) -> str:
    """The model's name in tables and file names."""
    parts = [self.variant]
    if self.gated_kernel:
      parts.append(self.gated_kernel)
    if self.grid_rows:
      parts.append(f"{self.grid_rows}x{self.grid_cols}")
    if self.contraction != "auto":
      parts.append(self.contraction)
    if self.stacks != "both":
      parts.append(f"{self.stacks}_only")
    return "-".join(parts)

  @property
  def gin_files(self) -> list[str]:
    """The values of --gin_file after the model's."""
    folder = "peers" if self.variant in PEERS else "hypergrid"
    files = [f"{folder}/{self.variant}.gin"]
    if self.stacks != "both":
      files.append(f"hypergrid/{self.stacks}_only.gin")
    return files

  @property
  def gin_params(self) -> list[str]:
    """The values of --gin_param."""
    bound: dict[str, int | str] = {}
    if self.grid_rows:
      bound.update(grid_rows=self.grid_rows, grid_cols=self.grid_cols)
    if self.contraction != "auto":
      bound.update(contraction=self.contraction)
    if self.gated_kernel:
      bound.update(gated_kernel=self.gated_kernel)
    return [f"HyperGrid.{name} = {value!r}" for name, value in bound.items()]


VANILLA = Setting()
KNOWN = (VANILLA.variant, *VARIANTS, *PEERS)


def define_size(size: str, activation_dtype: str) -> None:
  """Defines the flags of a model; arguments are defaults."""
  flags.DEFINE_enum("size", size, sizes(), "A file of models/.")
  flags.DEFINE_enum(
    "activation_dtype",
    activation_dtype,
    ["bfloat16", "float32"],
    "As in t5: float32 on a CPU, bfloat16 on a TPU.",
  )


def define_compared(variants: list[str]) -> None:
  """Defines the flags of compared models; the argument is a default."""
  flags.DEFINE_list("variants", variants, "Models to compare with vanilla.")
  flags.DEFINE_list("grids", [], "ROWSxCOLUMNS, …; by default the gin files'.")
  flags.DEFINE_list("gated_kernel", [], "HyperGrid.gated_kernel, one or more.")


def choose(flag: str, values, known) -> None:
  """Raises UserError for the first unknown value of a flag."""
  if not values:
    raise errors.UserError(
      f"--{flag}= is empty: choose from {', '.join(known)}."
    )
  for value in values:
    if value not in known:
      raise errors.UserError(
        f"--{flag}={value} is unknown: choose from {', '.join(known)}."
      )


def positive(flag: str, text: str) -> int:
  """Parses one value of a flag as a positive integer, or raises UserError."""
  text = text.strip()
  if not text.isdecimal() or int(text) < 1:
    raise errors.UserError(
      f"--{flag}={text} must be a positive integer, or several separated by "
      "commas."
    )
  return int(text)


def parse_grid(flag: str, text: str) -> tuple[int, int]:
  """Parses the rows and columns of a grid, or raises UserError."""
  match = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", text)
  if not match:
    raise errors.UserError(
      f"--{flag}={text} is not a grid: give ROWSxCOLUMNS, such as 16x16."
    )
  return int(match[1]), int(match[2])


def settings(
  variants, grids=(), contractions=(), stacks=(), kernels=()
) -> list[Setting]:
  """Every combination once, vanilla first.

  Args:
    variants: of VARIANTS; vanilla is always included.
    grids: of "ROWSxCOLUMNS"; for this and the following, empty means as in the
      gin files.
    contractions: of HyperGrid.contraction.
    stacks: of STACKS.
    kernels: of HyperGrid.gated_kernel.

  Raises:
    UserError: for an unknown variant, stack or a malformed grid.
  """
  choose("variants", variants, KNOWN)
  choose("stacks", stacks or STACKS, STACKS)
  found = [
    Setting(variant, *grid, contraction, stack, kernel)
    for variant, grid, contraction, stack, kernel in itertools.product(
      [v for v in variants if v != VANILLA.variant],
      [parse_grid("grids", text) for text in grids] or [(0, 0)],
      contractions or ["auto"],
      stacks or ["both"],
      kernels or [""],
    )
  ]
  return list(dict.fromkeys([VANILLA, *found]))
