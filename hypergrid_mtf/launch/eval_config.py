"""How an evaluation was made, kept beside its scores.

t5 keeps the configuration of a training alone. Each evaluation therefore writes
a file `config.<seconds since 1970>.gin` into its folder before it opens its
event file: the scores of an event file were made as the last configuration
before it says. A folder of several evaluations has one of each.
"""

import os
import re
import time

import gin
import tensorflow.compat.v1 as tf

from hypergrid_mtf.launch import files, request

_NAME = re.compile(r"config\.(\d+\.\d+)\.gin")
# The one name that a folder's evaluations shared before; of the oldest scores.
_OLD = "config.gin"


def write(asked: request.Request, model_dir: str, from_api: bool) -> None:
  """Keeps the configuration of an evaluation that is about to begin.

  Args:
    asked: the evaluation.
    model_dir: of the model.
    from_api: whether t5's model API evaluates: it reads the configuration of
      the training over this one, and the split from a flag.
  """
  text = gin.config_str()
  if from_api:
    path = os.path.join(model_dir, "operative_config.gin")
    if tf.io.gfile.exists(path):
      with tf.io.gfile.GFile(path) as f:
        text += "\n" + f.read()
    text += f"\nrun.mode = 'eval'\nrun.dataset_split = {asked.split!r}\n"
  name = f"config.{time.time():.6f}.gin"
  files.write(os.path.join(asked.results, name), text)


def find(folder: str) -> list[tuple[float, str]]:
  """The configurations in a folder of evaluations.

  Args:
    folder: where they were written.

  Returns:
    (seconds since 1970, path), the oldest first
  """
  found = []
  for name in tf.io.gfile.listdir(folder):
    match = _NAME.fullmatch(name)
    if match or name == _OLD:
      path = os.path.join(folder, name)
      found.append((float(match[1]) if match else 0.0, path))
  return sorted(found)
