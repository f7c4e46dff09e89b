"""Flags that several programs have; needs none of the libraries."""

from absl import flags

from hypergrid_mtf.run import t5_flags
from tools.cost import models

flags.disclaim_key_flags()  # --help shows them as the calling program's

# Of t5 and of ours: a trained model, and how it answers.
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
  """Of every program that opens a trained model."""
  t5_flags.define("model_dir", "module_import")
  flags.DEFINE_integer(
    "step", None, "The checkpoint; the latest if not given.", lower_bound=0
  )
  flags.DEFINE_string(
    "vocabulary",
    None,
    "Where the vocabulary of the training is now, if not where it was.",
  )


def define_decoding(scores_targets: bool = False) -> None:
  """How it answers, and for a program that scores targets how long they are."""
  t5_flags.define("beam_size", "temperature", "keep_top_k")
  flags.DEFINE_float("alpha", 0.6, "Bonus of a beam's length.")
  flags.DEFINE_integer(
    "num_prefilter",
    None,
    "Likeliest next tokens of each beam that a search considers, 0 for all; "
    "as gin's beam_search.num_prefilter, which is 2, if not given.",
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
      f"Most tokens of {of}; as in the training if not given.",
      lower_bound=1,
    )


def define_mesh(mesh_shape: str, activation_dtype: str) -> None:
  """Of a step on the mesh of a TPU; the arguments are defaults."""
  t5_flags.define("gin_param")
  models.define_size("tiny", activation_dtype)
  flags.DEFINE_bool("packed", False, "Several examples a row.")
  for name, default, what in (
    ("batch", 8, "Rows a step, on the whole mesh."),
    ("inputs", 64, "Input tokens a row."),
    ("targets", 32, "Target tokens a row, or decoded ones."),
  ):
    flags.DEFINE_integer(name, default, what, lower_bound=1)
  flags.DEFINE_string("topology", "v3:2x2", "As libtpu names it.")
  flags.DEFINE_string(
    "mesh_shape", mesh_shape, "AXIS:SIZE, …; one core if empty."
  )
  flags.DEFINE_string("layout", None, "DIMENSION:AXIS, …; t5's if not given.")
  flags.DEFINE_string("output", None, "Also write the answer as JSON.")


def define_results() -> None:
  """Of programs that compare what runs reached."""
  flags.DEFINE_string("results", None, "A folder of results, or one result.")
  flags.DEFINE_list("runs", None, "Runs instead: NAME=MODEL_DIR, ….")
  flags.DEFINE_string(
    "split", "validation", "The split --runs were evaluated on."
  )
  flags.DEFINE_string("baseline", "vanilla", "The cell to compare with.")
  flags.DEFINE_string("single", "single", "The cell of one model a task.")
