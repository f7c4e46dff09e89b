"""One served model in a process of its own, that answers batches when asked.

Lines of JSON come in and go out. What is imported is what a user of that model
imports; this project is not.
"""

import json
import os
import sys
import time


def _saved_model(folder: str):
  import tensorflow as tf
  import tensorflow_text  # noqa: F401  (the operations of its tokenizer)

  loaded = tf.saved_model.load(folder)
  function = loaded.signatures["serving_default"]

  def answer(texts, tokens):
    del tokens
    found = function(inputs=tf.constant(texts))
    return [bool(cut) for cut in found["outputs_cut"].numpy()]

  return answer


def _hugging_face(folder: str):
  import numpy as np
  import safetensors.numpy
  import tensorflow as tf
  import transformers
  from transformers import modeling_tf_pytorch_utils

  config = transformers.T5Config.from_pretrained(folder)
  model = transformers.TFT5ForConditionalGeneration(config)
  model = modeling_tf_pytorch_utils.load_pytorch_state_dict_in_tf2_model(
    model,
    safetensors.numpy.load_file(os.path.join(folder, "model.safetensors")),
    allow_missing_keys=True,
  )

  def answer(texts, tokens):
    """Ids are given, so that no time goes to a tokenizer."""
    ids = np.zeros([len(texts), max(len(t) + 1 for t in texts)], np.int32)
    for row, text in zip(ids, texts, strict=True):
      row[: len(text) + 1] = [*(b + 3 for b in text.encode()), 1]
    found = model.generate(
      input_ids=tf.constant(ids),
      attention_mask=tf.constant((ids > 0).astype(np.int32)),
      max_new_tokens=tokens,
      do_sample=False,
      num_beams=1,
    )
    return [bool(c) for c in (found.numpy()[:, 1:] != 1).all(axis=1)]

  return answer


_KINDS = {"saved_model": _saved_model, "hugging_face": _hugging_face}


def serve() -> None:
  """Answers until standard input ends; all prints go to the log."""
  replies = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)  # what the libraries print is no reply

  def reply(**values):
    replies.write(json.dumps(values) + "\n")

  job = json.loads(sys.stdin.readline())
  start = time.perf_counter()
  answer = _KINDS[job["kind"]](job["folder"])
  reply(seconds=time.perf_counter() - start)
  for line in sys.stdin:
    asked = json.loads(line)
    start = time.perf_counter()
    cut = answer(asked["texts"], asked["tokens"])
    reply(seconds=time.perf_counter() - start, full=all(cut))


if __name__ == "__main__":
  serve()
