"""What is said of a decoding: how far it is, and what was cut.

An input that is longer than its row, and an answer that reaches the limit, are
cut by Mesh TensorFlow without a word. While a command of ours runs (`show`),
its functions are wrapped, and what they return is not changed.
"""

import contextlib
import functools
import inspect
import weakref
from unittest import mock

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import dataset as transformer_dataset
from mesh_tensorflow.transformer import utils
from t5.models import utils as t5_utils
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

from hypergrid_mtf.run import console, gin_files, input_files, progress

_PAD, _EOS = 0, 1  # as `clean_decodes` has them


class CutAnswers(tf.train.SessionRunHook):
  """Which answers of a decoding ended at its limit, and not by themselves."""

  def __init__(self, decodes):
    """Creates the hook.

    Args:
      decodes: {graph: name of the ids [batch, length] that it decodes}, filled
        when the graph is built. Where it has none, as on a TPU, nothing is
        counted.
    """
    self._decodes = decodes
    self._ids = None
    self.limit = None
    self.cut = []  # a bool for each answer

  def begin(self):
    graph = tf.get_default_graph()
    name = self._decodes.get(graph)
    self._ids = graph.get_tensor_by_name(name) if name else None

  def before_run(self, run_context):
    del run_context
    if self._ids is not None:
      return tf.train.SessionRunArgs(self._ids)

  def after_run(self, run_context, run_values):
    del run_context
    if self._ids is not None:
      ids = run_values.results
      self.limit = ids.shape[-1]
      self.cut += [bool(row[-1] not in (_PAD, _EOS)) for row in ids]

  def to_text(self, answers: int | None, checkpoint: str | None) -> str | None:
    """A sentence on how many were cut, or None if none was.

    Args:
      answers: how many there are; what follows them fills the last batch.
      checkpoint: path of what gave them.
    """
    cut = self.cut[:answers]
    if not any(cut):
      return None
    step = f" of step {checkpoint.rsplit('-', 1)[-1]}" if checkpoint else ""
    limit = "Bitransformer.decode.max_decode_length"
    if gin_files.value(limit) is None:
      limit = f"as long as the inputs; {limit} gives another limit"
    return (
      f"{sum(cut)} of {len(cut)} answers{step} were cut at {self.limit} tokens "
      f"({limit})"
    )


@contextlib.contextmanager
def show():
  """Within this context, decodings show their progress and what they cut."""
  said: set[str] = set()
  examples = 0  # of the decoding that is under way
  cut_answers = None
  decodes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
  estimator_predict = tpu_estimator.TPUEstimator.predict
  original_decode = utils.decode
  original_clean_decodes = utils.clean_decodes
  original_encode_inputs = utils.encode_inputs
  original_eval_model = utils.eval_model
  original_targets = t5_utils.get_targets_and_examples

  def say_once(sentence):
    if sentence and sentence not in said:
      console.say(sentence)
      said.add(sentence)

  @functools.wraps(estimator_predict)
  def predict(self, input_fn, hooks=None, **kwargs):
    hooks = [*(hooks or []), *([cut_answers] if cut_answers else [])]
    return estimator_predict(self, input_fn, hooks=hooks, **kwargs)

  @functools.wraps(original_clean_decodes)
  def clean_decodes(*args, **kwargs):
    ids = original_clean_decodes(*args, **kwargs)
    # Inside the loop of a TPU it cannot be fetched.
    if ids.op._get_control_flow_context() is None:
      decodes[ids.graph] = ids.name  # the answers are cleaned last
    return ids

  @functools.wraps(original_decode)
  def decode(estimator, input_fn, vocabulary, checkpoint_path=None):
    nonlocal cut_answers
    cut_answers = CutAnswers(decodes)
    outputs = original_decode(estimator, input_fn, vocabulary, checkpoint_path)
    with progress.bar(examples or None, "decode", "example") as bar:
      for output in outputs:
        if not bar.total or bar.n < bar.total:
          bar.update()  # the last batch is padded beyond the total
        yield output
    say_once(cut_answers.to_text(examples or None, checkpoint_path))
    cut_answers = None

  @functools.wraps(original_encode_inputs)
  def encode_inputs(inputs, vocabulary, *args, **kwargs):
    nonlocal examples
    rows = original_encode_inputs(inputs, vocabulary, *args, **kwargs)
    asked = _arguments(
      original_encode_inputs, inputs, vocabulary, *args, **kwargs
    )

    def longer(i):
      prefix = asked["unscored_prefix"]
      return original_encode_inputs(
        **{
          **asked,
          "inputs": [inputs[i]],
          "unscored_prefix": prefix and [prefix[i]],
          "batch_size": 1,
          "sequence_length": asked["sequence_length"] + 1,
        }
      )[0]

    say_once(input_files.describe_cut(inputs, rows, longer))
    examples = len(inputs) * gin_files.value("decode_from_file.repeats", 1)
    return rows

  def counted(dataset):
    """The data set, whose targets are counted."""
    dataset = transformer_dataset.EvalDataset(*dataset)

    def postprocess(*args, **kwargs):
      nonlocal examples
      examples += bool(kwargs.get("is_target"))
      return dataset.postprocess_fn(*args, **kwargs)

    return dataset._replace(postprocess_fn=postprocess)

  @functools.wraps(original_eval_model)
  def eval_model(*args, **kwargs):
    nonlocal examples
    examples = 0
    asked = _arguments(original_eval_model, *args, **kwargs)
    eval_dataset_fn = asked["eval_dataset_fn"]
    if eval_dataset_fn is not None:
      asked["eval_dataset_fn"] = lambda **kw: [
        counted(d) for d in eval_dataset_fn(**kw)
      ]
    return original_eval_model(**asked)

  @functools.wraps(original_targets)
  def targets_and_examples(*args, **kwargs):
    nonlocal examples
    result = original_targets(*args, **kwargs)
    examples = sum(len(targets) for targets in result[0].values())
    return result

  with (
    mock.patch.object(
      t5_utils, "get_targets_and_examples", targets_and_examples
    ),
    mock.patch.object(tpu_estimator.TPUEstimator, "predict", predict),
    mock.patch.object(utils, "clean_decodes", clean_decodes),
    mock.patch.object(utils, "decode", decode),
    mock.patch.object(utils, "encode_inputs", encode_inputs),
    mock.patch.object(utils, "eval_model", eval_model),
  ):
    yield


def _arguments(function, *args, **kwargs) -> dict:
  """All arguments of a call by name, defaults included."""
  bound = inspect.signature(function).bind(*args, **kwargs)
  bound.apply_defaults()
  return dict(bound.arguments)
