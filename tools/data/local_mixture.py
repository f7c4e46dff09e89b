"""Writes a gin file with the mixture of the data sets in a folder."""

import os

from hypergrid_mtf import tfds_data
from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import files
from t5_tasks import mixtures
from tools.data import local_files

# isort: split
# After our own package, which redirects TensorFlow's banner to the log.
import tensorflow_datasets as tfds

FILE_NAME = "local_mixture.gin"
MIXTURE = "local_v1"

# The same task in both benchmarks; together they count once.
_RTE = ("glue/rte", "super_glue/rte")
_WNLI = "glue/wnli"
# Below this share of the official training rows, a task gets its own rate.
_NEARLY_WHOLE = 0.99


def find_prepared(tfds_dir: str) -> dict[str, dict[str, int]]:
  """The GLUE and SuperGLUE data sets in a TFDS folder.

  Returns:
    {name ("glue/cola"): {split: examples}}, in TFDS's order.

  Raises:
    UserError: a data set there cannot be read.
  """
  found = {}
  for name in local_files.OFFICIAL_ROWS:
    tfds_name = f"{name}:{local_files.VERSIONS[name.split('/')[0]]}"
    if not tfds_data.is_prepared(tfds_name, tfds_dir):
      continue
    path = tfds_data.prepared_dir(tfds_name, tfds_dir)
    try:
      splits = tfds.builder_from_directory(path).info.splits
    except Exception as e:  # For a damaged file TFDS may raise anything.
      raise UserError(
        f"{path}: the data set cannot be read ({type(e).__name__}); delete "
        "this folder and prepare it again."
      ) from e
    found[name] = {k: v.num_examples for k, v in splits.items()}
  return found


def task_rates(
  datasets: dict[str, dict[str, int]],
) -> tuple[list[str | tuple[str, int]], list[str]]:
  """The t5 tasks that can read the data sets, with their rates.

  A task with all its training rows is given by name, so that `define_mixture`
  uses T5's published rate. With only a part of the rows, the rate is that part
  of the published one; without training rows it is 0, and the task is only
  evaluated. RTE of the two benchmarks divides one rate by rows, as in
  `glue_super_glue_proportional`.

  Returns:
    Entries for `define_mixture.tasks`, and sentences about them.
  """
  entries: list[str | tuple[str, int]] = []
  remarks = []
  for name, splits in datasets.items():
    benchmark, config = name.split("/")
    for task in _tasks(benchmark, config, splits):
      published = mixtures.published_rate(task)
      rows = 0 if task.endswith("_eval") else splits.get("train", 0)
      official = local_files.OFFICIAL_ROWS[name].get("train", 0)
      if name == _WNLI and rows:
        entries.append((task, 0))
        remarks.append(f"{name} is only evaluated: T5 is not trained on it")
      elif not rows:
        entries.append(task if published == 0 else (task, 0))
      elif published is None:
        entries.append((task, rows))
      elif name in _RTE and all("train" in datasets.get(n, ()) for n in _RTE):
        both = [datasets[n]["train"] for n in _RTE]
        there = min(1.0, max(both) / official)
        entries.append(
          (task, max(1, round(published * there * rows / sum(both))))
        )
        remarks.append(
          f"{name} shares RTE's rate with the other benchmark, by rows"
        )
      elif rows >= _NEARLY_WHOLE * official:
        entries.append(task)
      else:
        entries.append((task, max(1, round(published * rows / official))))
        remarks.append(
          f"{name} has {rows:,} of {official:,} training rows, so its rate is "
          "that part of T5's"
        )
  return entries, remarks


def _tasks(benchmark: str, config: str, splits: dict[str, int]) -> list[str]:
  """The t5 tasks that read a data set and find examples in it."""
  if benchmark == "glue":
    if config == "mnli" and "train" not in splits:
      return []  # Its other splits belong to mnli_matched and mnli_mismatched.
    return [f"glue_{config}_v002"]
  if config == "wsc":
    return []  # t5 reads wsc.fixed.
  if config == "wsc.fixed":
    tasks = ["super_glue_wsc_v102_simple_train"] if "train" in splits else []
    if "validation" in splits or "test" in splits:
      tasks.append("super_glue_wsc_v102_simple_eval")
    return tasks
  return [f"super_glue_{config}_v102"]


def write_gin_file(tfds_dir: str) -> str | None:
  """Writes the gin file of all data sets now in tfds_dir.

  Returns:
    The path of the file. None if no data set there has training rows; then an
    earlier file is deleted.
  """
  path = os.path.join(tfds_dir, FILE_NAME)
  datasets = find_prepared(tfds_dir)
  if any("train" in splits for splits in datasets.values()):
    files.write(path, _gin(datasets, *task_rates(datasets)))
    return path
  if os.path.exists(path):
    os.unlink(path)
  return None


def _gin(
  datasets: dict[str, dict[str, int]],
  entries: list[str | tuple[str, int]],
  remarks: list[str],
) -> str:
  counts = [
    f"#   {name}: "
    + ", ".join(f"{split} {rows:,}" for split, rows in splits.items())
    for name, splits in datasets.items()
  ]
  tasks = [
    f'    "{x}",' if isinstance(x, str) else f'    ("{x[0]}", {x[1]}),'
    for x in entries
  ]
  return "\n".join(
    [
      "# written by tools.prepare_data: the data sets in this folder",
      *counts,
      *(f"# {remark}" for remark in remarks),
      f't5_tasks.mixtures.define_mixture.name = "{MIXTURE}"',
      "t5_tasks.mixtures.define_mixture.tasks = [",
      *tasks,
      "]",
      f'MIXTURE_NAME = "{MIXTURE}"',
      "",
    ]
  )
