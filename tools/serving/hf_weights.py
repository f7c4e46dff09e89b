"""Weights of T5 under Mesh TensorFlow's names and under those of transformers.

PyTorch's linear layers hold a matrix [fan_out, fan_in]; Mesh TensorFlow's are
[fan_in, fan_out]. Nothing else differs but names, so both ways are exact.
"""

import json
import os
import re

import numpy as np
import safetensors
import safetensors.numpy
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from tools.serving import weights

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PYTORCH_FILE = "pytorch_model.bin"

_PARTS = (
  (r"SelfAttention/([qkvo])", r"SelfAttention.\1.weight"),
  (r"EncDecAttention/([qkvo])", r"EncDecAttention.\1.weight"),
  (
    r"SelfAttention/relative_attention_bias",
    "SelfAttention.relative_attention_bias.weight",
  ),
  (r"DenseReluDense/(wi|wi_\d|wo)/kernel", r"DenseReluDense.\1.weight"),
  (r"rms_norm/scale", "layer_norm.weight"),
)
_OTHERS = {
  weights.EMBEDDING: "shared.weight",
  "decoder/logits/kernel": "lm_head.weight",
  "encoder/rms_norm/scale": "encoder.final_layer_norm.weight",
  "decoder/rms_norm/scale": "decoder.final_layer_norm.weight",
}
_LAYER = re.compile(r"(encoder|decoder)/block_(\d+)/layer_(\d+)/(.+)")
# Copies of the embedding, and what old conversions left and transformers skips.
_COPIES = (
  "encoder.embed_tokens.weight",
  "decoder.embed_tokens.weight",
  "lm_head.weight",
)
_SKIPPED = re.compile(
  r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\."
)
_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float32"}


def name_there(name: str) -> str:
  """What transformers calls a variable of Mesh TensorFlow's T5.

  Args:
    name: as in `checkpoints.variable_shapes` of a vanilla T5.

  Returns:
    as in a state dict of T5ForConditionalGeneration
  """
  if name in _OTHERS:
    return _OTHERS[name]
  layer = _LAYER.fullmatch(name)
  if layer:
    stack, block, number, rest = layer.groups()
    for ours, theirs in _PARTS:
      part = re.fullmatch(ours, rest)
      if part:
        return f"{stack}.block.{int(block)}.layer.{int(number)}." + part.expand(
          theirs
        )
  raise ValueError(f"{name} is not a variable of a vanilla T5")


def _turned(name: str, value: np.ndarray) -> np.ndarray:
  """A matrix from one convention to the other, which is the same both ways."""
  if name == weights.EMBEDDING or value.ndim < 2:
    return value
  return np.ascontiguousarray(value.T)


def write(folder: str, ours: weights.Weights) -> None:
  """Writes `model.safetensors` as PyTorch's transformers does.

  Args:
    folder: local, that exists.
    ours: {variable: value}.
  """
  theirs = {
    name_there(name): _turned(name, value) for name, value in ours.items()
  }
  # "pt": matrices are laid out as PyTorch's; TensorFlow reads it, too.
  safetensors.numpy.save_file(
    theirs, os.path.join(folder, FILE), metadata={"format": "pt"}
  )


def files_of(folder: str) -> dict[str, str]:
  """Which file holds which tensor, by one file or by the index of several.

  Args:
    folder: of a model of transformers.

  Returns:
    {tensor: path}

  Raises:
    UserError: if there are none, or one is damaged.
  """
  index = os.path.join(folder, INDEX)
  if os.path.exists(index):
    try:
      with open(index, encoding="utf-8") as f:
        names = sorted(set(json.load(f)["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
      raise errors.UserError(
        f"{index} is not an index of weights: {errors.sentence(e)}"
      ) from None
  elif os.path.exists(os.path.join(folder, FILE)):
    names = [FILE]
  else:
    pytorch = os.path.exists(os.path.join(folder, _PYTORCH_FILE))
    raise errors.UserError(
      f"{folder} holds no {FILE}"
      + (
        f", and {_PYTORCH_FILE} needs PyTorch: save the model there with "
        "save_pretrained(…, safe_serialization=True)."
        if pytorch
        else ": give a folder that save_pretrained of transformers wrote."
      )
    )
  found = {}
  for name in names:
    path = os.path.join(folder, name)
    with _opened(path) as f:
      found.update(dict.fromkeys(f.keys(), path))
  return found


def _opened(path: str):
  """A file of tensors; bfloat16 too, which TensorFlow tells NumPy of."""
  try:
    return safetensors.safe_open(path, framework="np")
  except FileNotFoundError:
    raise errors.UserError(
      f"{path} is not there, and {INDEX} names it: copy all files of the model."
    ) from None
  except (safetensors.SafetensorError, OSError) as e:
    raise errors.UserError(
      f"{path} is damaged or is not a file of safetensors "
      f"({errors.sentence(e)}): copy it again."
    ) from None


def dtype_of(found: dict[str, str]) -> str:
  """The type of the weights as t5 will hold them.

  Args:
    found: from `files_of`.

  Returns:
    "float32" or "bfloat16"; float16, which t5 does not train, becomes float32

  Raises:
    UserError: for a type that is none of these, or for a mix.
  """
  types = {}
  for path in sorted(set(found.values())):
    with _opened(path) as f:
      types.update({n: f.get_slice(n).get_dtype() for n in f.keys()})  # noqa: SIM118
  # Some conversions keep wo in float32: no precision is given up.
  kinds = {_TYPES.get(t, t) for t in types.values()}
  unknown = kinds - set(_TYPES.values())
  if unknown:
    name = next(n for n, t in types.items() if _TYPES.get(t, t) in unknown)
    raise errors.UserError(
      f"{found[name]} holds {name} as {types[name]}: only F32, BF16 and F16 "
      "are weights of a T5."
    )
  return "bfloat16" if kinds == {"bfloat16"} else "float32"


def read(
  folder: str,
  found: dict[str, str],
  shapes: dict[str, tuple[int, ...]],
  dtype: str,
) -> weights.Weights:
  """Reads the weights of a T5 that transformers wrote.

  Args:
    folder: of the model, for messages.
    found: from `files_of`.
    shapes: of the variables of Mesh TensorFlow's model.
    dtype: as they will be held.

  Returns:
    {variable: value}

  Raises:
    UserError: if a weight is missing, left over or of another shape than
      config.json says.
  """
  wanted = {name_there(name): name for name in shapes}
  extra = [
    n
    for n in found
    if n not in wanted and n not in _COPIES and not _SKIPPED.match(n)
  ]
  missing = [n for n in wanted if n not in found]
  # A file may hold the embedding under the name of one of its copies alone.
  if missing == ["shared.weight"]:
    copies = [n for n in _COPIES[:2] if n in found]
    if copies:
      wanted[copies[0]] = wanted.pop("shared.weight")
      missing = []
  if missing or extra:
    raise errors.UserError(
      f"the weights in {folder} are not those of the T5 of its config.json: "
      f"{(missing or extra)[0]} is {'missing' if missing else 'left over'} "
      f"({len(missing)} are missing and {len(extra)} left over)."
    )
  by_file: dict[str, list[str]] = {}
  for name in wanted:
    by_file.setdefault(found[name], []).append(name)
  read_here = {}
  for path, names in by_file.items():
    with _opened(path) as f:
      for there in names:
        here = wanted[there]
        value = _turned(here, f.get_tensor(there))
        if value.shape != tuple(shapes[here]):
          raise errors.UserError(
            f"{there} in {path} is {list(f.get_slice(there).get_shape())}, "
            "which is not what config.json says."
          )
        read_here[here] = value.astype(tf.as_dtype(dtype).as_numpy_dtype)
      _check_copies(f, wanted, path)
  return {name: read_here[name] for name in shapes}


def _check_copies(f, wanted, path: str) -> None:
  """Refuses a model whose embeddings or classifier are tied no longer."""
  names = set(f.keys())
  embedding = next(t for t, ours in wanted.items() if ours == weights.EMBEDDING)
  for copy in _COPIES:
    if copy in wanted or copy not in names or embedding not in names:
      continue
    if not np.array_equal(f.get_tensor(copy), f.get_tensor(embedding)):
      raise errors.UserError(
        f"{path} holds a {copy} that is not {embedding}, and config.json says "
        "that they are one: set tie_word_embeddings there as it is."
      )
