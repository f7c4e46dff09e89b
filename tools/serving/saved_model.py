"""Writes the folder of an exported model, as TensorFlow Serving expects it.

OUTPUT/STEP/              a SavedModel; TensorFlow Serving takes the highest
  assets.extra/           requests that a server answers before it is ready
  hypergrid_mtf.json      facts for clients
OUTPUT/models.config      for --model_config_file, in its container
OUTPUT/request.json       an example for its REST API
"""

import dataclasses
import os

import tensorflow as tf

from hypergrid_mtf import __version__, trained
from hypergrid_mtf.run import files
from t5_tasks import mixtures, task_tokens
from tools.experiments import evaluation, result
from tools.serving import loaded, options, text_model
from tools.serving.loaded import RECORD

CONFIG, REQUEST = "models.config", "request.json"
_SCHEMA = 2
_FOR_MESSAGES = ("described", "given_by")
_WARMUP = "assets.extra/tf_serving_warmup_requests"
_CONFIG_TEXT = """\
# In this folder:
#   docker run -p 8501:8501 -v "$PWD:/models/{name}" tensorflow/serving \\
#     --model_config_file=/models/{name}/models.config
#   curl -d @request.json http://localhost:8501/v1/models/{name}:predict
# Not tested, for lack of TensorFlow Serving. It must have the ops of
# tensorflow_text.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""


def write(folder: str, source: trained.Trained, how: options.Options) -> None:
  """Writes a SavedModel, atomically, and the files around it.

  Raises:
    UserError: if the file system refuses.
  """
  made = text_model.TextModel(source, how)
  record = _make_record(source, how)
  output_dir = os.path.dirname(folder)
  path = output_dir if "://" in folder else os.path.abspath(output_dir)
  name = os.path.basename(path.rstrip("/")) or "model"
  example = next(iter(record["tasks"].values()), "") + "a text"
  with files.new_folder(folder) as part:
    made.save(part)
    files.write_json(os.path.join(part, RECORD), record)
    tf.io.gfile.makedirs(os.path.dirname(os.path.join(part, _WARMUP)))
    with tf.io.TFRecordWriter(os.path.join(part, _WARMUP)) as f:
      for signature, takes in loaded.SIGNATURES.items():
        texts = {text: [example] for text in takes["inputs"]}
        f.write(_prediction_log(name, signature, texts))
  config = _CONFIG_TEXT.format(name=name)
  files.write(os.path.join(output_dir, CONFIG), config)
  request = {
    "signature_name": loaded.ANSWER,
    "inputs": {"inputs": [example]},
  }
  files.write_json(os.path.join(output_dir, REQUEST), request)


def _prediction_log(model: str, signature: str, texts: dict) -> bytes:
  """A `PredictionLog` of TensorFlow Serving, encoded without its messages.

  The fields are those of apis/prediction_log.proto, predict.proto and
  model.proto there.
  """
  # model_spec: name, signature_name
  request = _field(1, _field(1, model.encode()) + _field(3, signature.encode()))
  for name, rows in texts.items():
    tensor = tf.make_tensor_proto(rows).SerializeToString()
    request += _field(2, _field(1, name.encode()) + _field(2, tensor))  # inputs
  return _field(6, _field(1, request))  # predict_log: request


def _field(number: int, content: bytes) -> bytes:
  """A field of a protocol buffer with bytes, a text or a message."""
  head, length = [number << 3 | 2], len(content)
  while length > 127:
    head.append(length & 127 | 128)
    length >>= 7
  return bytes([*head, length]) + content


def _make_record(source: trained.Trained, how: options.Options) -> dict:
  given = dataclasses.asdict(how)
  return {
    "schema": _SCHEMA,
    "made_by": f"hypergrid_mtf {__version__}",
    "step": source.step,
    "config_hash": result.config_hash(result.config_of(source.config)),
    "mixture": source.mixture and source.mixture.name,
    # With the reserved first token of the inputs.
    "tasks": {task.name: _token_of(task.name) for task in source.tasks},
    # A vocabulary's path is on the training's machine.
    "vocabulary": {
      feature: {k: v for k, v in facts.items() if k not in _FOR_MESSAGES}
      for feature, facts in source.vocabulary_record.items()
    },
    "parameters": sum(value.size for value in source.weights.values()),
    "limits": {k: given.pop(k) for k in ("inputs", "targets", "outputs")},
    "decoding": given,
    "signatures": loaded.SIGNATURES,
    "metrics": evaluation.read_step(source.folder, source.step),
  }


def _token_of(task: str) -> str:
  if not task.endswith(mixtures.TASK_TOKEN_SUFFIX):
    return ""
  return f"<extra_id_{task_tokens.token_index(task)}>"
