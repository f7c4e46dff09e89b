"""The options of decoding, fixed when a model is made to answer texts."""

import dataclasses

from hypergrid_mtf import errors, trained
from hypergrid_mtf.run import config


@dataclasses.dataclass(frozen=True)
class Options:
  """How a model decodes.

  Attributes:
    inputs: most tokens of an input, including EOS; longer ones are cut.
    targets: the same for a target to score.
    outputs: the same for an answer.
    beam_size: 1 for greedy decoding or sampling.
    temperature: 0 chooses the most likely token, 1 samples from the
      distribution.
    top_k: sample from this many tokens, -1 from all.
    alpha: length bonus of beam search.
    num_prefilter: next tokens of each beam that a search considers, 0 for all.
  """

  inputs: int
  targets: int
  outputs: int
  beam_size: int = 1
  temperature: float = 0.0
  top_k: int = -1
  alpha: float = 0.6
  num_prefilter: int = 2


def read_flags(given) -> Options:
  """The options given by flags, or else by gin; a model must be open.

  Raises:
    UserError: for options that exclude each other.
  """
  for name, least in (("beam_size", 1), ("temperature", 0)):
    if given[name].value < least:
      raise errors.UserError(
        f"--{name}={given[name].value} is too small: give {least} or more."
      )
  draws, top_k = given.temperature > 0, given.keep_top_k
  if top_k != -1 and top_k < 1:
    raise errors.UserError(
      f"--keep_top_k={top_k} is not a number of tokens: give 1 or more, or -1 "
      "for all."
    )
  prefilter = given.num_prefilter
  if prefilter is None:
    prefilter = config.value("beam_search.num_prefilter", Options.num_prefilter)
  if prefilter < 0 or prefilter == 1:
    raise errors.UserError(
      f"--num_prefilter={prefilter} leaves a search too few tokens: give 2 or "
      "more, or 0 for all."
    )
  if given.beam_size > 1 and draws:
    raise errors.UserError(
      f"--beam_size={given.beam_size} searches for the most likely answers, "
      f"but --temperature={given.temperature} samples: give only one of them."
    )
  if top_k != -1 and not draws:
    raise errors.UserError(
      f"--keep_top_k={top_k} is for sampling, but --temperature=0 chooses the "
      "most likely token: give a --temperature, such as 1."
    )
  lengths = trained.sequence_lengths()
  scores = "max_target_tokens" in given
  # The limit of an evaluation's answers, or that of the targets.
  limit = config.value("Bitransformer.decode.max_decode_length")
  return Options(
    inputs=given.max_input_tokens or lengths["inputs"],
    targets=(scores and given.max_target_tokens) or lengths["targets"],
    outputs=given.max_output_tokens or limit or lengths["targets"],
    beam_size=given.beam_size,
    temperature=given.temperature,
    top_k=top_k,
    alpha=given.alpha,
    num_prefilter=prefilter,
  )
