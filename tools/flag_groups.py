"""Flags shared by several programs; imports none of the libraries."""

from absl import flags

from hypergrid_mtf.run import t5_flags
from tools.cost import models

flags.disclaim_key_flags()  # --help shows them as the calling program's

# Flags of t5 and of main that are for a trained model and its decoding.
MODEL = ("model_dir", "module_import", "step", "vocabulary")
DECODING = (
  "beam_size",
  "temperature",
  "keep_top_k",
  "alpha",
  "num_prefilter",
  "max_input_tokens",
  "max_output_tokens",
)


def define_model() -> None:
  """Defines the flags of every program that opens a trained model."""
  t5_flags.define("model_dir", "module_import")
  flags.DEFINE_integer(
    "step",
    None,
    "The checkpoint's step; the latest if not given.",
    lower_bound=0,
  )
  flags.DEFINE_string(
    "vocabulary",
    None,
    "Where the training's vocabulary is now, if it was moved.",
  )


def define_decoding(scores_targets: bool = False) -> None:
  """Defines the flags of decoding, and the length limit of scored targets."""
  t5_flags.define("beam_size", "temperature", "keep_top_k")
  flags.DEFINE_float("alpha", 0.6, "Length bonus of beam search.")
  flags.DEFINE_integer(
    "num_prefilter",
    None,
    "Most likely next tokens of each beam that a search considers, 0 for all; "
    "by default gin's beam_search.num_prefilter, which is 2.",
  )
  limits = {
    "max_input_tokens": "an input; longer ones are cut",
    "max_output_tokens": "an answer",
  }
  if scores_targets:
    limits["max_target_tokens"] = "a target to score"
  for name, of in limits.items():
    flags.DEFINE_integer(
      name,
      None,
      f"Most tokens of {of}; by default as in the training.",
      lower_bound=1,
    )


def define_mesh(mesh_shape: str, activation_dtype: str) -> None:
  """Defines the flags of a step on a TPU's mesh; arguments are defaults."""
  t5_flags.define("gin_param")
  models.define_size("tiny", activation_dtype)
  flags.DEFINE_bool("packed", False, "Several examples per sequence.")
  for name, default, what in (
    ("batch", 8, "Sequences per step, on the whole mesh."),
    ("inputs", 64, "Input tokens per sequence."),
    ("targets", 32, "Target tokens per sequence, or decoded ones."),
  ):
    flags.DEFINE_integer(name, default, what, lower_bound=1)
  flags.DEFINE_string("topology", "v3:2x2", "The topology's name in libtpu.")
  flags.DEFINE_string(
    "mesh_shape", mesh_shape, "AXIS:SIZE, …; one core if empty."
  )
  flags.DEFINE_string("layout", None, "DIMENSION:AXIS, …; by default t5's.")
  flags.DEFINE_string("output", None, "Also write the answer as JSON.")


def define_results() -> None:
  """Defines the flags of programs that compare results."""
  flags.DEFINE_string("results", None, "A folder of results, or one result.")
  flags.DEFINE_list("runs", None, "Runs instead of results: NAME=MODEL_DIR, ….")
  flags.DEFINE_string(
    "split", "validation", "The split --runs were evaluated on."
  )
  flags.DEFINE_string("baseline", "vanilla", "The cell to compare with.")
  flags.DEFINE_string("single", "single", "The cell with one model per task.")
