r"""Writes names and shapes of all variables of each size and variant, as JSON.

  python -m tools.dev.golden --output_dir=tests/golden

One file per size: `vanilla` lists all variables, each variant only those it
adds, and each peer their number and a digest of the list. No weights are
allocated. The tests rebuild and compare the lists, so a change that breaks
checkpoints fails with the difference; rewriting the files is a decision to
break them.
"""

import hashlib
import json
import math
import os

from absl import flags

from hypergrid_mtf.run import console
from tools.cost import models

FLAGS = flags.FLAGS
FULL = ("micro",)  # sizes with all variables of each peer


def define_flags() -> None:
  """Defines the program's flags."""
  flags.DEFINE_string("output_dir", None, "Where to write the files.")
  flags.DEFINE_list("sizes", models.sizes(), "The sizes to write.")


console.read_flags(__name__, define_flags)

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run import files


def shapes_of(*gin_files: str) -> dict[str, list[int]]:
  """{name: shape} of the model described by gin files, sorted."""
  with model_lib.configured(gin_files, (), models.VOCAB_SIZE) as model:
    shapes = checkpoints.variable_shapes(model)
  return {name: list(shapes[name]) for name in sorted(shapes)}


def of_size(size: str) -> dict[str, dict]:
  """{"vanilla": {name: shape}, "L2": {added name: shape}, …} of a size."""
  golden = {"vanilla": shapes_of(f"models/{size}.gin", "hypergrid/vanilla.gin")}
  for variant in models.KNOWN[1:]:
    golden[variant] = added(size, variant, golden["vanilla"])
  return golden


def added(size: str, variant: str, vanilla: dict) -> dict:
  """{name: shape} that a variant or peer adds, or a summary (see FULL)."""
  path = models.Setting(variant).gin_files[0]
  shapes = shapes_of(f"models/{size}.gin", path)
  lost = [n for n in vanilla if shapes.get(n) != vanilla[n]]
  if lost:
    raise AssertionError(f"{size} {variant} lost or changed {lost}")
  shapes = {n: s for n, s in shapes.items() if n not in vanilla}
  if variant in models.VARIANTS or size in FULL:
    return shapes
  return {
    "variables": len(shapes),
    "parameters": sum(map(math.prod, shapes.values())),
    "sha256": hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16],
  }


def main(argv) -> None:
  """Writes the files."""
  del argv
  if not FLAGS.output_dir:
    raise errors.UserError("--output_dir is missing: give a folder.")
  models.choose("sizes", FLAGS.sizes, models.sizes())
  for size in FLAGS.sizes:
    lines = []
    for key, shapes in of_size(size).items():
      body = ",\n".join(
        f"  {json.dumps(n)}: {json.dumps(s)}" for n, s in shapes.items()
      )
      lines.append(f"{json.dumps(key)}: {{\n{body}\n}}")
    path = os.path.join(FLAGS.output_dir, f"{size}.json")
    files.write(path, "{\n" + ",\n".join(lines) + "\n}\n")
    console.say(f"wrote {path}")


if __name__ == "__main__":
  console.run(main)
