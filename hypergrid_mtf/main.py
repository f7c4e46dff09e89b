r"""t5's `t5_mesh_transformer` with HyperGrid, its tasks and its gin files.

Same flags, same gin files, all modes. Example:

  python -m hypergrid_mtf.main --model_dir=runs/l2 --gin_file=models/tiny.gin \
    --gin_file=hypergrid/L2.gin --gin_file=experiments/embedded.gin

What it adds: operative_configs/ is on the gin search path, `t5_tasks` is
imported, --vocabulary; without --tpu the mesh is all GPUs or one CPU; checks
before the graph, progress while it runs, and everything the libraries say in
`<model_dir>/hypergrid_mtf.log`.
"""

import contextlib
import os

import gin
import mesh_tensorflow.transformer.utils as utils
import seqio
import tensorflow.compat.v1 as tf
from absl import flags
from absl import logging as absl_logging

import t5_tasks
from hypergrid_mtf import checkpoints, errors, layers
from hypergrid_mtf.run import (
  cached_tasks,
  checkpoint_checks,
  console,
  data_checks,
  data_order,
  dry_run,
  estimator,
  eval_config,
  files,
  gin_faults,
  gin_files,
  gin_model,
  gin_unread,
  input_files,
  lock,
  mesh_checks,
  mode_checks,
  preflight,
  repair,
  request,
  required,
  run_mesh,
  source_files,
  steps,
  t5_main,
  tpu_checks,
  values,
  vocabulary_file,
)

# This file is where the parts meet, so it alone knows the tasks.
from t5_tasks import (
  evaluation,
  mixtures,
  task_tokens,
  vocabularies,
  vocabulary_record,
)

# Training examples of each task that are looked at before a run.
_SAMPLED = 50
# Lines of an input file that are looked at for characters that get lost.
_MOST_LINES = 1000

flags.DEFINE_string(
  "vocabulary",
  None,
  "Vocabulary instead of the public T5 one: the path of a SentencePiece model, "
  "'bytes', or 't5'. Overrides the gin binding use_vocabulary.name.",
)

flags.DEFINE_integer(
  "seed",
  None,
  "Seed of the initial weights, the order of the examples and (without --tpu) "
  "the dropout. Without one, t5 starts every run from the same weights.",
)
flags.DEFINE_bool(
  "dry_run",
  False,
  "Check the run, train one step of one layer elsewhere, and end.",
)
flags.DEFINE_bool(
  "allow_sentencepiece_on_pods", False, "Let the hosts of --tpu=NAME tokenize."
)
flags.DEFINE_bool(
  "allow_partial_warm_start",
  False,
  "Load what fits from a run.init_checkpoint of another model.",
)

FLAGS = flags.FLAGS

# What --help shows first; the rest is under --helpfull.
for _name in (
  "model_dir",
  "gin_file",
  "gin_param",
  "gin_location_prefix",
  "module_import",
  "t5_tfds_data_dir",
  "tpu",
):
  flags.declare_key_flag(_name)


def _read(stack: contextlib.ExitStack, dry: bool) -> request.Request:
  """The run that gin files and flags ask for; binds what follows from them.

  Until the stack is closed, no other training can write in the folder. A dry
  run changes nothing there.
  """
  t5_main.parse(FLAGS)
  gin_unread.check_macros()
  gin_unread.check_scopes()
  asked = request.from_gin(FLAGS)
  if asked.trains:
    given = f"--model_dir={FLAGS.model_dir}"
    stack.enter_context(lock.hold(FLAGS.model_dir, given))
    if not dry:
      repair.repair_model_dir(FLAGS.model_dir)
  required.check(asked, FLAGS)
  gin_faults.check_references()
  values.check_bindings(asked.trains)
  values.check_decoding(asked)
  if FLAGS.seed is not None:
    gin.bind_parameter("mesh_train_dataset_fn.seed", FLAGS.seed)
  if not FLAGS.tpu:
    run_mesh.bind_local()
  return asked


def _check(asked: request.Request, dry: bool) -> None:
  """Everything that can be known to fail before a graph is built."""
  if FLAGS.vocabulary is not None:
    # Bound, not passed, so that it is part of the saved configuration.
    path = FLAGS.vocabulary
    path = os.path.abspath(path) if os.path.exists(path) else path
    gin.bind_parameter("t5_tasks.vocabularies.use_vocabulary.name", path)
  t5_tasks.define_from_gin()  # tasks first: they get the vocabulary
  vocabulary = vocabularies.use_vocabulary()
  if not asked.mixture:
    raise errors.UserError(
      "no mixture or task was given: add a file of experiments/, "
      "or --gin_file=dataset.gin and "
      "--gin_param=\"MIXTURE_NAME = 'embedded_v1'\"."
    )
  mixture = mixtures.get_mixture_or_task(asked.mixture)
  vocabularies.check_used(vocabulary, mixture)
  vocabularies.check_vocabulary(mixture)
  preflight.check_sizes(mixture, asked)
  preflight.check_custom_ops()
  mesh = run_mesh.of_run(FLAGS)
  features = mixture.output_features
  for where, lines in input_files.check_files(asked.input_files).items():
    lost = vocabularies.lost_characters(
      features.get("inputs", features["targets"]).vocabulary,
      lines[:_MOST_LINES],
    )
    if lost:
      console.say(lost.describe(f"lines of {where}"))
    _say_cut_lines(lines, where, features)
  record = vocabulary_record.record(mixture)
  cached = cached_tasks.used(asked)
  reads_tsv = asked.trains and _train_reader() == "tsv_dataset_fn"
  if reads_tsv:
    source_files.check_tsv(gin_files.value("tsv_dataset_fn.filename"))
  elif asked.trains or asked.split:
    cached_tasks.check(mixture, asked, record)
    data_checks.check_data(mixture, FLAGS.t5_tfds_data_dir, cached)
  if asked.split:
    data_checks.check_split(mixture, asked.split, cached)
  model = gin_model.of_mixture(mixture)
  mesh_checks.check(asked, mesh, model)
  preflight.check_packing(model, asked)
  tpu_checks.check(asked, mixture, FLAGS)
  steps.check_steps(asked, FLAGS)
  started = checkpoint_checks.check_checkpoints(
    model, FLAGS.model_dir, asked, FLAGS.allow_partial_warm_start, record
  )
  mode_checks.check(asked, mixture, FLAGS)
  if asked.trains and not dry:
    vocabulary_file.write(FLAGS.model_dir, record)
  if started:
    _report_warm_start(*started, dry)
  elif (
    asked.trains
    and not dry
    and not checkpoints.latest_checkpoint(FLAGS.model_dir)
  ):
    checkpoint_checks.forget_warm_start(FLAGS.model_dir)
  _say_what_is_unusual(asked)
  if not asked.trains or _train_reader() != "mesh_train_dataset_fn":
    return
  examples = _training_examples(mixture, cached)
  for key, feature in features.items():
    lost = vocabularies.lost_characters(
      feature.vocabulary, data_checks.texts(examples, key)
    )
    if lost:
      console.say(lost.describe(f"sampled {key}"))
  for line in data_checks.describe_cuts(
    examples, features, gin_files.value("run.sequence_length")
  ):
    console.say(line)
  local = any(layer.gates_differ for layer, _ in layers.hypergrid_layers(model))
  if local:
    collisions = task_tokens.describe_collisions(mixture, known=examples)
    if collisions:
      console.say(collisions)


def _train_reader() -> str:
  """The name of the function that reads the training data."""
  try:
    reference = gin.query_parameter("run.train_dataset_fn")
  except ValueError:
    return "mesh_train_dataset_fn"
  return str(reference).rsplit(".", 1)[-1].strip("@()")


def _training_examples(mixture, cached: bool) -> data_checks.Examples:
  """A few examples of each task; refuses a task that has none."""
  tasks = data_checks.training_tasks(mixture)
  data_checks.check_examples(tasks, "train", cached)
  lengths = gin_files.value("run.sequence_length")
  return data_checks.first_examples(tasks, "train", _SAMPLED, lengths, cached)


def _say_what_is_unusual(asked: request.Request) -> None:
  """Lines about a run that is not wrong, but may not be what was meant."""
  latest = checkpoints.latest_checkpoint(FLAGS.model_dir)
  if asked.waits:
    first = "" if latest else "waiting for the first checkpoint: "
    console.say(
      f"{first}run.eval_checkpoint_step = None follows the training in "
      f"{FLAGS.model_dir} until it is stopped; -1 takes the last checkpoint"
    )
  if not latest:
    return
  step = utils.get_step_from_checkpoint_path(latest)
  if asked.trains and asked.train_steps and step >= asked.train_steps:
    console.say(
      f"already at step {step} of {asked.train_steps}: nothing to train"
    )


def _report_warm_start(
  path: str, warm: checkpoints.WarmStart, dry: bool
) -> None:
  """Says what is loaded, and keeps the rest out of mesh_tensorflow's way."""
  step = checkpoints.step_of(path)
  console.say(f"warm start from {path}, at step {step}\n{warm.to_text()}")
  if not dry:
    checkpoint_checks.record_warm_start(FLAGS.model_dir, path, warm.to_json())
  # By its prefix, as TensorFlow reads it.
  gin.bind_parameter("run.init_checkpoint", path)
  if warm.reshaped:
    wanted = gin_files.value("should_load_variable.filter_fn")
    gin.bind_parameter(
      "should_load_variable.filter_fn",
      lambda name: name.split("_slot_")[0] not in warm.reshaped
      and (wanted is None or wanted(name)),
    )


def _say_cut_lines(lines, where: str, features) -> None:
  """Says how many lines of a file are longer than a row of the run."""
  key = "targets" if where.endswith("targets") else "inputs"
  lengths = gin_files.value("run.sequence_length")
  length = lengths if isinstance(lengths, int) else (lengths or {}).get(key)
  if not length:
    return
  cut = input_files.describe_cut(
    lines,
    features.get(key, features["targets"]).vocabulary,
    length,
    eos=gin_files.value("run.model_type", "bitransformer") != "lm",
  )
  if cut:
    console.say(cut)


def _run(asked: request.Request) -> int | None:
  """Runs what was asked for in t5's own main."""
  lines = input_files.check_files(asked.input_files).values()
  repeats = gin_files.value("decode_from_file.repeats", 1)
  progress = estimator.Progress(
    seed=FLAGS.seed, examples=max(map(len, lines), default=0) * repeats
  )
  if asked.trains:
    began = checkpoint_checks.step_of_warm_start(FLAGS.model_dir)
    data_order.bind(FLAGS.model_dir, began)
  if asked.mode in ("eval", "score_eval"):
    eval_config.write(asked.results)
    name = "run.eval_dataset_fn"
    scored = asked.mode == "score_eval"
    datasets_fn = evaluation.datasets_fn(
      gin_files.value(name), scored, progress
    )
    gin.bind_parameter(name, datasets_fn)
  try:
    with estimator.install(progress):
      t5_main.run()
  except (tf.errors.OpError, OSError) as e:
    repair.explain_full_disk(e, FLAGS.model_dir)
    if isinstance(e, checkpoint_checks.FAILED_RESTORE):
      # TensorFlow names neither the checkpoint nor its step.
      checkpoint_checks.explain_failed_restore(FLAGS.model_dir, asked)
    raise
  if progress.stopped_at is not None:
    console.say(
      f"{asked.mode}: ended by SIGTERM at step {progress.stopped_at}, which is "
      "saved: the same command resumes there"
    )
    return console.SIGTERM_STATUS
  console.say(f"{asked.mode}: done{progress.where(asked.results)}")
  return None


def main(argv, only_check: bool = False) -> int | None:
  """Reads the configuration, checks it, and runs it.

  Args:
    argv: command line arguments that are not flags.
    only_check: end before a graph is built, and leave the folder as it is.

  Returns:
    the exit status of a training that was asked to end before its last step

  Raises:
    UserError: for what the user can put right.
  """
  del argv
  tf.disable_v2_behavior()
  tf.logging.set_verbosity(tf.logging.INFO)
  absl_logging.set_verbosity(absl_logging.INFO)
  checkpoint_checks.check_model_dir(FLAGS.model_dir)
  files.check_model_dir(FLAGS.model_dir)
  values.check_flags(FLAGS)
  dry = only_check or FLAGS.dry_run
  log = "" if dry else console.log_to(FLAGS.model_dir)
  for path in FLAGS.gin_file or []:
    if not path or os.path.isdir(path):
      what = "a folder" if path else "empty"
      raise errors.UserError(f"--gin_file={path} is {what}: name a file.")
  gin_files.import_modules(FLAGS.module_import)
  gin_files.add_search_paths()
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  with contextlib.ExitStack() as stack:
    asked = _read(stack, dry)
    _check(asked, dry)
    if dry:
      console.say(f"{asked.mode}: nothing is wrong that can be known before it")
      if not only_check:
        dry_run.one_step(asked, FLAGS)
      return None
    console.say(f"{asked.mode}: {FLAGS.model_dir} (log: {log})")
    return _run(asked)


def console_entry_point() -> None:
  """The console script `hypergrid_mtf`."""
  console.run(main)


if __name__ == "__main__":
  console_entry_point()
