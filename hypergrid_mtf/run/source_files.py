"""Checks the files of a user's task and of t5's `tsv_dataset_fn`, row by row.

TensorFlow reads them inside the graph, where errors name neither the file nor
the line. These checks name both beforehand.
"""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import seqio
import tensorflow.compat.v1 as tf
from t5.data import preprocessors

from hypergrid_mtf import errors, text_files, tfds_data
from hypergrid_mtf.run import files

# At most this much of a file is read: a few seconds.
_MOST_BYTES = 1 << 30


def check_task(task: seqio.Task, split: str) -> None:
  """Checks the files that a task reads, if any.

  Args:
    task: any; only files and data prepared by TFDS are checked, and only those
      on this machine.
    split: one of the task's.

  Raises:
    UserError: a file that does not exist; text that is not UTF-8; a row whose
      number of columns `parse_tsv` does not accept; no rows.
  """
  source = task.source
  if hasattr(source, "check_files"):  # t5_tasks.plain_text
    source.check_files(split)
    return
  if isinstance(source, seqio.TfdsDataSource):
    _check_tfds(task, split)
  if not isinstance(source, seqio.FileDataSource):
    return
  who = f"the split {split!r} of the task {task.name!r}"
  patterns = source._split_to_filepattern[split]  # pylint: disable=protected-access
  paths = _paths(patterns, who)
  if not paths:
    return
  if not isinstance(source, seqio.TextLineDataSource):
    if not any(tf.io.gfile.stat(path).length for path in paths):
      raise errors.UserError(f"{paths[0]} ({who}) is empty: give examples.")
    return
  header = source._skip_header_lines  # pylint: disable=protected-access
  rows = sum(_check_rows(path, who, header, _columns(task)) for path in paths)
  if not rows:
    raise errors.UserError(
      f"{paths[0]} ({who}) has no rows: give one example per line"
      + (f", after {header} of header." if header else ".")
    )


def check_cache(task: seqio.Task, split: str) -> None:
  """Checks that a cached split still has all its shards and examples.

  SeqIO silently trains on a file that was cut between two examples, and fails,
  maybe hours later, where an example itself is cut.

  Args:
    task: a cached task.
    split: one that it has.

  Raises:
    UserError: a shard that is missing or cut.
  """
  folder = task.cache_dir
  shards = files.read_json(seqio.get_cached_info_path(folder, split))
  stats = files.read_json(seqio.get_cached_stats_path(folder, split))
  prefix = seqio.get_cached_tfrecord_prefix(folder, split)
  of = shards.get("num_shards", 0)
  paths = [f"{prefix}-{n:05d}-of-{of:05d}" for n in range(of)]
  if wrong := _damage(paths, stats.get("examples")):
    raise errors.UserError(
      f"the cached task {task.name!r} is damaged: {wrong}: remove {folder} and "
      "write it with python -m tools.cache_tasks."
    )


def _check_tfds(task: seqio.Task, split: str) -> None:
  """Checks that prepared data have the recorded shards and examples."""
  loader = task.source.tfds_dataset
  name, data_dir = loader.get_split_params(split)
  if not name or not tfds_data.is_prepared(name, data_dir):
    return
  with tfds_data.without_cloud_bucket():
    info = loader._get_builder(split).info
  part = info.splits.get(loader._map_split(split) or split)
  if part is None or info.file_format.value != "tfrecord":
    return
  paths = [os.fspath(path) for path in part.filepaths]
  if wrong := _damage(paths, sum(part.shard_lengths)):
    raise errors.UserError(
      f"the split {split!r} of the task {task.name!r} is damaged: {wrong}: "
      f"remove {info.data_dir} and make it with python -m tools.prepare_data."
    )


def _damage(paths: list[str], examples: int | None) -> str | None:
  """What is wrong with TFRecords that should hold `examples`, or None.

  Files in the cloud, or of more than 1 GB in total, are not read.
  """
  for path in paths:
    if not tf.io.gfile.exists(path):
      return f"{path} is missing"
  is_remote = any("://" in path for path in paths)
  if is_remote or sum(map(os.path.getsize, paths)) > _MOST_BYTES:
    return None
  found = 0
  for path in paths:
    count, is_whole = _count_records(path)
    found += count
    if not is_whole:
      return f"{path} is cut after {count} examples"
  if found == examples or examples is None:
    return None
  return f"{paths[0]}, … hold {found} of {examples} examples"


def _count_records(path: str) -> tuple[int, bool]:
  """The number of complete records in a TFRecord, and if nothing follows."""
  count, at, size = 0, 0, os.path.getsize(path)
  with open(path, "rb") as f:
    while at < size:
      f.seek(at)
      # The length, its checksum, the bytes, their checksum.
      at += 8 + 4 + int.from_bytes(f.read(8), "little") + 4
      count += at <= size
  return count, at == size


def check_tsv(filename: str | Sequence[str] | None) -> None:
  """Checks the files of t5's `tsv_dataset_fn`, whose rows have two columns."""
  where = "tsv_dataset_fn.filename"
  if not filename:
    raise errors.UserError(
      f"{where} is not set: give a file of lines inputs<TAB>targets."
    )
  paths = _paths(filename, where)
  if paths and not sum(_check_rows(p, where, 0, _Columns(2)) for p in paths):
    raise errors.UserError(
      f"{paths[0]} ({where}) has no rows: give lines of inputs<TAB>targets."
    )


class _Columns(NamedTuple):
  """How many columns a row must have.

  t5 drops columns after the last one that it reads. That is intended if columns
  were chosen, or if every row has more; in a single row it means a tab inside a
  text.
  """

  least: int
  delimiter: str = "\t"
  more: str = "never"  # may others follow: in "any" row, or as in the "first"

  def problem(self, line: bytes, first: bytes) -> str | None:
    """What is wrong with a row, or None."""
    found, wanted = self._count(line), self.least
    if self.more == "first":
      wanted = max(wanted, self._count(first))
    if found == wanted or (self.more == "any" and found > wanted):
      return None
    name = "tab" if self.delimiter == "\t" else repr(self.delimiter)
    there = f"{found} {name}-separated column" + "s" * (found != 1)
    return f"{there if line else 'an empty row'}, expected {wanted}"

  def _count(self, line: bytes) -> int:
    return line.count(self.delimiter.encode()) + 1 if line else 0


def _columns(task: seqio.Task) -> _Columns | None:
  """The columns of a task's `parse_tsv`; None if it parses differently."""
  first = task.preprocessors[0] if task.preprocessors else None
  if getattr(first, "func", first) is not preprocessors.parse_tsv:
    return None
  given = getattr(first, "keywords", {})
  names = given.get("field_names") or ["inputs", "targets"]
  chosen = given.get("field_columns")
  least = max(chosen) + 1 if chosen else len(names)
  return _Columns(
    least, given.get("field_delim", "\t"), "any" if chosen else "first"
  )


def _paths(patterns: str | Iterable[str], who: str) -> list[str]:
  """The local files of paths and patterns; all must exist."""
  found = []
  for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
    if "://" in str(pattern):
      continue  # Without a network, looking for a remote file takes minutes.
    paths = seqio.utils.list_files([pattern])
    for path in paths or [pattern]:
      if not tf.io.gfile.exists(path):
        raise errors.UserError(f"{path} ({who}) does not exist: name a file.")
      if tf.io.gfile.isdir(path):
        raise errors.UserError(f"{path} ({who}) is a folder: name a file.")
      found.append(path)
  return found


def _check_rows(
  path: str, who: str, header: int, columns: _Columns | None
) -> int:
  """Checks a text file; returns its number of rows after the header."""
  first, rows, read = b"", 0, 0
  for number, raw in text_files.read_lines(path, who):
    read += len(raw)
    problem = _text_problem(raw, number == 1, number > header)
    line = raw.replace(b"\r", b"").removesuffix(b"\n")  # As TensorFlow does.
    if not problem and columns and number > header:
      first = first if rows else line
      problem = columns.problem(line, first)
    if problem:
      raise errors.UserError(f"{path}, line {number} ({who}): {problem}.")
    rows += number > header
    if read > _MOST_BYTES:
      break
  return rows


def _text_problem(raw: bytes, is_first: bool, is_text: bool) -> str | None:
  """What is wrong with a line of UTF-8, or None."""
  if is_first and is_text and raw.startswith(text_files.BYTE_ORDER_MARK):
    return (
      "a byte-order mark, which would become part of the first text: save the "
      "file as UTF-8 without it"
    )
  if text_files.is_cut_by_returns(raw):
    return "lines end in a carriage return only (CR), expected LF"
  return None
