"""The flags of a run: t5's and this project's."""

from absl import flags

from hypergrid_mtf.run import t5_flags

flags.disclaim_key_flags()  # --help shows them as the calling program's


def define() -> None:
  """Defines the flags, once; --help shows the documented ones."""
  t5_flags.define(
    *("model_dir", "gin_file", "gin_param", "gin_location_prefix"),
    *("module_import", "t5_tfds_data_dir", "additional_task_cache_dirs"),
    *("tpu", "tpu_zone", "gcp_project", "logical_cores_per_chip"),
    others=True,
  )
  try:
    flags.DEFINE_string(
      "vocabulary",
      None,
      "Vocabulary instead of the public T5 one: the path of a SentencePiece "
      "model, 'bytes', or 't5'. Overrides the gin binding use_vocabulary.name.",
    )
  except flags.DuplicateFlagError:
    return  # tools.check defines them, then imports a program that does
  flags.DEFINE_integer(
    "seed",
    None,
    "Seed of the initial weights, the order of the examples and (without "
    "--tpu) the dropout. Without it, t5 starts every run from the same "
    "weights.",
  )
  flags.DEFINE_bool(
    "dry_run",
    False,
    "Check the run, train one step of a small copy elsewhere, and stop.",
  )
  flags.DEFINE_bool(
    "evaluate",
    False,
    "Evaluate each checkpoint of a training on the validation split when it is "
    "saved, and keep the best one in <model_dir>/best.",
  )
  flags.DEFINE_integer(
    "patience",
    None,
    "With --evaluate: stop after this many evaluations in a row without a "
    "better average.",
  )
  flags.DEFINE_bool(
    "allow_sentencepiece_on_pods",
    False,
    "Let the hosts of --tpu=NAME tokenize.",
  )
  flags.DEFINE_bool(
    "allow_partial_warm_start",
    False,
    "Load what fits from a run.init_checkpoint of another model.",
  )
