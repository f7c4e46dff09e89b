"""Finds GLUE and SuperGLUE downloads on disk and reads them as TFDS would.

for dataset in find("glue", "/data/glue_data").datasets:
  for split in dataset.splits:
    for key, example in dataset.examples(split):
      ...
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from tools.data import local_glue, local_super_glue, local_text

BENCHMARKS = ("glue", "super_glue")
VERSIONS = {"glue": local_glue.VERSION, "super_glue": local_super_glue.VERSION}

_MODULES = {"glue": local_glue, "super_glue": local_super_glue}
# A folder in which a download may lie whole.
_WHOLE = {"glue": ("glue", "gluedata"), "super_glue": ("superglue", "combined")}


def _three(train: int, validation: int, test: int) -> dict[str, int]:
  return {"train": train, "validation": validation, "test": test}


# Rows of the official files, as the TFDS catalog lists them for the data sets
# that the t5 tasks read (glue 1.0.0, super_glue 1.0.2).
OFFICIAL_ROWS: dict[str, dict[str, int]] = {
  "glue/cola": _three(8551, 1043, 1063),
  "glue/sst2": _three(67349, 872, 1821),
  "glue/mrpc": _three(3668, 408, 1725),
  "glue/qqp": _three(363849, 40430, 390965),
  "glue/stsb": _three(5749, 1500, 1379),
  "glue/mnli": {
    "train": 392702,
    "validation_matched": 9815,
    "validation_mismatched": 9832,
    "test_matched": 9796,
    "test_mismatched": 9847,
  },
  "glue/mnli_mismatched": {"validation": 9832, "test": 9847},
  "glue/mnli_matched": {"validation": 9815, "test": 9796},
  "glue/qnli": _three(104743, 5463, 5463),
  "glue/rte": _three(2490, 277, 3000),
  "glue/wnli": _three(635, 71, 146),
  "glue/ax": {"test": 1104},
  "super_glue/boolq": _three(9427, 3270, 3245),
  "super_glue/cb": _three(250, 56, 250),
  "super_glue/copa": _three(400, 100, 500),
  "super_glue/multirc": _three(27243, 4848, 9693),
  "super_glue/record": _three(100730, 10000, 10000),
  "super_glue/rte": _three(2490, 277, 3000),
  "super_glue/wic": _three(5428, 638, 1400),
  "super_glue/wsc": _three(554, 104, 146),
  "super_glue/wsc.fixed": _three(554, 104, 146),
  "super_glue/axb": {"test": 1104},
  "super_glue/axg": {"test": 356},
}

# A later official file that differs: QQP as GLUE has given it since 2020.
ALSO_OFFICIAL_ROWS = {("glue/qqp", "train"): 363846}


@dataclasses.dataclass(frozen=True)
class LocalDataset:
  """One TFDS data set whose files were found.

  Attributes:
    benchmark: "glue" or "super_glue".
    config: the TFDS config, "cola".
    folder: where its files are.
    files: the file of each split that TFDS knows, None where it is missing.
  """

  benchmark: str
  config: str
  folder: str
  files: Mapping[str, str | None]

  @property
  def name(self) -> str:
    """Benchmark and config, "glue/cola"."""
    return f"{self.benchmark}/{self.config}"

  @property
  def tfds_name(self) -> str:
    """The name with the version that the t5 tasks ask for."""
    return f"{self.name}:{VERSIONS[self.benchmark]}"

  @property
  def splits(self) -> list[str]:
    """The splits that have a file."""
    return [split for split, path in self.files.items() if path]

  def examples(
    self, split: str, note: Callable[[str], None] | None = None
  ) -> Iterator[tuple[int | str, dict[str, Any]]]:
    """Yields (key, example) of a split in the form of the TFDS features.

    Args:
      split: one of `splits`.
      note: takes a sentence about rows that are left out.

    Raises:
      UserError: names the file and line of a row that is not right.
    """
    path = self.files[split]
    assert path
    if self.benchmark == "glue":
      rows = local_glue.read_split(self.config, split, path, self.folder, note)
    else:
      rows = local_super_glue.read_split(self.config, split, path, note)
    if split.startswith("test"):
      rows = _all_labelled_or_none(path, rows)
    for _, key, example in rows:
      yield key, example


def _all_labelled_or_none(
  path: str, rows: Iterable[local_glue.Row]
) -> Iterator[local_glue.Row]:
  """Passes the rows of a test file on; t5 cannot score a part of them."""
  first = None
  for line, key, example in rows:
    # ReCoRD has no label, and hides its answers.
    is_hidden = (
      example["label"] == -1 if "label" in example else not example["answers"]
    )
    if first is None:
      first = (line, is_hidden)
    if is_hidden != first[1]:
      has = "has no label" if is_hidden else "has a label"
      local_text.fail(
        path,
        line,
        f"the row {has}, unlike that of line {first[0]}; expected labels in "
        "all rows of a test file or in none",
      )
    yield line, key, example


@dataclasses.dataclass(frozen=True)
class Found:
  """What is in a benchmark's folder.

  Attributes:
    datasets: the data sets that have at least one file, in TFDS's order.
    notes: a sentence about each folder and file that is unknown or missing.
  """

  datasets: list[LocalDataset]
  notes: list[str]


def find(
  benchmark: str, root: str, configs: Collection[str] | None = None
) -> Found:
  """Finds the tasks of a benchmark in the folder of its download.

  Folder names are compared without case and punctuation: SST-2, SST2, sst_2.

  Args:
    benchmark: "glue" or "super_glue".
    root: the folder that holds a folder for each task.
    configs: those to look for; None for all.

  Returns:
    The data sets and notes about what was passed over.

  Raises:
    UserError: there is no such folder, it cannot be read, or two of its folders
      are the same task.
  """
  module = _MODULES[benchmark]
  folders = _folders(root)
  known = {n for c in module.CONFIGS.values() for n in c.folder}
  whole = [name for name in folders if name in _WHOLE[benchmark]]
  if not known & set(folders) and len(whole) == 1:
    folders = _folders(folders[whole[0]][0])

  datasets, notes = [], []
  without_files: dict[str, str] = {}  # The config of each folder.
  for name, paths in folders.items():
    if name not in known:
      notes += [f"{p}: not a folder of {benchmark}, skipped" for p in paths]
  for config, spec in module.CONFIGS.items():
    if configs is not None and config not in configs:
      continue
    paths = [p for name in spec.folder for p in folders.get(name, [])]
    if len(paths) > 1 and config != "ax":
      local_text.fail(
        paths[0],
        None,
        f"{paths[1]} is {config} too; keep one of the two folders",
      )
    for path in paths:
      files = module.find_files(config, path)
      if any(files.values()):
        datasets.append(LocalDataset(benchmark, config, path, files))
        break
    else:
      without_files |= {p: config for p in paths if p not in without_files}
  with_files = {dataset.folder for dataset in datasets}
  for path, config in without_files.items():
    if path not in with_files:
      why = module.why_missing(config, path)
      notes.append(
        f"{path}: none of its files is known, skipped"
        + (f" ({why})" if why else "")
      )
  for dataset in datasets:
    missing = [split for split, path in dataset.files.items() if not path]
    if missing:
      why = module.why_missing(dataset.config, dataset.folder)
      notes.append(
        f"{dataset.name}: no file for {', '.join(missing)}"
        + (f" ({why})" if why else "")
      )
  return Found(datasets, notes)


def _folders(root: str) -> dict[str, list[str]]:
  """The folders in a folder, by name in lower-case letters and digits."""
  if not os.path.isdir(root):
    local_text.fail(root, None, "there is no such folder")
  try:
    names = sorted(os.listdir(root))
  except OSError as e:
    local_text.fail(root, None, f"cannot be read ({e.strerror or e})")
  found: dict[str, list[str]] = {}
  for name in names:
    path = os.path.join(root, name)
    if os.path.isdir(path) and not name.startswith("."):
      key = "".join(c for c in name.casefold() if c.isalnum())
      found.setdefault(key, []).append(path)
  return found
