"""Random models that a benchmark serves, and their inputs."""

import os
import random
import subprocess
import sys

import gin
import numpy as np

import t5_tasks
from hypergrid_mtf import checkpoints, errors, trained, weights
from hypergrid_mtf import model as model_lib
from tools import environment
from tools.cost import models, steps
from tools.serving import hf_config, hf_weights

_MIXTURE = "glue_rte_v002"  # any that accepts another vocabulary
_SPECIAL = 3  # padding, end and unknown of the byte vocabulary
# As many ids as the public vocabulary. A byte is a token, so a text of n
# letters has n + 1.
_EXTRA_IDS = models.VOCAB_SIZE - 256 - _SPECIAL
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make_texts(case: steps.Case) -> list[str]:
  """Random texts with the case's number of tokens, including EOS."""
  rng = random.Random(0)
  length = case.inputs - 1
  return ["".join(rng.choices(_LETTERS, k=length)) for _ in range(case.batch)]


def write(
  folder: str, size: str, setting: models.Setting, case: steps.Case
) -> None:
  """Writes a model_dir whose answers all have the case's number of tokens."""
  os.makedirs(folder)
  try:
    model_lib.bind(
      [f"models/{size}.gin", *setting.gin_files, "dataset.gin"],
      [
        f"MIXTURE_NAME = {_MIXTURE!r}",
        "t5_tasks.vocabularies.use_vocabulary.name = 'bytes'",
        f"t5_tasks.vocabularies.use_vocabulary.extra_ids = {_EXTRA_IDS}",
        f"run.sequence_length = {case.lengths}",
        f"Bitransformer.decode.max_decode_length = {case.targets}",
        "utils.get_variable_dtype.master_dtype = 'float32'",
        "utils.get_variable_dtype.activation_dtype = 'float32'",
        "mesh_train_dataset_fn.mixture_or_task_name = %MIXTURE_NAME",
        *setting.gin_params,
      ],
    )
    config = gin.config_str()
    t5_tasks.vocabularies.use_vocabulary()
    mixture = t5_tasks.mixtures.get_mixture_or_task(_MIXTURE)
    shapes = checkpoints.variable_shapes(model_lib.of_mixture(mixture))
  finally:
    gin.clear_config()
  with open(os.path.join(folder, "operative_config.gin"), "w") as f:
    f.write(config)
  rng = np.random.default_rng(0)
  values = {}
  for name, shape in shapes.items():
    value = rng.standard_normal(shape, np.float32)
    scale = 1.0 if name.endswith("embedding") else shape[0] ** -0.5
    values[name] = (
      1 + value * 0.1 if name.endswith("scale") else value * np.float32(scale)
    )
  # Logits of 0 for EOS: some other token is always more likely.
  values[weights.EMBEDDING][:_SPECIAL] = 0
  weights.write(folder, 1, values)


def export(model_dir: str) -> str:
  """Exports a model_dir with tools.export; returns the SavedModel's folder.

  Raises:
    UserError: if tools.export fails.
  """
  output_dir = f"{model_dir}_saved"
  flags = [f"--model_dir={model_dir}", f"--output_dir={output_dir}"]
  done = subprocess.run(
    [sys.executable, "-m", "tools.export", *flags],
    env=environment.of_child(),
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise errors.UserError(f"tools.export fails: {done.stderr[-500:]}")
  return os.path.join(output_dir, "1")


def to_hugging_face(model_dir: str) -> str:
  """Converts a model_dir's vanilla T5; returns the transformers folder."""
  folder = f"{model_dir}_hugging_face"
  os.makedirs(folder, exist_ok=True)
  # No tokenizer: with so many sentinels it takes minutes.
  with trained.open_model(model_dir) as source:
    hf_weights.write(folder, source.weights)
    config = hf_config.of_model(source.model, model_dir, "float32")
  config.save_pretrained(folder)
  return folder
