r"""Makes a checkpoint of t5's of a T5 folder of Hugging Face's transformers.

  python -m tools.from_huggingface --input_dir=t5-base --output_dir=runs/t5_base

So a public T5 comes to a machine that does not reach its bucket: training
starts from it with `run.init_checkpoint`, and --vocabulary is the SentencePiece
model that is written beside. A folder that tools.to_huggingface wrote comes
back as it was.
"""

import os

import gin
import seqio
import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf import main as hypergrid_main  # noqa: F401  (its flags)
from hypergrid_mtf.run import (
  console,
  files,
  gin_model,
  trained_model,
  vocabulary_file,
)
from t5_tasks import vocabularies, vocabulary_record
from tools import to_huggingface
from tools.serving import hf_config, hf_tokenizer, hf_weights, weights

FLAGS = flags.FLAGS

_CONFIG = "config.json"
_VOCABULARY = "t5_tasks.vocabularies.use_vocabulary"


def _vocabulary(folder: str, rows: int) -> seqio.Vocabulary:
  """That of the tokenizer, or of --vocabulary where there is none."""
  vocabulary = hf_tokenizer.read(folder)
  if vocabulary is None and not FLAGS.vocabulary:
    raise errors.UserError(
      f"--input_dir={folder} holds no {hf_tokenizer.SENTENCEPIECE}, from which "
      "t5 makes tokens: copy that of the model there, or give --vocabulary."
    )
  if FLAGS.vocabulary:
    given = vocabularies.get_vocabulary(FLAGS.vocabulary)
    facts = [vocabulary_record.facts(v) for v in (given, vocabulary) if v]
    if facts[0].get("sha256") != facts[-1].get("sha256"):
      raise errors.UserError(
        f"--vocabulary={FLAGS.vocabulary} is not that of the model "
        f"({facts[-1]['described']}): leave it out."
      )
    vocabulary = given
  assert vocabulary
  hf_tokenizer.check_size(vocabulary, rows, f"--input_dir={folder}")
  return vocabulary


def _config_text(
  folder: str, sizes: hf_config.Sizes, dtype: str, vocabulary: tuple[str, int]
) -> str:
  """An operative_config.gin: the training's, where it was kept."""
  kept = os.path.join(folder, trained_model.CONFIG)
  text, _ = hf_config.gin_text(sizes, dtype)
  try:
    if os.path.exists(kept) and trained_model.trained_facts(folder):
      gin_model.parse([kept], skip_unknown=True)
      model = gin_model.build(sizes.vocab)
      if hf_config.of_model(model, folder) == sizes:
        with open(kept, encoding="utf-8") as f:
          text = f.read()
    gin_model.parse([], [], clears=True)
    with gin.unlock_config():
      gin.parse_config(text, skip_unknown=True)
      name, extra_ids = vocabulary
      gin.bind_parameter(f"{_VOCABULARY}.name", name)
      gin.bind_parameter(f"{_VOCABULARY}.extra_ids", extra_ids)
    return gin.config_str()
  finally:
    gin.clear_config()


def main(argv) -> None:
  """Converts a model.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  folder = FLAGS.input_dir
  files.check_new_folder(FLAGS.output_dir)
  if not os.path.isdir(folder):
    raise errors.UserError(
      f"--input_dir={folder} is not a local folder: give one that "
      "save_pretrained of transformers wrote."
    )
  path = os.path.join(folder, _CONFIG)
  if not os.path.exists(path):
    raise errors.UserError(
      f"--input_dir={folder} holds no {_CONFIG}: give a folder that "
      "save_pretrained of transformers wrote."
    )
  sizes = hf_config.of_config(hf_config.read_json(path), path)
  found = hf_weights.files_of(folder)
  vocabulary = _vocabulary(folder, sizes.vocab)
  dtype = hf_weights.dtype_of(found)
  _, shapes = hf_config.gin_text(sizes, dtype)
  values = hf_weights.read(folder, found, shapes, dtype)
  record = os.path.join(folder, to_huggingface.RECORD)
  kept = hf_config.read_json(record) if os.path.exists(record) else {}
  step = FLAGS.step if FLAGS.step is not None else kept.get("step") or 0
  name = "bytes"
  with files.new_folder(FLAGS.output_dir) as part:
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
      name = os.path.join(
        os.path.abspath(FLAGS.output_dir), vocabularies.MODEL_FILE
      )
      tf.io.gfile.copy(
        vocabulary.sentencepiece_model_file,
        os.path.join(part, vocabularies.MODEL_FILE),
      )
    text = _config_text(folder, sizes, dtype, (name, vocabulary.extra_ids))
    files.write(os.path.join(part, trained_model.CONFIG), text)
    facts = vocabulary_record.facts(vocabulary)
    facts["given_by"] = f"--vocabulary={name}"
    vocabulary_file.write(part, {"inputs": facts, "targets": facts})
    written = os.path.basename(weights.write(part, step, values))
  count, size = weights.size(values)
  checkpoint = os.path.join(FLAGS.output_dir, written)
  console.say(
    f"wrote {checkpoint}: a T5 of {count:,} parameters ({size / 1e6:.1f} MB of "
    f'{dtype})\nstart from it: --gin_param="run.init_checkpoint = '
    f"'{checkpoint}'\" --vocabulary={name}"
    + (
      ""
      if dtype == "bfloat16"
      else " --gin_param=\"utils.get_variable_dtype.master_dtype = 'float32'\""
    )
  )


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("input_dir", None, "A folder of a T5 of transformers.")
  flags.DEFINE_string("output_dir", None, "A new folder.")
  flags.DEFINE_integer(
    "step", None, "That the checkpoint is of; as it came from t5, or 0."
  )
  flags.mark_flag_as_required("input_dir")
  flags.mark_flag_as_required("output_dir")


if __name__ == "__main__":
  define_flags()
  console.run(main)
