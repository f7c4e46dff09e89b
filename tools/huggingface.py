r"""Converts a T5 to a folder of Hugging Face's transformers, and back.

  python -m tools.huggingface to --model_dir=runs/reverse --output_dir=reverse
  python -m tools.huggingface from --input_dir=t5-base \
    --output_dir=runs/t5_base

`to` takes a vanilla model, T5 1.0 or 1.1, or one that tools.fold made, and
writes config.json, generation_config.json, model.safetensors and the tokenizer,
for `from_pretrained`, and a model card (README.md) of what the folder says. A
model that transformers does not have, such as an unfolded HyperGrid, is
refused.

`from` writes a checkpoint for t5, for machines that cannot reach T5's public
bucket: training starts from it with `run.init_checkpoint`, and --vocabulary is
the SentencePiece model written with it. A folder from `to` is restored exactly.
"""

import os

from absl import flags

from hypergrid_mtf.run import console
from tools import flag_groups

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flag_groups.define_model()
  flags.DEFINE_string("input_dir", None, "A folder of a T5 of transformers.")
  flags.DEFINE_string("output_dir", None, "A new folder.")
  flags.mark_flag_as_required("output_dir")


console.read_flags(
  __name__,
  define_flags,
  ["input_dir", "model_dir", "vocabulary"],
  verbs=("to", "from"),
)

import gin
import seqio
import tensorflow.compat.v1 as tf
import transformers

from hypergrid_mtf import checkpoints, errors, trained, weights
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import config as gin_config
from hypergrid_mtf.run import files, vocabulary_file
from hypergrid_mtf.run.checks import training_record
from t5_tasks import vocabularies, vocabulary_record
from tools.serving import hf_config, hf_tokenizer, hf_weights, model_card

# What transformers cannot store, and `from` restores.
RECORD = "hypergrid_mtf.json"
_CONFIG = "config.json"
_VOCABULARY = "t5_tasks.vocabularies.use_vocabulary"


def convert_to() -> None:
  """Writes a folder for transformers."""
  if "://" in FLAGS.output_dir:
    raise errors.UserError(
      f"--output_dir={FLAGS.output_dir} is in the cloud, where transformers "
      "cannot write: give a local folder."
    )
  gin_config.import_modules(FLAGS.module_import)
  with trained.open_model(
    FLAGS.model_dir, FLAGS.step, FLAGS.vocabulary
  ) as source:
    vocabulary = source.vocabularies["targets"]
    if source.vocabularies["inputs"] != vocabulary:
      raise errors.UserError(
        f"--model_dir={FLAGS.model_dir} has different vocabularies for inputs "
        "and targets, but Hugging Face's T5 has only one."
      )
    lengths = trained.sequence_lengths()
    values = source.weights
    dtype = values[weights.EMBEDDING].dtype.name
    where = f"--model_dir={FLAGS.model_dir}"
    config = hf_config.of_model(source.model, where, dtype)
    name = os.path.basename(os.path.abspath(FLAGS.output_dir))
    card = model_card.make_text(source, values, lengths, name)
  with files.new_folder(FLAGS.output_dir) as folder:
    hf_weights.write(folder, values)
    config.save_pretrained(folder)
    transformers.GenerationConfig(
      decoder_start_token_id=0,
      eos_token_id=1,
      pad_token_id=0,
      max_new_tokens=lengths["targets"],
    ).save_pretrained(folder)
    hf_tokenizer.write(folder, vocabulary, lengths["inputs"])
    files.write(os.path.join(folder, model_card.FILE), card)
    tf.io.gfile.copy(
      source.config, os.path.join(folder, training_record.CONFIG)
    )
    record = dict(
      model=os.path.basename(os.path.abspath(FLAGS.model_dir)),
      step=source.step,
      digest=checkpoints.digest(source.checkpoint),
    )
    files.write_json(os.path.join(folder, RECORD), record)
  console.say(
    f"wrote {FLAGS.output_dir}: a T5 of {weights.describe_size(values)} "
    f"({dtype}), {vocabularies.describe(vocabulary)}"
  )


def _read_vocabulary(folder: str, rows: int) -> seqio.Vocabulary:
  """The tokenizer's vocabulary, or --vocabulary if there is no tokenizer."""
  vocabulary = hf_tokenizer.read(folder)
  if FLAGS.vocabulary:
    given = vocabularies.get_vocabulary(FLAGS.vocabulary)
    facts = [vocabulary_record.facts(v) for v in (given, vocabulary) if v]
    if facts[0].get("sha256") != facts[-1].get("sha256"):
      raise errors.UserError(
        f"--vocabulary={FLAGS.vocabulary} is not that of the model "
        f"({facts[-1]['described']}): leave it out."
      )
    vocabulary = given
  if vocabulary is None:
    raise errors.UserError(
      f"--input_dir={folder} has no {hf_tokenizer.SENTENCEPIECE}, which t5 "
      "needs: copy the model's there, or give --vocabulary."
    )
  hf_tokenizer.check_size(vocabulary, rows, f"--input_dir={folder}")
  return vocabulary


def _config_text(
  folder: str, config, text: str, dtype: str, name: str, extra_ids: int
) -> str:
  """The operative_config.gin with a vocabulary; the training's, if kept."""
  kept = os.path.join(folder, training_record.CONFIG)
  try:
    if os.path.exists(kept) and training_record.trained_facts(folder):
      gin_config.parse_files([kept], skip_unknown=True)
      model = model_lib.build(config.vocab_size)
      if hf_config.of_model(model, folder, dtype) == config:
        with open(kept, encoding="utf-8") as f:
          text = f.read()
    gin_config.parse_files([])
    with gin.unlock_config():
      gin.parse_config(text, skip_unknown=True)
      gin.bind_parameter(f"{_VOCABULARY}.name", name)
      gin.bind_parameter(f"{_VOCABULARY}.extra_ids", extra_ids)
    return gin.config_str()
  finally:
    gin.clear_config()


def convert_from() -> None:
  """Writes a checkpoint for t5 and its records."""
  folder = FLAGS.input_dir
  path = os.path.join(folder or "", _CONFIG)
  if not folder or not os.path.exists(path):
    raise errors.UserError(
      f"--input_dir={folder} is not a local folder with a {_CONFIG}: give one "
      "written by save_pretrained of transformers."
    )
  given = hf_config.read_json(path)
  found = hf_weights.load(folder)
  dtype = hf_weights.dtype_of(found, folder)
  config = hf_config.of_json(given, path, dtype)
  vocabulary = _read_vocabulary(folder, config.vocab_size)
  text, shapes = hf_config.gin_text(config, dtype)
  values = hf_weights.convert(found, shapes, dtype, folder)
  record = os.path.join(folder, RECORD)
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
    text = _config_text(folder, config, text, dtype, name, vocabulary.extra_ids)
    files.write(os.path.join(part, training_record.CONFIG), text)
    facts = vocabulary_record.facts(vocabulary)
    facts["given_by"] = f"--vocabulary={name}"
    vocabulary_file.write(part, {"inputs": facts, "targets": facts})
    written = os.path.basename(weights.write(part, step, values))
  checkpoint = os.path.join(FLAGS.output_dir, written)
  start = f"--gin_param=\"run.init_checkpoint = '{checkpoint}'\""
  start += f" --vocabulary={name}"
  if dtype != "bfloat16":
    start += f' --gin_param="utils.get_variable_dtype.master_dtype = {dtype!r}"'
  console.say(
    f"wrote {checkpoint}: a T5 of {weights.describe_size(values)} ({dtype})\n"
    f"start from it: {start}"
  )


VERBS = {"to": convert_to, "from": convert_from}
_UNREAD = {"to": ("input_dir",), "from": ("model_dir", "module_import")}


def main(argv) -> None:
  """Converts a model in the direction of the first argument."""
  tf.disable_v2_behavior()
  for name in _UNREAD[argv[1]]:
    if FLAGS[name].present:
      raise errors.UserError(
        f"--{name}={FLAGS[name].value} is not used by {argv[1]!r}: leave it "
        "out, or give the other direction."
      )
  files.check_new_folder(FLAGS.output_dir)
  VERBS[argv[1]]()


if __name__ == "__main__":
  console.run(main)
