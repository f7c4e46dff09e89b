"""What the benchmark measures: cases, and the features they step on."""

import dataclasses

import numpy as np

from tools.cost import models

# Cases by name; batch, inputs and targets (output tokens for `decode`) are what
# the project states its costs for.
DEFAULTS = {
  "train": (4, 512, 64),
  "train_packed": (4, 512, 64),
  "eval": (4, 512, 64),
  "decode": (16, 64, 16),
}
EOS_ID = 1
_FIRST_ID = 3  # below are padding, EOS and the unknown piece


@dataclasses.dataclass(frozen=True)
class Case:
  """One kind of step on one shape.

  Attributes:
    name: a key of DEFAULTS.
    batch: rows.
    inputs: input tokens a row.
    targets: target tokens a row; for `decode`, tokens that are generated.
    examples_per_row: 1, or how many are packed into a row.
  """

  name: str
  batch: int
  inputs: int
  targets: int
  examples_per_row: int = 1

  @property
  def examples(self) -> int:
    """Examples a step."""
    return self.batch * self.examples_per_row

  @property
  def label(self) -> str:
    """The case as a file name can have it."""
    return f"{self.name}-{self.batch}x{self.inputs}x{self.targets}"


def features(case: Case, seed: int = 0) -> dict[str, np.ndarray]:
  """Random token ids in the form in which t5 feeds them.

  Rows are full, since Mesh TensorFlow computes padding too. Examples end in
  EOS. A packed row holds examples of random lengths, and a little padding.

  Args:
    case: gives the shapes.
    seed: of the random numbers.

  Returns:
    {feature: int32 [batch, length]}: `inputs`; but for decoding `targets`; if
    packed, `<feature>_segmentation` (1, 2, …; 0 is padding) and
    `<feature>_position`.
  """
  rng = np.random.default_rng(seed)
  lengths = {"inputs": case.inputs, "targets": case.targets}
  if case.name == "decode":
    del lengths["targets"]
  result = {}
  for name, length in lengths.items():
    ids = rng.integers(_FIRST_ID, models.VOCAB_SIZE, (case.batch, length))
    segmentation = np.zeros_like(ids)
    position = np.zeros_like(ids)
    for row in range(case.batch):
      begin = 0
      for i, size in enumerate(_split(rng, length, case.examples_per_row)):
        end = begin + size
        ids[row, end - 1] = EOS_ID
        segmentation[row, begin:end] = i + 1
        position[row, begin:end] = np.arange(size)
        begin = end
    ids[segmentation == 0] = 0
    result[name] = ids
    if case.examples_per_row > 1:
      result[f"{name}_segmentation"] = segmentation
      result[f"{name}_position"] = position
  return {name: ids.astype(np.int32) for name, ids in result.items()}


def _split(rng, length: int, examples: int) -> list[int]:
  """Lengths of the examples of a row, each at least 2 (a token and EOS)."""
  if examples == 1:
    return [length]
  shares = rng.uniform(0.5, 1.5, examples)
  spare = int(0.97 * (length - 2 * examples))
  return list(2 + rng.multinomial(spare, shares / shares.sum()))
