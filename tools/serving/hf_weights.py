"""Converts T5 weights between Mesh TensorFlow and transformers.

PyTorch's linear layers have a matrix [fan_out, fan_in], Mesh TensorFlow's
[fan_in, fan_out]. Only this and the names differ, so both directions are exact.
"""

import os
import re

import numpy as np
import safetensors
import safetensors.numpy
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors, weights
from tools.serving import hf_config

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Applied in order to one of our names.
_RENAMED = (
  (r"/block_0*(\d+)/layer_0*(\d+)/", r".block.\1.layer.\2."),
  (r"^(\w+)/rms_norm/scale$", r"\1.final_layer_norm.weight"),
  (r"rms_norm/scale$", "layer_norm.weight"),
  (r"relative_attention_bias$", "relative_attention_bias.weight"),
  (r"/([qkvo])$", r".\1.weight"),
  (r"/kernel$", ".weight"),
  (r"^shared/embedding$", "shared.weight"),
  (r"^decoder/logits\.", "lm_head."),
  (r"/", "."),
)
# Copies of the embedding, and remains of old conversions, which transformers
# skips.
_COPIES = (
  "encoder.embed_tokens.weight",
  "decoder.embed_tokens.weight",
  "lm_head.weight",
)
_SKIPPED = (
  "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
)


def transformers_name(name: str) -> str:
  """transformers' name of a variable of Mesh TensorFlow's vanilla T5."""
  for ours, theirs in _RENAMED:
    name = re.sub(ours, theirs, name)
  return name


def _transpose(name: str, value: np.ndarray) -> np.ndarray:
  """Transposes matrices; the conversion is the same in both directions."""
  if name == weights.EMBEDDING or value.ndim < 2:
    return value
  return np.ascontiguousarray(value.T)


def write(folder: str, ours: weights.Weights) -> None:
  """Writes `model.safetensors` to a local folder, like transformers."""
  theirs = {
    transformers_name(n): _transpose(n, value) for n, value in ours.items()
  }
  # "pt": matrices have PyTorch's layout; TensorFlow can read it too.
  safetensors.numpy.save_file(
    theirs, os.path.join(folder, FILE), metadata={"format": "pt"}
  )


def load(folder: str) -> weights.Weights:
  """Loads all tensors of a folder, from one file or several with an index.

  Returns:
    {transformers' name: value}

  Raises:
    UserError: if there are none, or a file is damaged.
  """
  index = os.path.join(folder, INDEX)
  names = [FILE]
  if os.path.exists(index):
    named = hf_config.read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(
      os.path.basename(str(name)) == name for name in named.values()
    ):
      raise errors.UserError(
        f"{index} is not an index of weight files in this folder: copy it "
        "again."
      )
    names = sorted(set(named.values()))
  elif not os.path.exists(os.path.join(folder, FILE)):
    pytorch = os.path.exists(os.path.join(folder, "pytorch_model.bin"))
    raise errors.UserError(
      f"{folder} has no {FILE}"
      + (
        ", and pytorch_model.bin needs PyTorch: save the model there with "
        "save_pretrained(…, safe_serialization=True)."
        if pytorch
        else ": give a folder written by save_pretrained of transformers."
      )
    )
  found: weights.Weights = {}
  for name in names:
    path = os.path.join(folder, name)
    try:
      with safetensors.safe_open(path, framework="np") as f:
        # bfloat16 too, which TensorFlow registers with NumPy.
        found.update({key: f.get_tensor(key) for key in f.keys()})  # noqa: SIM118
    except FileNotFoundError:
      raise errors.UserError(
        f"{path} does not exist, but {INDEX} names it: copy all files of the "
        "model."
      ) from None
    except (safetensors.SafetensorError, OSError) as e:
      raise errors.UserError(
        f"{path} is damaged or not a safetensors file ({errors.sentence(e)}): "
        "copy it again."
      ) from None
  return found


def dtype_of(found: weights.Weights, folder: str) -> str:
  """The type for the weights in t5, "float32" or "bfloat16".

  Some conversions keep wo in float32; precision is never reduced. float16,
  which t5 does not train, becomes float32.

  Raises:
    UserError: for any other type.
  """
  for name, value in found.items():
    if value.dtype.name not in ("float32", "bfloat16", "float16"):
      raise errors.UserError(
        f"{folder} has {name} as {value.dtype.name}: only float32, bfloat16 "
        "and float16 are supported."
      )
  names = {value.dtype.name for value in found.values()}
  return "bfloat16" if names == {"bfloat16"} else "float32"


def convert(
  found: weights.Weights,
  shapes: dict[str, tuple[int, ...]],
  dtype: str,
  folder: str,
) -> weights.Weights:
  """Converts transformers' weights to those of Mesh TensorFlow's model.

  Raises:
    UserError: if a weight is missing, left over or of another shape than in
      config.json.
  """
  wanted = {transformers_name(name): name for name in shapes}
  # A file may have the embedding only under the name of one of its copies.
  shared = transformers_name(weights.EMBEDDING)
  copies = [n for n in _COPIES if n in found and n not in wanted]
  if shared not in found and copies:
    found = {**found, shared: found[copies[0]]}
  missing = [n for n in wanted if n not in found]
  extra = found.keys() - {*wanted, *copies, _SKIPPED}
  if missing or extra:
    raise errors.UserError(
      f"the weights in {folder} do not match its config.json: "
      f"{(missing or sorted(extra))[0]} is "
      f"{'missing' if missing else 'left over'} ({len(missing)} are missing "
      f"and {len(extra)} left over)."
    )
  for name in copies:
    if not np.array_equal(found[name], found[shared]):
      raise errors.UserError(
        f"{folder} has a {name} that differs from {shared}, but config.json "
        "ties them: correct tie_word_embeddings there."
      )
  converted = {}
  for name, shape in shapes.items():
    there = transformers_name(name)
    value = _transpose(name, found[there])
    if value.shape != tuple(shape):
      raise errors.UserError(
        f"{there} in {folder} is {list(found[there].shape)}, which does not "
        "match config.json."
      )
    converted[name] = value.astype(tf.as_dtype(dtype).as_numpy_dtype)
  return converted
