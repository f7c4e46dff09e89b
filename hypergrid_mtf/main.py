r"""t5's `t5_mesh_transformer` with HyperGrid, its tasks and its gin files.

Same flags, same gin files, all modes. Example:

  python -m hypergrid_mtf.main --model_dir=runs/l2 --gin_file=models/tiny.gin \
    --gin_file=hypergrid/L2.gin --gin_file=experiments/embedded.gin

What it adds: operative_configs/ is on the gin search path, `t5_tasks` is
imported, --vocabulary; on a machine without --tpu the mesh is one CPU; checks
before the graph, progress while it runs, and everything the libraries say in
`<model_dir>/hypergrid_mtf.log`.
"""

import contextlib
import importlib
import os
from unittest import mock

import gin
import mesh_tensorflow.transformer.utils as utils
import tensorflow.compat.v1 as tf
from absl import flags
from absl import logging as absl_logging
from t5.models import mesh_transformer_main

from hypergrid_mtf import console, errors, preflight, progress

# This file is where the parts meet, so it alone knows the tasks by name.
_TASKS = "t5_tasks"
_GIN_FILES = os.path.join(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
  "operative_configs",
)
_search_paths = set()

flags.DEFINE_string(
  "vocabulary",
  None,
  "Vocabulary instead of the public T5 one: the path of a SentencePiece model, "
  "'bytes', or 't5'. Overrides the gin binding use_vocabulary.name.",
)

FLAGS = flags.FLAGS


def add_gin_search_paths() -> None:
  """Lets gin find the files of this project and of t5 by their short names."""
  for folder in (
    _GIN_FILES,
    os.path.join(os.path.dirname(mesh_transformer_main.__file__), "gin"),
  ):
    if folder not in _search_paths:
      gin.add_config_file_search_path(folder)
      _search_paths.add(folder)


def _parse_gin(original, *args, **kwargs) -> None:
  """t5's parsing of gin files, with its errors in one sentence."""
  try:
    original(*args, **kwargs)
  except OSError as e:
    raise errors.UserError(
      f"a gin file was not found: {str(e).splitlines()[0]} (--gin_file is "
      "looked up in the current folder, in --gin_location_prefix, in "
      "operative_configs and in t5's own gin folder)."
    ) from None
  except (ValueError, SyntaxError, TypeError, ImportError) as e:
    message = " ".join(str(e).split())
    raise errors.UserError(
      f"a gin file or --gin_param is wrong: {message}"
    ) from None


def _bind_local_mesh() -> None:
  """One CPU as the mesh where no TPU is given and no mesh was asked for."""
  if FLAGS.tpu or preflight.gin_value("tpu_mesh_shape.tpu_topology"):
    return
  try:
    reference = gin.query_parameter("run.mesh_shape")
  except ValueError:
    reference = None
  if reference is None or "tpu_mesh_shape" in str(reference):
    gin.bind_parameter("run.mesh_shape", "model:1,batch:1")
    gin.bind_parameter("run.mesh_devices", ["cpu:0"])


def _mixture_name(mode: str) -> str | None:
  if FLAGS.use_model_api:
    return FLAGS.mixture_or_task
  function = (
    "mesh_train_dataset_fn" if mode == "train" else "mesh_eval_dataset_fn"
  )
  for parameter in (
    f"{function}.mixture_or_task_name",
    "mesh_transformer.get_vocabulary.mixture_or_task_name",
  ):
    name = preflight.gin_value(parameter)
    if name:
      return name
  return None


def _check(mode: str) -> None:
  """Everything that can be known to fail before a graph is built."""
  tasks = importlib.import_module(f"{_TASKS}.mixtures")
  vocabularies = importlib.import_module(f"{_TASKS}.vocabularies")
  task_tokens = importlib.import_module(f"{_TASKS}.task_tokens")
  if FLAGS.vocabulary:
    # Bound, not passed, so that it is part of the saved configuration.
    path = FLAGS.vocabulary
    path = os.path.abspath(path) if os.path.exists(path) else path
    gin.bind_parameter(f"{_TASKS}.vocabularies.use_vocabulary.name", path)
  vocabularies.use_vocabulary()
  tasks.define_mixture()
  name = _mixture_name(mode)
  if not name:
    raise errors.UserError(
      "no mixture or task was given: add a file of experiments/, or "
      "--gin_param=\"MIXTURE_NAME = 'embedded_v1'\"."
    )
  mixture = tasks.get_mixture_or_task(name)
  vocabularies.check_vocabulary(mixture)
  needs_data = mode in ("train", "perplexity_eval", "score_from_dataset")
  if needs_data or mode in ("eval", "score_eval"):
    preflight.check_data(mixture, FLAGS.t5_tfds_data_dir)
  model = preflight.build_model(mixture)
  preflight.check_checkpoints(model, FLAGS.model_dir, mode)
  if mode == "train" and preflight.hypergrid_layers(model):
    collisions = task_tokens.describe_collisions(mixture)
    if collisions:
      console.say(collisions)


_API_MODES = {"finetune": "train", "predict": "infer"}


def _mode() -> str:
  if FLAGS.use_model_api:
    return _API_MODES.get(FLAGS.mode, FLAGS.mode)
  return preflight.gin_value("run.mode", "train")


def _results(mode: str) -> str:
  """Where a reader finds what the run made."""
  if mode.startswith("export"):
    root = preflight.gin_value("run.export_path") or FLAGS.export_dir
    exports = [d for d in tf.io.gfile.listdir(root) if d.strip("/").isdigit()]
    return os.path.join(root, max(exports))
  if mode == "infer":
    return preflight.gin_value("decode_from_file.output_filename") or ""
  if mode.startswith("score_from"):
    return preflight.gin_value("save_scores.scores_filename") or ""
  if mode.endswith("eval"):
    split = preflight.gin_value("run.dataset_split", "train")
    folder = preflight.gin_value("run.eval_summary_dir")
    return folder or os.path.join(FLAGS.model_dir, f"{split}_eval")
  return FLAGS.model_dir


def main(argv) -> None:
  """Runs t5's main with this project on board.

  Args:
    argv: command line arguments that are not flags.

  Raises:
    UserError: for what the user can mend.
  """
  tf.disable_v2_behavior()
  tf.logging.set_verbosity(tf.logging.INFO)
  absl_logging.set_verbosity(absl_logging.INFO)
  preflight.check_model_dir(FLAGS.model_dir)
  log = console.log_to(FLAGS.model_dir)
  importlib.import_module(_TASKS)
  for module in FLAGS.module_import or []:
    try:
      importlib.import_module(module)
    except ModuleNotFoundError as e:
      raise errors.UserError(f"--module_import={module}: {e}") from None
  add_gin_search_paths()
  original_parse = utils.parse_gin_defaults_and_flags

  def parse(*args, **kwargs):
    _parse_gin(original_parse, *args, **kwargs)
    mode = _mode()
    _bind_local_mesh()
    _check(mode)
    console.say(f"{mode}: {FLAGS.model_dir} (log: {log})")

  # t5's main imports the tasks, so the data folder must be known before.
  if FLAGS.t5_tfds_data_dir:
    importlib.import_module("seqio").set_tfds_data_dir_override(
      FLAGS.t5_tfds_data_dir
    )
  with contextlib.ExitStack() as stack:
    stack.enter_context(progress.show())
    stack.enter_context(
      mock.patch.object(utils, "parse_gin_defaults_and_flags", parse)
    )
    mesh_transformer_main.main(argv)
  mode = _mode()
  console.say(f"{mode}: done, see {_results(mode)}")


def console_entry_point() -> None:
  """The console script `hypergrid_mtf`."""
  console.run(main)


if __name__ == "__main__":
  console_entry_point()
