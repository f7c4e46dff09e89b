"""Reads local GLUE and SuperGLUE files with TFDS's own builders.

for dataset in find_datasets("glue", "/data/glue_data").datasets:
  for split in dataset.splits:
    for key, example in dataset.examples(split):
      ...
"""

import copy
import dataclasses
import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hypergrid_mtf import tfds_data
from tools.data import example_checks, file_checks

# isort: split
# After our own package, which redirects TensorFlow's banner to the log.
import tensorflow_datasets as tfds
from tensorflow_datasets.text import glue, super_glue

BUILDERS = {"glue": glue.Glue, "super_glue": super_glue.SuperGlue}
# The versions that t5's tasks need.
VERSIONS = {"glue": "1.0.0", "super_glue": "1.0.2"}

# The columns of CoLA's training and validation files, which have no header.
_COLA_COLUMNS = ["source", "is_acceptable", "original_mark", "sentence"]
_MRPC_COLUMNS = {"sentence1": "#1 String", "sentence2": "#2 String"}
_BYTE_ORDER_MARK = "\ufeff"


def _rows(train: int, validation: int, test: int) -> dict[str, int]:
  return {"train": train, "validation": validation, "test": test}


# Rows of the official files, from the TFDS catalog for VERSIONS.
OFFICIAL_ROWS: dict[str, dict[str, int]] = {
  "glue/cola": _rows(8551, 1043, 1063),
  "glue/sst2": _rows(67349, 872, 1821),
  "glue/mrpc": _rows(3668, 408, 1725),
  "glue/qqp": _rows(363849, 40430, 390965),
  "glue/stsb": _rows(5749, 1500, 1379),
  "glue/mnli": {
    "train": 392702,
    "validation_matched": 9815,
    "validation_mismatched": 9832,
    "test_matched": 9796,
    "test_mismatched": 9847,
  },
  "glue/mnli_mismatched": {"validation": 9832, "test": 9847},
  "glue/mnli_matched": {"validation": 9815, "test": 9796},
  "glue/qnli": _rows(104743, 5463, 5463),
  "glue/rte": _rows(2490, 277, 3000),
  "glue/wnli": _rows(635, 71, 146),
  "glue/ax": {"test": 1104},
  "super_glue/boolq": _rows(9427, 3270, 3245),
  "super_glue/cb": _rows(250, 56, 250),
  "super_glue/copa": _rows(400, 100, 500),
  "super_glue/multirc": _rows(27243, 4848, 9693),
  "super_glue/record": _rows(100730, 10000, 10000),
  "super_glue/rte": _rows(2490, 277, 3000),
  "super_glue/wic": _rows(5428, 638, 1400),
  "super_glue/wsc": _rows(554, 104, 146),
  "super_glue/wsc.fixed": _rows(554, 104, 146),
  "super_glue/axb": {"test": 1104},
  "super_glue/axg": {"test": 356},
}


@dataclasses.dataclass(frozen=True)
class LocalDataset:
  """A TFDS data set whose files were found.

  Attributes:
    benchmark: "glue" or "super_glue".
    config: the TFDS config, "cola".
    builder: TFDS's own builder.
    splits: the builder's arguments for each split.
  """

  benchmark: str
  config: str
  builder: tfds.core.GeneratorBasedBuilder
  splits: Mapping[str, dict[str, Any]]

  @property
  def name(self) -> str:
    """Benchmark and config, "glue/cola"."""
    return f"{self.benchmark}/{self.config}"

  def file(self, split: str) -> str:
    """The file of a split."""
    return _needed_files(split, self.splits[split])[0]

  def examples(self, split: str) -> Iterator[tuple[int | str, dict[str, Any]]]:
    """Yields TFDS's (key, example) of a split; labels may be names."""
    numbers = self._question_numbers(split)
    for key, example in self._read(split):
      if numbers:
        idx = example["idx"]
        idx["question"] = numbers[idx["paragraph"], idx["question"]]
      yield key, example

  def _read(self, split: str) -> Iterator[tuple[int | str, dict[str, Any]]]:
    builder, arguments = self.builder, self.splits[split]
    # TFDS accepts only the original MRPC, and no other byte-order mark.
    if self.benchmark == "glue" and not arguments.get("mrpc_files"):
      table = self._table(split)
      columns = (table.text_features, table.label_column)
      tfds_config = builder.builder_config
      if columns != (tfds_config.text_features, tfds_config.label_column):
        builder = _make_builder(self.benchmark, table)
    return builder._generate_examples(**arguments)

  def _table(self, split: str) -> glue.GlueConfig:
    """TFDS's config with the column names of the split's file."""
    config = copy.copy(self.builder.builder_config)
    config.name += "_local"
    if self.config == "mrpc":
      config.text_features = _MRPC_COLUMNS
    _, header = next(file_checks.read_lines(self.file(split)), (1, ""))
    first = header.split("\t")[0]
    names = {first.removeprefix(_BYTE_ORDER_MARK): first}
    config.text_features = {
      feature: names.get(column, column)
      for feature, column in config.text_features.items()
    }
    config.label_column = names.get(config.label_column, config.label_column)
    return config

  def _question_numbers(self, split: str) -> dict[tuple[int, int], int]:
    """New numbers for MultiRC's questions, if the file's are not unique.

    t5's metric groups answers by question number only. The official files
    number the questions across the file. If numbers start at 0 in each
    paragraph, t5 would treat all first questions as one. A test file without
    labels is not scored, and a submission needs its own numbers.

    Returns:
      {(paragraph, question): number}; empty if the file's own numbers are
      usable
    """
    numbers: dict[tuple[int, int], int] = {}
    if self.config != "multirc":
      return numbers
    is_labelled = False
    for _, example in self._read(split):
      idx = example["idx"]
      numbers.setdefault((idx["paragraph"], idx["question"]), len(numbers))
      is_labelled |= example["label"] != -1
    is_unique = len({question for _, question in numbers}) == len(numbers)
    return numbers if is_labelled and not is_unique else {}

  def check_split(self, split: str) -> tuple[int, list[str]]:
    """Reads a split once and checks what t5 assumes.

    Returns:
      the number of examples, and sentences about changes to them

    Raises:
      UserError: names the file and, if known, the line.
    """
    path, is_test = self.file(split), split.startswith("test")
    lines: list[int] | None = None
    notes: list[str] = []
    if self.benchmark == "super_glue":
      file_checks.check_objects(path, self.config)
    else:
      has_header = self.config != "cola" or is_test
      lines, notes = file_checks.check_table(
        path,
        self._table(split),
        columns=None if has_header else _COLA_COLUMNS,
        is_test=is_test,
        may_break=self.config == "qqp",
      )
    rows = example_checks.ExampleChecks(
      self.config, split, path, lines, self.builder.info.features
    ).count(self._read(split))
    if numbers := self._question_numbers(split):
      notes.append(
        f"{path}: the question numbers are not unique in the file, and t5 "
        "groups answers by them; the questions get the numbers 0 to "
        f"{len(numbers) - 1}"
      )
    return rows, notes


def _make_builder(benchmark: str, config) -> tfds.core.GeneratorBasedBuilder:
  with tfds_data.without_cloud_bucket():
    return BUILDERS[benchmark](
      config=config, version=VERSIONS[benchmark], data_dir=os.devnull
    )


def _needed_files(split: str, arguments: Mapping[str, Any]) -> list[str]:
  """The files that TFDS's builder reads for a split."""
  mrpc = arguments.get("mrpc_files")
  if not mrpc:
    return [arguments["data_file"]]
  return [mrpc["test"]] if split == "test" else [mrpc["train"], mrpc["dev_ids"]]


class _Folder:
  """A download manager for TFDS builders that serves files from a folder."""

  def __init__(self, root: str):
    self._root = root

  def download_and_extract(self, url: str) -> str:
    del url
    return self._root

  def download(self, urls: str | dict[str, str]) -> str | dict[str, str]:
    if isinstance(urls, str):
      return self._first("diagnostic/diagnostic.tsv", "AX/AX.tsv")
    return {
      "train": self._first("MRPC/msr_paraphrase_train.txt"),
      "test": self._first("MRPC/msr_paraphrase_test.txt"),
      "dev_ids": self._first("MRPC/dev_ids.tsv", "MRPC/mrpc_dev_ids.tsv"),
    }

  def _first(self, *names: str) -> str:
    """The first file that exists, or else the first name."""
    paths = [os.path.join(self._root, name) for name in names]
    return next(filter(os.path.isfile, paths), paths[0])


@dataclasses.dataclass(frozen=True)
class Found:
  """What is in a benchmark's folder.

  Attributes:
    datasets: the data sets with at least one file, in TFDS's order.
    notes: sentences about what is missing.
  """

  datasets: list[LocalDataset]
  notes: list[str]


def find_datasets(
  benchmark: str, root: str, configs: Collection[str] | None = None
) -> Found:
  """Finds the tasks of a benchmark in its folder, all or only some configs."""
  found = Found([], [])
  absent = []
  for config in BUILDERS[benchmark].builder_configs:
    if configs is not None and config not in configs:
      continue
    builder = _make_builder(benchmark, config)
    splits, missing = _find_splits(builder, root)
    if not splits:
      absent.append(config)
      continue
    found.datasets.append(LocalDataset(benchmark, config, builder, splits))
    if missing:
      found.notes.append(
        f"{benchmark}/{config}: no {', '.join(missing)}, because "
        f"{', '.join(dict.fromkeys(missing.values()))} is missing"
      )
  if absent:
    found.notes.append(f"{root}: no files of {', '.join(absent)}, skipped")
  return found


def _find_splits(
  builder: tfds.core.GeneratorBasedBuilder, root: str
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
  """The splits whose files exist, and one missing file of each other split."""
  splits, missing = {}, {}
  for generator in builder._split_generators(_Folder(root)):
    split, arguments = str(generator.name), dict(generator.gen_kwargs)
    if mrpc := arguments.get("mrpc_files"):
      is_original = os.path.isfile(mrpc["train"]) and os.path.isfile(
        mrpc["dev_ids"]
      )
      folder = os.path.join(root, "MRPC")
      if not is_original and os.path.isfile(os.path.join(folder, "train.tsv")):
        # As made by GLUE's download script.
        arguments["mrpc_files"] = None
        arguments["data_file"] = os.path.join(folder, arguments["data_file"])
    absent = itertools.filterfalse(
      os.path.isfile, _needed_files(split, arguments)
    )
    if path := next(absent, None):
      missing[split] = path
    else:
      splits[split] = arguments
  return splits, missing
