"""What transformers' TensorFlow T5 computes of a folder."""

import os

import numpy as np
import safetensors.numpy
import tensorflow as tf
import transformers
from transformers import modeling_tf_pytorch_utils


def load(folder: str) -> transformers.TFT5ForConditionalGeneration:
  """The model of a folder; all of its weights are there, and no others.

  As `from_pretrained` does it, which in TensorFlow asks a file of safetensors
  for what it has not (transformers issue 40028).
  """
  config = transformers.T5Config.from_pretrained(folder)
  model = transformers.TFT5ForConditionalGeneration(config)
  model, said = modeling_tf_pytorch_utils.load_pytorch_state_dict_in_tf2_model(
    model,
    safetensors.numpy.load_file(os.path.join(folder, "model.safetensors")),
    allow_missing_keys=True,
    output_loading_info=True,
  )
  assert not any(said.values()), said
  model.generation_config = transformers.GenerationConfig.from_pretrained(
    folder
  )
  return model


def logits(model, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """As t5 computes them: targets are shifted right, padding is masked.

  Args:
    model: from `load`.
    inputs: int32 [batch, length]
    targets: int32 [batch, targets length]

  Returns:
    [batch, targets length, vocabulary]
  """
  shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
  return model(
    input_ids=tf.constant(inputs),
    attention_mask=tf.constant((inputs > 0).astype(np.int32)),
    decoder_input_ids=tf.constant(shifted),
    decoder_attention_mask=tf.constant((targets > 0).astype(np.int32)),
  ).logits.numpy()


def greedy(model, inputs: np.ndarray, most: int) -> np.ndarray:
  """Tokens that are chosen one by one, [batch, most], zeros after </s>."""
  found = model.generate(
    input_ids=tf.constant(inputs),
    attention_mask=tf.constant((inputs > 0).astype(np.int32)),
    max_new_tokens=most,
    do_sample=False,
    num_beams=1,
  ).numpy()[:, 1:]  # without the start symbol
  return np.pad(found, ((0, 0), (0, most - found.shape[1])))
