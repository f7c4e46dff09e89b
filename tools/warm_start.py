r"""What a model takes from a T5 checkpoint, and what that does to its function.

  python -m tools.warm_start --checkpoint=gs://t5-data/…/model.ckpt-999900 \
    --gin_file=models/base.gin --gin_file=hypergrid/L2.gin --logits

Says which variables are loaded, fresh, missing, reshaped and unused; exit
status 2 if anything is unexpected. A .json of names and shapes stands in for a
checkpoint that is too large to be had (tests/golden has the published ones).

--logits then compares the model with vanilla T5, both with the checkpoint's
weights, on random tokens: under each form of the gate the largest difference of
two logits, the largest logit, and how often both models would choose the same
token.
"""

import json
import os

import mesh_tensorflow as mtf
import numpy as np
import pandas as pd
import tensorflow.compat.v1 as tf
from absl import flags
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import checkpoint_files, checkpoints, errors, projection
from hypergrid_mtf import main as hypergrid_main  # noqa: F401  (its flags)
from hypergrid_mtf.run import checkpoint_checks, console, files, gin_model
from t5_tasks import vocabularies, vocabulary_record

FLAGS = flags.FLAGS

EMBEDDING = "shared/embedding"
_VANILLA = "hypergrid/vanilla.gin"
_SEED = 0


def shapes_there(path: str) -> dict[str, tuple[int, ...]]:
  """The variables of a checkpoint, or of a .json that lists them.

  Args:
    path: a checkpoint's prefix, or {name: shape}, also under "vanilla".

  Returns:
    {name: shape}

  Raises:
    UserError: if it is neither.
  """
  if not path.endswith(".json"):
    checkpoint_files.check_whole(path, "--checkpoint")
    return checkpoints.reader_shapes(path, "--checkpoint")
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    found = found.get("vanilla", found)
    return {name: tuple(map(int, shape)) for name, shape in found.items()}
  except (tf.errors.OpError, ValueError, TypeError, AttributeError) as e:
    raise errors.UserError(
      f"--checkpoint={path} holds no names and shapes: {errors.sentence(e)}"
    ) from None


def check_source(model, path: str) -> None:
  """Checks what shapes cannot show: the gates, and a --vocabulary."""
  if path.endswith(".json"):
    return
  vocabulary = None
  if FLAGS.vocabulary:
    facts = vocabulary_record.facts(
      vocabularies.get_vocabulary(FLAGS.vocabulary)
    )
    vocabulary = {"inputs": facts, "targets": facts}
  checkpoint_checks.check_source(model, path, "--checkpoint", vocabulary)


def vocab_size(found: dict[str, tuple[int, ...]], path: str) -> int:
  """Rows of a checkpoint's embedding.

  Args:
    found: {name: shape}.
    path: of the checkpoint, for the message.

  Returns:
    how many

  Raises:
    UserError: if there is none.
  """
  if EMBEDDING not in found:
    raise errors.UserError(
      f"--checkpoint={path} is not of a T5: it has no {EMBEDDING}."
    )
  return found[EMBEDDING][0]


def taken(model, found: dict) -> checkpoints.WarmStart:
  """What a model takes, by its configuration, old names included.

  Args:
    model: a transformer.Bitransformer.
    found: {name: shape} of the checkpoint.

  Returns:
    a WarmStart
  """
  shapes = checkpoints.variable_shapes(model)
  checkpoints.use_legacy_names(found, shapes)
  return checkpoints.warm_start(found, shapes)


def random_tokens(vocabulary: int, batch: int, length: int) -> np.ndarray:
  """Rows of random tokens that end in </s> and padding.

  Args:
    vocabulary: how many tokens there are.
    batch: rows.
    length: of a row, with its padding.

  Returns:
    int32 [batch, length]
  """
  rng = np.random.default_rng([_SEED, length])
  rows = rng.integers(2, vocabulary, [batch, length]).astype(np.int32)
  for row, end in zip(rows, rng.integers(1, length, batch), strict=True):
    row[end] = 1
    row[end + 1 :] = 0
  return rows


def logits(
  model,
  checkpoint: str,
  names: dict[str, str],
  inputs: np.ndarray,
  targets: np.ndarray,
) -> np.ndarray:
  """Logits of a model after a warm start.

  Args:
    model: a transformer.Bitransformer.
    checkpoint: its path.
    names: {its name there: of a variable that comes from it}; others are fresh.
    inputs: int32 [batch, length]
    targets: int32 [batch, targets length]

  Returns:
    [batch, targets length, vocabulary]
  """
  with tf.Graph().as_default():
    tf.set_random_seed(_SEED)
    graph = mtf.Graph()
    mesh = mtf.Mesh(graph, "mesh")

    def imported(rows):
      batch, length = rows.shape
      dims = [mtf.Dimension("batch", batch), mtf.Dimension("length", length)]
      return mtf.import_tf_tensor(mesh, tf.constant(rows), mtf.Shape(dims))

    out, _ = model.call_simple(
      inputs=imported(inputs),
      targets=imported(targets),
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=utils.get_variable_dtype(),
    )
    out = mtf.anonymize(out)
    impl = mtf.placement_mesh_impl.PlacementMeshImpl(
      mtf.Shape([]), mtf.LayoutRules([]), [""]
    )
    lowering = mtf.Lowering(graph, {mesh: impl})
    fetched = lowering.export_to_tf_tensor(out)
    with tf.Session() as sess:
      sess.run(tf.global_variables_initializer())
      named = {v.op.name: v for v in tf.global_variables()}
      given = {there: named[here] for there, here in names.items()}
      tf.train.Saver(given).restore(sess, checkpoint)
      sess.run(lowering.copy_masters_to_slices())
      # Also of a model that is bound to compute in bfloat16.
      return sess.run(tf.cast(fetched, tf.float32))


def compare(
  checkpoint: str, gin_files: list[str], bindings: list[str], batch: int
) -> pd.DataFrame:
  """How far a warm-started model is from the vanilla one.

  Args:
    checkpoint: its path.
    gin_files: of the model.
    bindings: of the model.
    batch: rows of 64 input and 16 target tokens.

  Returns:
    one row a form of the gate
  """
  size = vocab_size(shapes_there(checkpoint), checkpoint)
  rows = [random_tokens(size, batch, length) for length in (64, 16)]

  def run(files_, bindings_):
    with gin_model.configured(files_, bindings_, size) as model:
      loaded = taken(model, shapes_there(checkpoint)).loaded
      names = {utils.init_checkpoint_variable_mapping(n): n for n in loaded}
      checkpoints.check_dtype(checkpoint, names, "--checkpoint")
      return logits(model, checkpoint, names, *rows)

  vanilla = run([*gin_files, _VANILLA], bindings)
  real = rows[1] > 0
  records = []
  for gate in projection.GATES:
    ours = run(gin_files, [*bindings, f"HyperGrid.gate = '{gate}'"])
    records.append(
      {
        "gate": gate,
        "largest difference": np.abs(ours - vanilla)[real].max(),
        "largest logit": np.abs(vanilla[real]).max(),
        "same token": np.mean(
          ours[real].argmax(-1) == vanilla[real].argmax(-1)
        ),
      }
    )
  return pd.DataFrame(records)


def main(argv) -> int:
  """Says what is loaded.

  Args:
    argv: unused.

  Returns:
    the exit status: 2 if checkpoint and model do not fit
  """
  del argv
  path = FLAGS.checkpoint
  if not path.endswith(".json"):
    path = checkpoints.of_path(path, "--checkpoint")
  if FLAGS.output:
    files.check_output(FLAGS.output)
  if FLAGS.logits and path.endswith(".json"):
    raise errors.UserError(
      f"--logits needs values, and --checkpoint={path} has shapes only."
    )
  if not FLAGS.gin_file:
    raise errors.UserError(
      "no model was given: add --gin_file=models/base.gin and "
      "--gin_file=hypergrid/L2.gin, or others of operative_configs."
    )
  tf.disable_v2_behavior()
  bindings = FLAGS.gin_param or []
  found = shapes_there(path)
  with gin_model.configured(
    FLAGS.gin_file, bindings, vocab_size(found, path)
  ) as model:
    warm = taken(model, found)
    console.say(f"{os.path.basename(path)}\n{warm.to_text()}")
    check_source(model, path)
  report = dict(checkpoint=path, **warm.to_json())
  if FLAGS.logits and not warm.unexpected:
    table = compare(path, FLAGS.gin_file, bindings, FLAGS.batch)
    console.say(table.to_string(index=False, float_format="{:.3g}".format))
    report["logits"] = json.loads(table.to_json(orient="records"))
  if FLAGS.output:
    files.write(FLAGS.output, json.dumps(report, indent=1) + "\n")
    console.say(f"wrote {FLAGS.output}")
  return 2 if warm.unexpected else 0


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("checkpoint", None, "A checkpoint's prefix, or a .json.")
  flags.DEFINE_bool("logits", False, "Compare the function with vanilla T5's.")
  flags.DEFINE_integer("batch", 4, "Rows of --logits.", lower_bound=1)
  flags.DEFINE_string("output", None, "A .json of the report.")
  flags.mark_flag_as_required("checkpoint")


if __name__ == "__main__":
  define_flags()
  console.run(main)
