r"""A trained model as a TensorFlow SavedModel: texts in, texts and scores out.

  python -m tools.export --model_dir=runs/l2 --output_dir=exports/l2

writes `exports/l2/STEP/`, which loads with nothing but `tensorflow` and
`tensorflow_text` imported, and what TensorFlow Serving wants around it. Any
number of texts is answered at once; decoding stops when all have ended. How
answers are chosen is fixed here: greedily, by --temperature (and --keep_top_k),
or by --beam_size. `hypergrid_mtf.json` next to the model says what it was
trained on and what it takes.
"""

import os

from absl import flags

from hypergrid_mtf.run import console
from tools import flag_groups

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Not at import: other programs have flags too."""
  flag_groups.define_model()
  flag_groups.define_decoding(scores_targets=True)
  flags.DEFINE_string("output_dir", None, "Where the folder STEP is made.")
  flags.mark_flag_as_required("output_dir")


console.read_flags(__name__, define_flags, ["model_dir", "vocabulary"])

from hypergrid_mtf.run import config, files
from tools.serving import options, saved_model, trained


def main(argv) -> None:
  """Exports one model."""
  del argv
  config.import_modules(FLAGS.module_import)
  files.check_output_dir(FLAGS.output_dir)
  with trained.open_model(
    FLAGS.model_dir, FLAGS.step, FLAGS.vocabulary
  ) as source:
    how = options.read_flags(FLAGS)
    _ = source.weights  # first: a training may remove the checkpoint meanwhile
    folder = os.path.join(FLAGS.output_dir, str(source.step))
    files.check_new_folder(folder)
    console.say(f"exporting step {source.step} of {FLAGS.model_dir}")
    saved_model.write(folder, source, how)
  console.say(
    f"wrote {folder}: inputs of at most {how.inputs} tokens, answers of at "
    f"most {how.outputs}; for TensorFlow Serving (not run here), "
    f"see {os.path.join(FLAGS.output_dir, saved_model.CONFIG)}"
  )


if __name__ == "__main__":
  console.run(main)
