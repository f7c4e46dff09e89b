r"""Makes a plain T5 of a HyperGrid model, for one task.

  python -m tools.fold --model_dir=runs/tasks --task=reverse \
    --output_dir=runs/reverse

For a model trained with `HyperGrid.condition_on = "task_token"`: the gates of a
task are constants then, and are multiplied into the weights that they gate.
What is written is a folder as a training of t5's own layers leaves it, which
every command takes: checkpoint, operative_config.gin, vocabulary. It is for
this task alone; the others of the model need a fold of their own.
"""

import json
import os

import seqio
import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import checkpoint_files, errors
from hypergrid_mtf import main as hypergrid_main  # noqa: F401  (its flags)
from hypergrid_mtf.run import (
  console,
  files,
  gin_files,
  trained_model,
  vocabulary_file,
)
from t5_tasks import task_tokens
from tools.experiments import task_gates
from tools.serving import folding, trained, weights

FLAGS = flags.FLAGS

RECORD = "fold.json"
_MILLION = 1e6


def _task_and_token(mixture) -> tuple[seqio.Task | None, int]:
  """What --task names, and the first token of its inputs."""
  if not FLAGS.task:
    return None, 1  # only for gates that are the same for all
  task = folding.task_of(mixture, FLAGS.task)
  token = folding.task_token(task, FLAGS.examples, FLAGS.t5_tfds_data_dir)
  if task.name not in {t.name for t in seqio.get_subtasks(mixture)}:
    console.say(f"{task.name} is not a task that the model was trained on")
  return task, token


def same_gates(mixture, task, token: int) -> list[str]:
  """Other tasks whose gates are the same, of those whose data is here.

  Args:
    mixture: that the model was trained on.
    task: that is folded.
    token: with which its inputs begin.

  Returns:
    their names
  """
  found = task_tokens.first_tokens(mixture)
  return sorted(n for n, t in found.items() if t == token and n != task.name)


def _say_sizes(before, after, tasks: int) -> None:
  """What folding takes, and what it gives up."""
  (with_gates, _), (plain, size) = weights.size(before), weights.size(after)
  console.say(
    f"{plain:,} parameters, {size / _MILLION:.1f} MB; with the gates, "
    f"{with_gates:,}"
  )
  if tasks > 1:
    console.say(
      f"one model a task again: {tasks} tasks take {tasks} such models, "
      f"{plain * tasks:,} parameters"
    )


def main(argv) -> None:
  """Folds a model.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  files.check_new_folder(FLAGS.output_dir)
  gin_files.import_modules(FLAGS.module_import)
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  with trained.opened(FLAGS.model_dir, FLAGS.step, FLAGS.vocabulary) as source:
    _fold(source)


def _fold(source: trained.Trained) -> None:
  """Folds a model that is open, and says what was made of it."""
  mixture, step = source.mixture, source.step
  names = folding.check(source.model, FLAGS.model_dir)
  gated = task_gates.gated_layers(source.model)
  differ = any(layer.gates_differ for _, layer in gated)
  if differ and not FLAGS.task:
    tasks = map(task_tokens.short_name, _names(mixture))
    raise errors.UserError(
      f"--task is missing: give one of {', '.join(tasks)}."
    )
  task, token = _task_and_token(mixture)
  origin = f"in --model_dir={FLAGS.model_dir}"
  gates = folding.gates(source.model, source.checkpoint, origin, token)
  after = folding.fold(source.model, source.weights, gates)
  same = same_gates(mixture, task, token) if task and differ else []
  config = folding.vanilla_config(task and task.name)
  report = dict(
    model_dir=FLAGS.model_dir,
    digest=checkpoint_files.digest(source.checkpoint),
    step=step,
    task=task and task.name,
    token=token if differ else None,
    tasks_of_the_same_gates=same,
  )
  with files.new_folder(FLAGS.output_dir) as folder:
    files.write(os.path.join(folder, trained_model.CONFIG), config)
    vocabulary_file.write(folder, source.vocabulary)
    files.write(
      os.path.join(folder, RECORD), json.dumps(report, indent=1) + "\n"
    )
    weights.write(folder, step, after)
  of = f" for inputs that begin with token {token}" if differ else ""
  console.say(
    f"wrote {FLAGS.output_dir}: a plain T5{of}; the gates of {len(names)} "
    "layers are in its weights"
  )
  if same:
    console.say(f"the same gates, and so the same model: {', '.join(same)}")
  _say_sizes(source.weights, after, len(_names(mixture)) if differ else 1)


def _names(mixture) -> list[str]:
  return [task.name for task in seqio.get_subtasks(mixture)]


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("task", None, "Its name, or short, as in rte.")
  flags.DEFINE_string("output_dir", None, "A new folder.")
  flags.DEFINE_integer("step", None, "Of the checkpoint; the latest if unset.")
  flags.DEFINE_integer(
    "examples", 1000, "Examples a split whose first token is read.", 1
  )
  flags.mark_flag_as_required("output_dir")


if __name__ == "__main__":
  define_flags()
  console.run(main)
