"""A benchmark process that holds one model and steps on request.

`tools.cost.turns` runs this file by its path. It reads and writes lines of
JSON: the first is a request, answered when the model is ready; then come
"step", or the name of a file for the trace of a step. After an error, the last
answer is `failure`. Each model has its own process, so that its peak memory is
its own, and a served model imports only what a user would import, nothing of
this project.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback

_PR_SET_PDEATHSIG = 1


def _hold_step(request):
  """A step of t5: training, evaluation, decoding."""
  import hypergrid_mtf  # noqa: F401  (first, because it patches what follows)

  # isort: split
  import tensorflow.compat.v1 as tf

  from tools.cost import stepper, steps

  tf.disable_v2_behavior()
  tf.logging.set_verbosity(tf.logging.WARN)
  model = stepper.Model(steps.Job.from_json(request["job"]))
  facts = dict(ops=model.num_ops, parameters=model.num_parameters)
  return facts, model.run, model.trace


def _hold_saved_model(request):
  """A model from tools.export that answers texts."""
  import tensorflow as tf
  import tensorflow_text  # noqa: F401  (the operations of its tokenizer)

  loaded = tf.saved_model.load(request["folder"])
  function = loaded.signatures["serving_default"]
  texts = tf.constant(request["texts"])

  def answer():
    if not function(inputs=texts)["outputs_cut"].numpy().all():
      raise ValueError("an answer ended early, so less work was done")

  return {}, answer, None


def _hold_hugging_face(request):
  """TFT5's `generate`, on ids, so that no time goes to a tokenizer."""
  import numpy as np
  import safetensors.numpy
  import tensorflow as tf
  import transformers
  from transformers import modeling_tf_pytorch_utils

  config = transformers.T5Config.from_pretrained(request["folder"])
  model = transformers.TFT5ForConditionalGeneration(config)
  path = os.path.join(request["folder"], "model.safetensors")
  model = modeling_tf_pytorch_utils.load_pytorch_state_dict_in_tf2_model(
    model, safetensors.numpy.load_file(path), allow_missing_keys=True
  )
  texts = request["texts"]
  ids = np.zeros([len(texts), max(len(t) + 1 for t in texts)], np.int32)
  for row, text in zip(ids, texts, strict=True):
    row[: len(text) + 1] = [*(b + 3 for b in text.encode()), 1]
  mask = tf.constant((ids > 0).astype(np.int32))

  def answer():
    found = model.generate(
      input_ids=tf.constant(ids),
      attention_mask=mask,
      max_new_tokens=request["tokens"],
      do_sample=False,
      num_beams=1,
    )
    if (found.numpy()[:, 1:] == 1).any():
      raise ValueError("an answer ended early, so less work was done")

  return {}, answer, None


_KINDS = {
  "step": _hold_step,
  "saved_model": _hold_saved_model,
  "hugging_face": _hold_hugging_face,
}


def answer(requests, channel) -> None:
  """Holds one model, and steps on request.

  Args:
    requests: a text stream of lines.
    channel: a text stream, for the answers.
  """

  def send(**fields):
    channel.write(json.dumps(fields) + "\n")

  try:
    request = json.loads(requests.readline())
    begin = time.perf_counter()
    facts, step, trace = _KINDS[request["kind"]](request)
    send(build_seconds=time.perf_counter() - begin, **facts)
    for line in requests:
      asked = json.loads(line)
      begin = time.perf_counter()
      if asked == "step":
        step()
      else:
        trace(asked)
      send(seconds=time.perf_counter() - begin)
  except Exception as e:
    traceback.print_exc()
    message = (str(e).strip() or "no message").splitlines()[0]
    send(failure=f"{type(e).__name__}: {message}")


def serve(parent: int) -> None:
  """Answers the parent until it closes stdin or dies; prints go to the log."""
  channel = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:  # the parent died during our imports
    sys.exit(1)
  answer(sys.stdin, channel)


if __name__ == "__main__":
  serve(int(sys.argv[1]))
