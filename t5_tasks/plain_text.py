"""A task over the user's own text files: T5's span corruption, to pretrain on.

One paragraph per line, UTF-8, plain or compressed (.gz, .xz). Two gin bindings
make the task; the gin file `experiments/pretrain.gin` has the rest:

    t5_tasks.plain_text.define_task.name = "books"
    t5_tasks.plain_text.define_task.train = "books/train.txt.xz"

Paragraphs are concatenated and split again, so that every sequence is full and
has its share of spans, even if paragraphs are short.
"""

import functools
import gzip
import lzma
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gin
import seqio
import tensorflow.compat.v2 as tf
from t5.data import preprocessors
from t5.data.tasks import DEFAULT_OUTPUT_FEATURES

from hypergrid_mtf import text_files
from hypergrid_mtf.errors import UserError

# By file extension: what opens the file, and TensorFlow's compression type.
# There is none for .xz, so Python reads it, only on the program's host.
_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
_TENSORFLOW_NAME = {"": "", ".gz": "GZIP"}
# Paragraphs that stay together when shuffled, and how many such groups are
# shuffled at once: about 50 MB of English prose.
_GROUP = 128
_GROUPS = 1024
_WHERE = "t5_tasks.plain_text.define_task"


class PlainTextDataSource(seqio.FileDataSource):
  """Paragraphs of text files, {"text": []} strings.

  Consecutive paragraphs stay together in groups; each seed gives another order
  of the groups, even within one large file.

  Attributes:
    paths: those of each split, all with the same extension.
  """

  def __init__(self, paths: dict[str, list[str]]):
    self.paths = paths
    kinds = {_ending(path): split for split in paths for path in paths[split]}
    if len(kinds) > 1:
      shown = ", ".join(ending or "plain" for ending in sorted(kinds))
      raise UserError(
        f"{_WHERE}.{[*kinds.values()][-1]} has files of several kinds "
        f"({shown}): give files of one kind."
      )
    (self._ending,) = kinds
    super().__init__(
      self._read_file, paths, cycle_length=8, block_length=_GROUP
    )

  def _read_file(self, path: tf.Tensor) -> tf.data.Dataset:
    if self._ending in _TENSORFLOW_NAME:
      lines = tf.data.TextLineDataset(path, _TENSORFLOW_NAME[self._ending])
    else:
      lines = tf.data.Dataset.from_generator(
        _lines, args=(path,), output_signature=tf.TensorSpec([], tf.string)
      )
    return lines.map(lambda line: {"text": line})

  def get_dataset(
    self, split="train", shuffle=True, seed=None, shard_info=None, **kwargs
  ):
    dataset = super().get_dataset(split, shuffle, seed, shard_info, **kwargs)
    if not shuffle:
      return dataset
    return dataset.batch(_GROUP).shuffle(_GROUPS, seed).unbatch()

  def check_files(self, split: str) -> None:
    """Reads the local files of a split, and refuses anything but text.

    Raises:
      UserError: a file that is empty, not UTF-8 text, or cut short.
    """
    where = f"{_WHERE}.{split}"
    for path in self.paths[split]:
      if "://" in path:
        continue
      lines = text_files.read_lines(path, where, _open)
      # All lines are read, because a file may be cut short.
      if not sum(bool(line.strip()) for _, line in lines):
        raise UserError(
          f"{path} ({where}) is empty: give text, one paragraph per line."
        )


def _ending(path: str) -> str:
  ending = os.path.splitext(path)[1]
  return ending if ending in _OPEN else ""


def _open(path: str, mode: str):
  return _OPEN.get(_ending(path), open)(path, mode)


def _lines(path: bytes) -> Iterator[bytes]:
  with _open(path.decode(), "rb") as f:
    for line in f:
      yield line.rstrip(b"\r\n")


def _find_files(given: str | Sequence[str], where: str) -> list[str]:
  """Resolves paths, patterns and folders; a folder gives its .txt files.

  Args:
    given: one or several; remote ones are kept as they are.
    where: the gin binding, for messages.

  Raises:
    UserError: one that matches no file.
  """
  found: list[str] = []
  for name in [given] if isinstance(given, str) else given:
    if not isinstance(name, str) or not name:
      raise UserError(
        f"{where} = {given!r}: give a path, a pattern, a folder, or a list of "
        "them."
      )
    if "://" in name:
      found.append(name)
      continue
    # Absolute, so that a saved configuration still finds them.
    path = os.path.abspath(os.path.expanduser(name))
    is_folder = os.path.isdir(path)
    patterns = [f"{path}/*.txt{e}" for e in ("", *_OPEN)] if is_folder else path
    paths = sorted(filter(os.path.isfile, tf.io.gfile.glob(patterns)))
    if is_folder and not paths:
      raise UserError(
        f"the folder {name} ({where}) has no text files: they end in .txt, "
        ".txt.gz or .txt.xz."
      )
    if not paths:
      raise UserError(f"{name} ({where}) does not exist: name a text file.")
    found += paths
  return found


def wants_task(where: str, name: str | None, *files) -> bool:
  """Whether bindings ask for a task; UserError for a wrong or missing name."""
  if name is None and any(files):
    raise UserError(
      f"{where} has files but no name: set {where}.name to a name for the task."
    )
  if name in seqio.MixtureRegistry.names():
    raise UserError(f"{where}.name = {name!r} is a mixture: choose another.")
  return name is not None


@gin.configurable(module="t5_tasks.plain_text")
def define_task(
  name: str | None = None,
  train: str | Sequence[str] | None = None,
  validation: str | Sequence[str] | None = None,
) -> str | None:
  """Registers a task of span corruption over text files.

  A mixture can join it with supervised tasks; it needs a rate there, because
  its paragraphs are not counted: `("books", 100000)`.

  Args:
    name: of the task; replaces a task with that name. None: do nothing.
    train: a path, a pattern, a folder of .txt files, or a list of them.
    validation: the same, for held-out text; None for a task that is only
      trained on.

  Returns:
    The name.

  Raises:
    UserError: no name or no files.
  """
  if not wants_task(_WHERE, name, train, validation):
    return None
  if not train:
    raise UserError(f"{_WHERE}.train is not set: give the text to train on.")
  paths = {"train": _find_files(train, f"{_WHERE}.train")}
  if validation:
    paths["validation"] = _find_files(validation, f"{_WHERE}.validation")
  seqio.TaskRegistry.remove(name)
  seqio.TaskRegistry.add(
    name,
    source=PlainTextDataSource(paths),
    preprocessors=[
      functools.partial(
        preprocessors.rekey, key_map={"inputs": None, "targets": "text"}
      ),
      seqio.preprocessors.tokenize,
      seqio.CacheDatasetPlaceholder(),
      preprocessors.span_corruption,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=dict(DEFAULT_OUTPUT_FEATURES),
    metric_fns=[],
  )
  return name
