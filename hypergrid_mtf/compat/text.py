"""Patches of how mesh_tensorflow reads, decodes and scores texts."""

import tensorflow as tf
from mesh_tensorflow.transformer import utils
from t5.models import utils as t5_utils

from hypergrid_mtf.compat.wrap import wrap


def patch_decoded_bytes() -> None:
  """Predictions decoded in the graph are written as Python bytes literals.

  What: without a TPU, `mesh_tensorflow.transformer.utils.decode` yields bytes,
  and `infer` writes the line `b'text'` instead of `text`. They are now decoded.
  Can go: with a mesh_tensorflow whose decode_from_file decodes bytes.
  """

  @wrap(utils, "decode")
  def decode(original, *args, **kwargs):
    for output in original(*args, **kwargs):
      yield output.decode("utf-8") if isinstance(output, bytes) else output


def patch_written_inputs() -> None:
  """The inputs of an evaluation are written as Python bytes literals.

  What: `write_lines_to_file` of mesh_tensorflow, and t5's for `MtfModel.eval`,
  writes the line `b'text'` in `<task>_inputs`. Bytes are now decoded.
  Can go: with releases whose evaluations decode their inputs.
  """
  for owner in (utils, t5_utils):

    @wrap(owner, "write_lines_to_file")
    def write_lines_to_file(original, lines, filename):
      lines = [tf.compat.as_str_any(line) for line in lines]
      return original(lines, filename)


def patch_scored_targets() -> None:
  """Scoring without a TPU fails, or treats an empty target as padding.

  What: the graph then decodes the scored targets to bytes, but everything
  upstream that reads them (`score_with_estimator`, which counts a data set's
  padding, and `save_scores`) expects arrays of ids. They now stay ids, as on a
  TPU. An exported model still returns text, but returned one score per batch
  element; it is now cut to the number of inputs.
  Can go: with a mesh_tensorflow whose scoring accepts decoded targets, and
  whose exported models return one score per input.
  """

  @wrap(utils, "tpu_estimator_model_fn")
  def tpu_estimator_model_fn(original, *args, **kwargs):
    model_fn = original(*args, **kwargs)
    if not kwargs.get("score_in_predict_mode"):
      return model_fn
    # The vocabulary is used only for decoding.
    without_decoding = original(*args, **{**kwargs, "vocabulary": None})

    # Estimators look at the names of these arguments.
    def scoring(features, labels, mode, params=None, config=None):
      asked = features.get("predict_batch_size")  # only in an exported model
      if asked is None:
        return without_decoding(features, labels, mode, params, config)
      spec = model_fn(features, labels, mode, params, config)
      cut = {k: v[:asked] for k, v in spec.predictions.items()}
      # A new spec, because the export outputs are derived from the predictions.
      fields = {**spec._asdict(), "predictions": cut, "export_outputs": None}
      return type(spec)(**fields)

    return scoring


def patch_lines_of_files() -> None:
  """`infer` and scoring drop a blank last line and keep a byte-order mark.

  What: `get_inputs_from_file` drops the last line if it is blank, so there is
  one answer fewer than inputs, and takes the byte-order mark of some editors
  for a letter. Lines are now read as they are in the file; the line end of the
  last one does not begin another.
  Can go: with a mesh_tensorflow whose function keeps its lines.
  """

  @wrap(utils, "get_inputs_from_file")
  def get_inputs_from_file(original, input_filename, ignore_comments=False):
    del original  # it strips what it read
    with tf.io.gfile.GFile(input_filename, "rb") as f:
      lines = f.read().decode("utf-8-sig").split("\n")
    if not lines[-1]:
      lines.pop()
    return [
      line.rstrip()
      for line in lines
      if not (ignore_comments and line.startswith("#"))
    ]
