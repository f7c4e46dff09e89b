"""Flags of how a model answers, for the programs that build one."""

from absl import flags
from t5.models import mesh_transformer_main  # noqa: F401  (--beam_size, …)

from hypergrid_mtf import errors
from tools.serving import decoding, text_model, trained


def read(given) -> text_model.Options:
  """What the flags ask for, and gin where they do not; a model is open.

  Args:
    given: of the program.

  Raises:
    UserError: for ways to decode that exclude each other.
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
  if given.beam_size > 1 and draws:
    raise errors.UserError(
      f"--beam_size={given.beam_size} takes the likeliest answers, and "
      f"--temperature={given.temperature} draws at random: give one of both."
    )
  if top_k != -1 and not draws:
    raise errors.UserError(
      f"--keep_top_k={top_k} is for drawing at random, and --temperature=0 "
      "takes the likeliest token: give a --temperature, such as 1."
    )
  lengths = trained.lengths()
  return text_model.Options(
    inputs=given.max_input_tokens or lengths["inputs"],
    targets=given.max_target_tokens or lengths["targets"],
    decoding=decoding.Decoding(
      beam_size=given.beam_size,
      temperature=given.temperature,
      top_k=top_k,
      alpha=given.alpha,
      max_tokens=given.max_output_tokens or trained.most_tokens(),
    ),
  )


def define() -> None:
  """Beside t5's own --beam_size, --temperature and --keep_top_k."""
  flags.DEFINE_integer(
    "step", None, "The checkpoint; the latest if not given.", lower_bound=0
  )
  flags.DEFINE_string(
    "vocabulary",
    None,
    "Where the vocabulary of the training is now, if not where it was.",
  )
  flags.DEFINE_float("alpha", 0.6, "Bonus of a beam's length.")
  for name, of in (
    ("max_input_tokens", "an input; longer ones are cut"),
    ("max_target_tokens", "a target to score"),
    ("max_output_tokens", "an answer"),
  ):
    flags.DEFINE_integer(
      name,
      None,
      f"Most tokens of {of}; as in the training if not given.",
      lower_bound=1,
    )
