r"""Exports a trained model as a SavedModel: texts in, texts and scores out.

  python -m tools.export --model_dir=runs/l2 --output_dir=exports/l2

writes `exports/l2/STEP/`, which needs only `tensorflow` and `tensorflow_text`
to load, and the files around it that TensorFlow Serving needs. The model
answers any number of texts at once; decoding stops when all answers have ended.
The way to decode is fixed at export: greedy, by --temperature (and
--keep_top_k), or by --beam_size. `hypergrid_mtf.json` next to the model
describes its training and its inputs.
"""

import os

from absl import flags

from hypergrid_mtf.run import console
from tools import flag_groups

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flag_groups.define_model()
  flag_groups.define_decoding(scores_targets=True)
  flags.DEFINE_string("output_dir", None, "Where to make the folder STEP.")
  flags.mark_flag_as_required("output_dir")


console.read_flags(__name__, define_flags, ["model_dir", "vocabulary"])

from hypergrid_mtf import trained
from hypergrid_mtf.run import config, files
from tools.serving import options, saved_model


def main(argv) -> None:
  """Exports one model."""
  del argv
  config.import_modules(FLAGS.module_import)
  files.check_output_dir(FLAGS.output_dir)
  with trained.open_model(
    FLAGS.model_dir, FLAGS.step, FLAGS.vocabulary
  ) as source:
    how = options.read_flags(FLAGS)
    _ = source.weights  # first: a training may remove the checkpoint
    folder = os.path.join(FLAGS.output_dir, str(source.step))
    files.check_new_folder(folder)
    console.say(f"exporting step {source.step} of {FLAGS.model_dir}")
    saved_model.write(folder, source, how)
  console.say(
    f"wrote {folder}: inputs of at most {how.inputs} tokens, answers of at "
    f"most {how.outputs}; for TensorFlow Serving (not tested here), see "
    f"{os.path.join(FLAGS.output_dir, saved_model.CONFIG)}"
  )


if __name__ == "__main__":
  console.run(main)
