"""A trained model in TensorFlow: strings in, strings and scores out."""

import contextlib
from collections.abc import Sequence
from unittest import mock

import seqio
import tensorflow as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import trained
from t5_tasks import mixtures
from tools.serving import decoding, gated_product, options, run_time_mesh
from tools.serving.loaded import ANSWER, SCORE, SIGNATURES

_EOS = 1
_TOKEN = r"^<extra_id_(\d+)>"


class TextModel:
  """Answers texts, and scores given targets, for any number N of texts.

    serving_default  inputs [N]
      -> outputs [N], scores [N], inputs_cut [N], outputs_cut [N]
    score            inputs [N], targets [N]
      -> scores [N], inputs_cut [N], targets_cut [N]

  A score is a log-likelihood, including EOS; texts longer than their limit are
  cut. If tasks have reserved tokens in front of their inputs, inputs may begin
  with one, such as `<extra_id_3>`.

  Attributes:
    functions: {signature: a concrete function}.
  """

  def __init__(
    self,
    source: trained.Trained,
    how: options.Options,
    signatures: Sequence[str] = (ANSWER, SCORE),
  ):
    """Reads the weights of an open model and traces the signatures."""
    self._model = source.model
    self._how = how
    self._has_tokens = any(
      task.name.endswith(mixtures.TASK_TOKEN_SUFFIX) for task in source.tasks
    )
    self._weights = {
      # As t5 reads them without a TPU.
      name: tf.Variable(value.astype("float32"), trainable=False, name=name)
      for name, value in source.weights.items()
    }
    self._vocabularies = source.vocabularies
    # A vocabulary makes a new tokenizer, with its own copy of the pieces, at
    # every access; this one is kept, and saved in the SavedModel.
    self._tokenizers = {
      k: v.tf_tokenizer
      for k, v in self._vocabularies.items()
      if isinstance(v, seqio.SentencePieceVocabulary)
    }
    known = {ANSWER: self._answer, SCORE: self._score}
    # Concrete functions; others would be traced again when saved, with gin's
    # configuration at that time.
    self.functions = {}
    with self._prepared():
      for name in signatures:
        specs = [
          tf.TensorSpec([None], tf.string, text)
          for text in SIGNATURES[name]["inputs"]
        ]
        function = tf.function(known[name], autograph=False)
        self.functions[name] = function.get_concrete_function(*specs)

  def save(self, folder: str) -> None:
    """Writes a SavedModel to a folder, local or in the cloud."""
    saved = tf.Module()
    saved.weights = list(self._weights.values())
    saved.tokenizers = list(self._tokenizers.values())
    tf.saved_model.save(saved, folder, signatures=self.functions)

  @contextlib.contextmanager
  def _prepared(self):
    """Within this context, layers and vocabularies are those for serving."""
    with contextlib.ExitStack() as stack:
      stack.enter_context(gated_product.for_any_size(self._model))
      for kind in {type(self._vocabularies[k]) for k in self._tokenizers}:
        stack.enter_context(
          mock.patch.object(kind, "tf_tokenizer", property(self._tokenizer_of))
        )
      yield

  def _tokenizer_of(self, vocabulary):
    names = [k for k, v in self._vocabularies.items() if v is vocabulary]
    return self._tokenizers[names[0]]

  def _encode(self, texts, feature: str, limit: int):
    """Ids [N, length] with EOS and then 0; and which were cut [N]."""
    vocabulary, texts = self._vocabularies[feature], tf.strings.strip(texts)
    takes_token = self._has_tokens and feature == "inputs"
    if takes_token:
      front, texts = _split_token(texts, vocabulary.vocab_size)
    if feature in self._tokenizers:
      rows = vocabulary.encode_tf(texts)
    else:  # such as bytes, which encode one text at a time
      row = tf.RaggedTensorSpec([None], tf.int32, ragged_rank=0)
      rows = tf.map_fn(vocabulary.encode_tf, texts, fn_output_signature=row)
    end = tf.fill([tf.shape(texts)[0], 1], _EOS)
    rows = tf.concat([tf.cast(rows, tf.int32), end], axis=1)
    if takes_token:
      rows = tf.concat([front, rows], axis=1)
    cut = rows.row_lengths() > limit
    ids = rows[:, :limit].to_tensor()
    # Without texts there is still one column.
    missing = tf.maximum(1 - tf.shape(ids)[1], 0)
    return tf.pad(ids, [[0, 0], [0, missing]]), cut

  def _answer(self, inputs):
    how = self._how
    ids, cut = self._encode(inputs, "inputs", how.inputs)
    found, score = run_time_mesh.build(
      lambda inputs: decoding.answers(self._model, inputs, how),
      {"inputs": (ids, run_time_mesh.INPUTS)},
      self._weights,
    )
    if how.beam_size > 1:
      score = decoding.log_likelihood_of_beam(found, score, how.alpha)
    vocabulary = self._vocabularies["targets"]
    return {
      "outputs": vocabulary.decode_tf(utils.clean_decodes(found)),
      "scores": score,
      "inputs_cut": cut,
      "outputs_cut": tf.reduce_all(tf.not_equal(found, _EOS), axis=-1),
    }

  def _score(self, inputs, targets):
    ids, cut = self._encode(inputs, "inputs", self._how.inputs)
    wanted, wanted_cut = self._encode(targets, "targets", self._how.targets)
    (score,) = run_time_mesh.build(
      lambda inputs, targets: decoding.scores(self._model, inputs, targets),
      {
        "inputs": (ids, run_time_mesh.INPUTS),
        "targets": (wanted, run_time_mesh.TARGETS),
      },
      self._weights,
    )
    return {"scores": score, "inputs_cut": cut, "targets_cut": wanted_cut}


def _split_token(texts, vocab_size: int):
  """Splits off a reserved first token: ids [N, 0 or 1], and the rest [N]."""
  has = tf.strings.regex_full_match(texts, f"(?s){_TOKEN}.*")
  number = tf.strings.regex_replace(texts, f"(?s){_TOKEN}.*", r"\1")
  number = tf.strings.to_number(tf.where(has, number, "0"), tf.int32)
  ids = tf.RaggedTensor.from_row_lengths(
    vocab_size - 1 - tf.boolean_mask(number, has), tf.cast(has, tf.int64)
  )
  return ids, tf.strings.regex_replace(texts, _TOKEN, "")
