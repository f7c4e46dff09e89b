"""Patches of the texts that mesh_tensorflow reads, decodes and scores."""

import tensorflow as tf
from mesh_tensorflow.transformer import utils
from t5.models import utils as t5_utils

from hypergrid_mtf.compat.wrap import wrap


def patch_decoded_bytes() -> None:
  """Predictions decoded in the graph are written as Python writes bytes.

  What: without a TPU, `mesh_tensorflow.transformer.utils.decode` yields bytes,
  and `infer` writes the line `b'text'` instead of `text`. They become text.
  Can go: with a mesh_tensorflow whose decode_from_file decodes.
  """

  @wrap(utils, "decode")
  def decode(original, *args, **kwargs):
    for output in original(*args, **kwargs):
      yield output.decode("utf-8") if isinstance(output, bytes) else output


def patch_written_inputs() -> None:
  """The inputs of an evaluation are written as Python writes bytes.

  What: `write_lines_to_file` of mesh_tensorflow, and t5's for `MtfModel.eval`,
  writes the line `b'text'` in `<task>_inputs`. Bytes become text.
  Can go: with releases whose evaluations decode their inputs.
  """
  for owner in (utils, t5_utils):

    @wrap(owner, "write_lines_to_file")
    def write_lines_to_file(original, lines, filename):
      lines = [tf.compat.as_str_any(line) for line in lines]
      return original(lines, filename)


def patch_scored_targets() -> None:
  """Scoring without a TPU fails, or takes an empty target for padding.

  What: the graph then decodes the targets it scored to bytes, and everything
  that reads them upstream (`score_with_estimator`, which counts the padding of
  a data set, and `save_scores`) takes them for arrays of ids. They stay ids, as
  on a TPU. An exported model goes on to answer with text; but it gives as many
  scores as its batch has rows, and is cut to as many as it was asked for.
  Can go: with a mesh_tensorflow whose scoring takes decoded targets, and whose
  exported scores have the length of what came in.
  """

  @wrap(utils, "tpu_estimator_model_fn")
  def tpu_estimator_model_fn(original, *args, **kwargs):
    model_fn = original(*args, **kwargs)
    if not kwargs.get("score_in_predict_mode"):
      return model_fn
    # The vocabulary is there to decode with, and for nothing else.
    without_decoding = original(*args, **{**kwargs, "vocabulary": None})

    # Estimators look at the names of these arguments.
    def scoring(features, labels, mode, params=None, config=None):
      asked = features.get("predict_batch_size")  # in an exported model alone
      if asked is None:
        return without_decoding(features, labels, mode, params, config)
      spec = model_fn(features, labels, mode, params, config)
      cut = {k: v[:asked] for k, v in spec.predictions.items()}
      # Made anew, since what is exported is derived from the predictions.
      fields = {**spec._asdict(), "predictions": cut, "export_outputs": None}
      return type(spec)(**fields)

    return scoring


def patch_lines_of_files() -> None:
  """`infer` and scoring drop a blank last line, and score the byte-order mark.

  What: `get_inputs_from_file` strips the last line away where it is blank, so
  that the answers have one line less than the inputs, and takes the mark that
  some editors put before UTF-8 for a letter. Lines come as they are in the
  file; what ends the last one begins no other.
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
