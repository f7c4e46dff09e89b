"""The configuration of each evaluation, kept next to its scores.

t5 keeps only the configuration of a training. Each evaluation therefore writes
`config.<seconds since 1970>.gin` into its folder before it opens its event
file: the scores of an event file belong to the last configuration before it.
"""

import os
import re
import time

import gin
import tensorflow.compat.v1 as tf

from hypergrid_mtf.run import files

_NAME = re.compile(r"config\.(\d+\.\d+)\.gin")
# The name that all evaluations of a folder shared in earlier versions.
_OLD = "config.gin"


def write(folder: str, given: str = "") -> None:
  """Writes the configuration of an evaluation that is about to begin.

  Args:
    folder: where its results will be.
    given: bindings that replace gin's, as lines of a gin file.
  """
  name = f"config.{time.time():.6f}.gin"
  files.write(os.path.join(folder, name), gin.config_str() + given)


def find(folder: str) -> list[tuple[float, str]]:
  """Lists the configurations in a folder of evaluations.

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
