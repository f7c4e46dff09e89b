"""Writes GLUE and SuperGLUE files on disk as the data sets the t5 tasks read.

    python -m tools.prepare_data --glue_dir=glue_data \\
        --super_glue_dir=superglue --tfds_dir=tfds

takes the official downloads, in whatever part they are there, and writes them
below --tfds_dir as TFDS would: same names, versions, features and order. The
tasks of t5 (`glue_cola_v002`, ...) then need no network:

    --gin_file=tfds/local_mixture.gin --t5_tfds_data_dir=tfds

All files are read and checked before anything is written. A data set is written
in a temporary folder and renamed into place; one of an earlier run is replaced,
and stays as it was if this run fails before that.
"""

import contextlib
import dataclasses
import functools
import io
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator

from absl import flags, logging

from hypergrid_mtf import tfds_data
from hypergrid_mtf.errors import UserError
from hypergrid_mtf.launch import console
from tools.data import local_files, local_mixture

# isort: split
# After our own package, which puts TensorFlow's banner into the log.
import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

_GLUE_DIR = flags.DEFINE_string(
  "glue_dir", None, "Folder of the GLUE download: CoLA/, SST-2/, ..."
)
_SUPER_GLUE_DIR = flags.DEFINE_string(
  "super_glue_dir", None, "Folder of the SuperGLUE download: BoolQ/, CB/, ..."
)
_TFDS_DIR = flags.DEFINE_string(
  "tfds_dir", None, "Folder to write to, for --t5_tfds_data_dir."
)


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A data set that was written, and its rows by split."""

  dataset: local_files.LocalDataset
  rows: dict[str, int]


def prepare(
  glue_dir: str | None, super_glue_dir: str | None, tfds_dir: str | None
) -> list[Prepared]:
  """Writes what is in the folders to tfds_dir and prints what it did.

  Args:
    glue_dir: folder of the GLUE download, or None.
    super_glue_dir: folder of the SuperGLUE download, or None.
    tfds_dir: folder to write to; made if it is not there.

  Returns:
    The data sets that were written, with their rows.

  Raises:
    UserError: a folder or file is not right; nothing has been written then,
      unless the disk failed half way: the data sets before that are whole.
  """
  if not (glue_dir or super_glue_dir):
    raise UserError(
      "Neither --glue_dir nor --super_glue_dir is given: name the folder of at "
      "least one download."
    )
  if not tfds_dir or "://" in tfds_dir:
    raise UserError(
      f"--tfds_dir is {tfds_dir!r}: name a local folder to write to."
    )
  datasets = _find({"glue": glue_dir, "super_glue": super_glue_dir})
  prepared = [Prepared(dataset, _checked_rows(dataset)) for dataset in datasets]
  _say_differences(prepared)

  tfds_dir = os.path.abspath(os.path.expanduser(tfds_dir))
  with _stage(tfds_dir) as stage:
    for item in prepared:
      with _disk_errors(tfds_dir):
        _install(_write(item, stage), tfds_dir, stage)
    gin_file = local_mixture.write(tfds_dir, stage)
  _say_table(prepared)
  console.say(f"\nWrote {len(prepared)} data sets to {tfds_dir}")
  if gin_file:
    console.say("To train on everything there, add to the command:")
    console.say(
      "  "
      + shlex.join([f"--gin_file={gin_file}", f"--t5_tfds_data_dir={tfds_dir}"])
    )
  else:
    console.say(
      "There is nothing to train on, so no gin file; to evaluate, add to the "
      "command:"
    )
    console.say(f"  --t5_tfds_data_dir={tfds_dir}")
  return prepared


def _find(roots: dict[str, str | None]) -> list[local_files.LocalDataset]:
  datasets = []
  for benchmark, root in roots.items():
    if not root:
      continue
    root = os.path.expanduser(root)
    if not os.path.isdir(root):
      raise UserError(
        f"--{benchmark}_dir is {root!r}: there is no such folder."
      )
    found = local_files.find(benchmark, root)
    for note in found.notes:
      console.say(note)
    if not found.datasets:
      raise UserError(
        f"--{benchmark}_dir is {root!r}: no task of {benchmark} is in it; "
        f"expected folders such as {_FOLDERS[benchmark]}."
      )
    datasets += found.datasets
  return datasets


_FOLDERS = {
  "glue": "CoLA/ or SST-2/ with train.tsv, dev.tsv, test.tsv",
  "super_glue": "BoolQ/ or CB/ with train.jsonl, val.jsonl, test.jsonl",
}


def _checked_rows(dataset: local_files.LocalDataset) -> dict[str, int]:
  """Reads all of a data set once; its rows by split."""
  return {
    split: sum(1 for _ in dataset.examples(split, note=console.say))
    for split in dataset.splits
  }


def _official(dataset: local_files.LocalDataset, split: str) -> int:
  return local_files.OFFICIAL_ROWS[dataset.name][split]


def _say_differences(prepared: Iterable[Prepared]) -> None:
  for item in prepared:
    for split, rows in item.rows.items():
      official = _official(item.dataset, split)
      also = local_files.ALSO_OFFICIAL_ROWS.get((item.dataset.name, split))
      if rows not in (official, also):
        console.say(
          f"{item.dataset.name} {split}: {rows:,} rows, the official file has "
          f"{official:,}"
        )


def _say_table(prepared: Iterable[Prepared]) -> None:
  lines = [("data set", "split", "rows", "official")]
  for item in prepared:
    for split, rows in item.rows.items():
      official = _official(item.dataset, split)
      lines.append(
        (item.dataset.tfds_name, split, f"{rows:,}", f"{official:,}")
      )
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  console.say("")
  for name, split, *counts in lines:
    console.say(
      f"{name:<{widths[0]}}  {split:<{widths[1]}}  {counts[0]:>{widths[2]}}  "
      f"{counts[1]:>{widths[3]}}"
    )


@contextlib.contextmanager
def _disk_errors(tfds_dir: str) -> Iterator[None]:
  """Turns what the disk says into one sentence."""
  try:
    yield
  except (OSError, tf.errors.OpError) as e:
    reason = getattr(e, "strerror", None) or getattr(e, "message", None) or e
    raise UserError(
      f"--tfds_dir is {tfds_dir!r}: it cannot be written to ({reason})."
    ) from e


@contextlib.contextmanager
def _stage(tfds_dir: str) -> Iterator[str]:
  """A temporary folder on the same disk, gone at the end."""
  with _disk_errors(tfds_dir):
    os.makedirs(tfds_dir, exist_ok=True)
    stage = tempfile.mkdtemp(prefix=".prepare_data-", dir=tfds_dir)
  try:
    yield stage
  finally:
    shutil.rmtree(stage, ignore_errors=True)


def _write(item: Prepared, stage: str) -> str:
  """Writes a data set with TFDS into the stage; its path there."""
  dataset = item.dataset
  version = local_files.VERSIONS[dataset.benchmark]
  verbosity = logging.get_verbosity()
  # Only our own bar and lines are for the user.
  tfds.disable_progress_bar()
  logging.set_verbosity(logging.ERROR)
  try:
    with (
      tfds_data.without_cloud_bucket(),  # pylint: disable=protected-access
      contextlib.redirect_stdout(io.StringIO()),
      tqdm.tqdm(
        desc=dataset.name,
        total=sum(item.rows.values()),
        unit="row",
        disable=None,  # None: where there is no terminal.
        file=console.terminal(),
        leave=False,
      ) as bar,
    ):
      info = _tfds_info(dataset, stage)
      written = tfds.dataset_builders.store_as_tfds_dataset(
        name=dataset.benchmark,
        config=tfds.core.BuilderConfig(
          name=dataset.config,
          version=version,
          description=info.config_description,
        ),
        version=version,
        data_dir=stage,
        features=info.features,
        description=info.description,
        homepage=info.homepage,
        citation=info.citation,
        split_datasets={
          split: _counted(dataset.examples(split), bar)
          for split in dataset.splits
        },
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
      )
  finally:
    logging.set_verbosity(verbosity)
  found = {k: v.num_examples for k, v in written.info.splits.items()}
  if found != item.rows:
    raise UserError(
      f"{dataset.folder}: its files changed while they were read "
      f"({item.rows} rows, then {found}); run this again."
    )
  return os.fspath(written.data_dir)


def _tfds_info(
  dataset: local_files.LocalDataset, data_dir: str
) -> tfds.core.DatasetInfo:
  """What TFDS knows of a data set: features, description, citation."""
  builder = {
    "glue": tfds.text.glue.Glue,
    "super_glue": tfds.text.super_glue.SuperGlue,
  }[dataset.benchmark]
  return builder(
    config=dataset.config,
    version=local_files.VERSIONS[dataset.benchmark],
    data_dir=data_dir,
  ).info


def _counted(examples: Iterable, bar: tqdm.tqdm) -> Iterator:
  for example in examples:
    yield example
    bar.update()


def _install(written: str, tfds_dir: str, stage: str) -> None:
  """Renames a whole data set into place; the one before is put aside first."""
  target = os.path.join(tfds_dir, os.path.relpath(written, stage))
  os.makedirs(os.path.dirname(target), exist_ok=True)
  put_back = None
  if os.path.lexists(target):
    aside = os.path.join(tempfile.mkdtemp(dir=stage), "before")
    os.rename(target, aside)
    put_back = functools.partial(os.rename, aside, target)
  try:
    os.rename(written, target)
  except BaseException:
    if put_back:
      put_back()
    raise


def main(argv) -> None:
  """Runs `prepare` with the flags."""
  del argv
  prepare(_GLUE_DIR.value, _SUPER_GLUE_DIR.value, _TFDS_DIR.value)


if __name__ == "__main__":
  console.run(main)
