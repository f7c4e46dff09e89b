"""The models of a comparison."""

import dataclasses
import itertools
import os
import re

from hypergrid_mtf import errors, projection
from hypergrid_mtf.launch import gin_files

VANILLA = "vanilla"
STACKS = ("both", "encoder", "decoder")


def sizes() -> list[str]:
  """The sizes of models there are, sorted."""
  names = os.listdir(os.path.join(gin_files.folder(), "models"))
  return sorted(n.removesuffix(".gin") for n in names if n.endswith(".gin"))


@dataclasses.dataclass(frozen=True)
class Gating:
  """One model of a comparison.

  Attributes:
    variant: "vanilla" or one of projection.VARIANTS.
    grid: "ROWSxCOLUMNS", or None for that of the gin files.
    contraction: HyperGrid.contraction, or None for the layer's own.
    stack: one of STACKS.
    gated_kernel: HyperGrid.gated_kernel, or None for that of the gin files.
  """

  variant: str = VANILLA
  grid: str | None = None
  contraction: str | None = None
  stack: str = "both"
  gated_kernel: str | None = None

  def gin_files(self) -> list[str]:
    """What is given to --gin_file after the model."""
    files = [f"hypergrid/{self.variant}.gin"]
    if self.stack != "both":
      files.append(f"hypergrid/{self.stack}_only.gin")
    return files

  def bindings(self) -> list[str]:
    """What is given to --gin_param."""
    bound = {}
    if self.grid:
      rows, cols = self.grid.split("x")
      bound.update(grid_rows=int(rows), grid_cols=int(cols))
    for name in ("contraction", "gated_kernel"):
      if getattr(self, name):
        bound[name] = getattr(self, name)
    return [f"HyperGrid.{name} = {value!r}" for name, value in bound.items()]

  def name(self) -> str:
    """A short name, of what was asked for."""
    parts = [self.variant, self.gated_kernel, self.grid, self.contraction]
    parts.append(f"{self.stack} only" if self.stack != "both" else None)
    return " ".join(p for p in parts if p)


def gatings(
  variants, grids=None, contractions=None, stacks=None, kernels=None
) -> list[Gating]:
  """Every combination, vanilla first.

  Args:
    variants: of projection.VARIANTS.
    grids: of "ROWSxCOLUMNS"; this and the following: None or empty for what
      the gin files say.
    contractions: of HyperGrid.contraction.
    stacks: of STACKS.
    kernels: of HyperGrid.gated_kernel.

  Returns:
    a list of Gating

  Raises:
    UserError: for an unknown variant, stack or a malformed grid.
  """
  for flag, given, known in (
    ("variants", variants, (VANILLA, *projection.VARIANTS)),
    ("stacks", stacks or (), STACKS),
  ):
    for value in given:
      if value not in known:
        raise errors.UserError(
          f"--{flag}={value} is unknown: choose from {', '.join(known)}."
        )
  for grid in grids or ():
    if not re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", grid):
      raise errors.UserError(
        f"--grids={grid} is no grid: give ROWSxCOLUMNS, such as 16x16."
      )
  return [Gating()] + [
    Gating(*choice)
    for choice in itertools.product(
      [v for v in variants if v != VANILLA],
      grids or [None],
      contractions or [None],
      stacks or ["both"],
      kernels or [None],
    )
  ]
