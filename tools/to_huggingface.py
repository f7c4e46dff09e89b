r"""Makes a T5 folder of Hugging Face's transformers of a trained model.

  python -m tools.to_huggingface --model_dir=runs/reverse --output_dir=reverse

Of a vanilla model, T5 1.0 or 1.1, or of one that tools.fold made. The folder
has config.json, generation_config.json, model.safetensors and the tokenizer, as
`from_pretrained` takes them. A model that transformers has not, such as
HyperGrid before it is folded, is refused.
"""

import json
import os

import seqio
import tensorflow.compat.v1 as tf
import transformers
from absl import flags

import t5_tasks
from hypergrid_mtf import checkpoint_files, checkpoints, errors
from hypergrid_mtf import main as hypergrid_main  # noqa: F401  (its flags)
from hypergrid_mtf.run import (
  checkpoint_checks,
  console,
  files,
  gin_files,
  gin_model,
  trained_model,
)
from t5_tasks import mixtures, vocabulary_record
from tools.serving import (
  hf_config,
  hf_tokenizer,
  hf_weights,
  trained,
  weights,
)

FLAGS = flags.FLAGS

# What transformers has no place for, and tools.from_huggingface takes back.
RECORD = "hypergrid_mtf.json"


def vocabulary_of(model_dir: str, given: str | None) -> seqio.Vocabulary:
  """The vocabulary that a model was trained with; gin has its configuration.

  Args:
    model_dir: of the training.
    given: from --vocabulary.

  Returns:
    one for inputs and targets

  Raises:
    UserError: if it cannot be read, or is not the one of the training.
  """
  vocabulary = None
  if given:
    vocabulary = t5_tasks.vocabularies.get_vocabulary(given)
  else:
    t5_tasks.define_from_gin()
    vocabulary = t5_tasks.vocabularies.use_vocabulary()
    name = gin_files.value("mesh_train_dataset_fn.mixture_or_task_name")
    if name in mixtures.known_names():
      mixture = mixtures.get_mixture_or_task(name)
      t5_tasks.vocabularies.check_vocabulary(mixture)
      features = mixture.output_features
      vocabulary = features["targets"].vocabulary
      if features.get("inputs", features["targets"]).vocabulary != vocabulary:
        raise errors.UserError(
          f"--model_dir={model_dir} has one vocabulary for inputs and another "
          "for targets, and a T5 of Hugging Face's has one."
        )
  if vocabulary is None:
    raise errors.UserError(
      f"nothing here says with which vocabulary --model_dir={model_dir} was "
      "trained: give it with --vocabulary."
    )
  facts = vocabulary_record.facts(vocabulary)
  checkpoint_checks.check_same_vocabulary(
    model_dir, {"inputs": facts, "targets": facts}
  )
  return vocabulary


def main(argv) -> None:
  """Converts a model.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  if "://" in FLAGS.output_dir:
    raise errors.UserError(
      f"--output_dir={FLAGS.output_dir} is in the cloud, where transformers "
      "does not write: give a local folder."
    )
  files.check_new_folder(FLAGS.output_dir)
  checkpoint_checks.check_model_dir(FLAGS.model_dir)
  gin_files.import_modules(FLAGS.module_import)
  where = f"--model_dir={FLAGS.model_dir}"
  if trained_model.trained_facts(FLAGS.model_dir) is None:
    raise errors.UserError(
      f"{where} holds no {trained_model.CONFIG}: give the folder of a model "
      "that was trained with t5 or hypergrid_mtf.main."
    )
  checkpoint = weights.chosen(FLAGS.model_dir, FLAGS.step)
  path = os.path.join(FLAGS.model_dir, trained_model.CONFIG)
  gin_model.parse([path], skip_unknown=True)
  rows = checkpoints.reader_shapes(checkpoint, where).get(weights.EMBEDDING)
  if rows is None:
    raise errors.UserError(
      f"{checkpoint} is not of a T5: it has no {weights.EMBEDDING}."
    )
  model = gin_model.build(rows[0])
  shapes = checkpoints.variable_shapes(model)
  vocabulary = vocabulary_of(FLAGS.model_dir, FLAGS.vocabulary)
  length = trained.lengths()
  hf_tokenizer.check_size(vocabulary, rows[0], where)
  sizes = hf_config.of_model(model, where)
  values = weights.read(checkpoint, shapes)
  dtype = values[weights.EMBEDDING].dtype.name
  step = checkpoints.step_of(checkpoint)
  with files.new_folder(FLAGS.output_dir) as folder:
    hf_weights.write(folder, values)
    sizes.to_config(dtype).save_pretrained(folder)
    transformers.GenerationConfig(
      decoder_start_token_id=0,
      eos_token_id=1,
      pad_token_id=0,
      max_new_tokens=length["targets"],
    ).save_pretrained(folder)
    hf_tokenizer.write(folder, vocabulary, length["inputs"])
    tf.io.gfile.copy(path, os.path.join(folder, trained_model.CONFIG))
    record = dict(
      model_dir=FLAGS.model_dir,
      step=step,
      digest=checkpoint_files.digest(checkpoint),
    )
    files.write(
      os.path.join(folder, RECORD), json.dumps(record, indent=1) + "\n"
    )
  count, size = weights.size(values)
  console.say(
    f"wrote {FLAGS.output_dir}: a T5 of {count:,} parameters ({size / 1e6:.1f} "
    f"MB of {dtype}), {t5_tasks.vocabularies.describe(vocabulary)}"
  )


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("output_dir", None, "A new folder.")
  flags.DEFINE_integer("step", None, "Of the checkpoint; the latest if unset.")
  flags.mark_flag_as_required("output_dir")


if __name__ == "__main__":
  define_flags()
  console.run(main)
