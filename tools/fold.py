r"""Folds the gates of a HyperGrid model into a plain T5 for one task.

  python -m tools.fold --model_dir=runs/tasks --task=reverse \
    --output_dir=runs/reverse

For (IA)³, and a model trained with `HyperGrid.condition_on = "task_token"`: the
gates of a
task are then constant, and are multiplied into the weights. Writes a model_dir
with t5's own layers (checkpoint, operative_config.gin, vocabulary), which every
command accepts. It serves only this task; fold again for another.
"""

import os

from absl import flags

from hypergrid_mtf.run import console, t5_flags
from tools import flag_groups

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  t5_flags.define("t5_tfds_data_dir")
  flag_groups.define_model()
  flags.DEFINE_string("task", None, "Its name, or its short name, as rte.")
  flags.DEFINE_string("output_dir", None, "A new folder.")
  flags.DEFINE_integer(
    "examples", 1000, "Examples per split whose first token is read.", 1
  )
  flags.mark_flag_as_required("output_dir")


console.read_flags(
  __name__, define_flags, ["model_dir", "vocabulary", "t5_tfds_data_dir"]
)

import seqio
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors, layers, trained, weights
from hypergrid_mtf.run import config as gin_config
from hypergrid_mtf.run import files, vocabulary_file
from hypergrid_mtf.run.checks import training_record
from t5_tasks import task_tokens
from tools.serving import folding, model_card


def main(argv) -> None:
  """Folds a model."""
  del argv
  tf.disable_v2_behavior()
  files.check_new_folder(FLAGS.output_dir)
  gin_config.import_modules(FLAGS.module_import)
  if FLAGS.t5_tfds_data_dir:
    seqio.set_tfds_data_dir_override(FLAGS.t5_tfds_data_dir)
  with trained.open_model(
    FLAGS.model_dir, FLAGS.step, FLAGS.vocabulary
  ) as source:
    _fold(source)


def _fold(source: trained.Trained) -> None:
  folding.check_foldable(source.model, FLAGS.model_dir)
  own = layers.own_layers(source.model)
  differ = any(getattr(layer, "gates_differ", True) for layer, _ in own)
  task, token, same = None, 1, []  # for gates that are the same for all tasks
  if FLAGS.task:
    task = folding.find_task(source.tasks, FLAGS.task)
    token = folding.read_task_token(
      task, FLAGS.examples, FLAGS.t5_tfds_data_dir
    )
    if task.name not in {t.name for t in source.tasks}:
      console.say(f"{task.name} is not a task that the model was trained on")
    if differ:
      others = [t for t in source.tasks if t.name != task.name]
      same = folding.tasks_of_token(others, token)
  elif differ:
    names = (task_tokens.short_name(t.name) for t in source.tasks)
    raise errors.UserError(
      f"--task is missing: give one of {', '.join(names)}."
    )
  folded = folding.fold(source, token)
  config = folding.vanilla_config(task and task.name)
  report = dict(
    model=os.path.basename(os.path.abspath(FLAGS.model_dir)),
    digest=checkpoints.digest(source.checkpoint),
    step=source.step,
    task=task and task.name,
    token=token if differ else None,
    tasks_of_the_same_gates=same,
    gates=folding.describe_gates(source.model),
    training=model_card.describe_training(source),
  )
  with files.new_folder(FLAGS.output_dir) as folder:
    files.write(os.path.join(folder, training_record.CONFIG), config)
    vocabulary_file.write(folder, source.vocabulary_record)
    files.write_json(os.path.join(folder, model_card.FOLD), report)
    weights.write(folder, source.step, folded)
  of = ""
  if differ:
    text = task_tokens.token_text(source.vocabularies["inputs"], token)
    of = f" for inputs that begin with token {token}, {text!r}"
  console.say(
    f"wrote {FLAGS.output_dir}: a plain T5{of}; the gates of {len(own)} "
    f"layers are in its weights ({weights.describe_size(folded)}; with the "
    f"gates, {weights.describe_size(source.weights)})"
  )
  if same:
    console.say(f"the same model also serves: {', '.join(same)}")


if __name__ == "__main__":
  console.run(main)
