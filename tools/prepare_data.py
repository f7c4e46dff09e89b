"""Writes GLUE and SuperGLUE files on disk as the data sets the t5 tasks read.

    python -m tools.prepare_data --glue_dir=glue_data \\
        --super_glue_dir=superglue --tfds_dir=tfds

takes the official downloads, in whatever part they are there, and writes them
below --tfds_dir as TFDS would: same names, versions, features and order. With
internet,

    python -m tools.prepare_data --download --tfds_dir=tfds

fetches those files first, over HTTPS and checked by the sizes and hashes that
TFDS lists; interrupted, the same command goes on. The tasks of t5
(`glue_cola_v002`, ...) then need no network:

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
from collections.abc import Collection, Iterable, Iterator, Mapping

from absl import flags, logging

from hypergrid_mtf import tfds_data
from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import console
from tools.data import local_files, local_mixture, official_files

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
_DOWNLOAD = flags.DEFINE_bool(
  "download", False, "Fetch the official files first, and use those."
)
_TASKS = flags.DEFINE_list(
  "tasks",
  None,
  "With --download: which tasks; 'glue', 'super_glue/cb', 'rte' (both). "
  "Default: all of both benchmarks.",
)
_DOWNLOAD_DIR = flags.DEFINE_string(
  "download_dir",
  None,
  "With --download: where the files are kept. Default: <tfds_dir>_download.",
)
_MIRROR = flags.DEFINE_string(
  "mirror",
  None,
  "With --download: a base address in place of https://dl.fbaipublicfiles.com, "
  "with the same paths below it.",
)
_CHECKSUMS = flags.DEFINE_string(
  "checksums",
  None,
  "With --mirror: sizes and hashes of its files where they are not the "
  "official ones, in the format of TFDS's url_checksums.",
)


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A data set that was written, and its rows by split."""

  dataset: local_files.LocalDataset
  rows: dict[str, int]


def prepare(
  glue_dir: str | None,
  super_glue_dir: str | None,
  tfds_dir: str | None,
  configs: Mapping[str, Collection[str]] | None = None,
) -> list[Prepared]:
  """Writes what is in the folders to tfds_dir and prints what it did.

  Args:
    glue_dir: folder of the GLUE download, or None.
    super_glue_dir: folder of the SuperGLUE download, or None.
    tfds_dir: folder to write to; made if it is not there.
    configs: those to write by benchmark; None for all that are there.

  Returns:
    The data sets that were written, with their rows.

  Raises:
    UserError: a folder or file is not right; nothing has been written then,
      unless the disk failed half way: the data sets before that are whole.
  """
  if not (glue_dir or super_glue_dir):
    raise UserError(
      "Neither --glue_dir nor --super_glue_dir is given: name the folder of at "
      "least one download, or fetch the files with --download."
    )
  tfds_dir = _local_folder(tfds_dir)
  datasets = _find({"glue": glue_dir, "super_glue": super_glue_dir}, configs)
  prepared = [Prepared(dataset, _checked_rows(dataset)) for dataset in datasets]
  _say_differences(prepared)

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


def _local_folder(tfds_dir: str | None) -> str:
  if not tfds_dir or "://" in tfds_dir:
    raise UserError(
      f"--tfds_dir is {tfds_dir!r}: name a local folder to write to."
    )
  return os.path.abspath(os.path.expanduser(tfds_dir))


def _find(
  roots: Mapping[str, str | None],
  configs: Mapping[str, Collection[str]] | None,
) -> list[local_files.LocalDataset]:
  datasets = []
  for benchmark, root in roots.items():
    if not root:
      continue
    root = os.path.expanduser(root)
    if not os.path.isdir(root):
      raise UserError(
        f"--{benchmark}_dir is {root!r}: there is no such folder."
      )
    found = local_files.find(
      benchmark, root, None if configs is None else configs[benchmark]
    )
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


def download_and_prepare(
  tfds_dir: str | None,
  tasks: Collection[str] | None = None,
  download_dir: str | None = None,
  mirror: str | None = None,
  checksums: str | None = None,
) -> list[Prepared]:
  """Fetches the official files, then calls `prepare` with them.

  Args:
    tfds_dir: folder to write to.
    tasks: of "glue", "super_glue/cb", "rte"; None for all.
    download_dir: where the files are kept; None for a folder beside tfds_dir.
    mirror: a base address in place of the official one.
    checksums: path of a list of sizes and hashes of other files.

  Returns:
    The data sets that were written, with their rows.

  Raises:
    UserError: as `official_files.download` and `prepare`.
  """
  tfds_dir = _local_folder(tfds_dir)
  if mirror is not None and not mirror.startswith(("http://", "https://")):
    raise UserError(
      f"--mirror={mirror} is not an address: give https://HOST/PATH."
    )
  if download_dir is None:
    download_dir = tfds_dir.rstrip("/") + "_download"
  configs = official_files.chosen(tasks)
  roots = official_files.download(
    configs,
    os.path.abspath(os.path.expanduser(download_dir)),
    mirror,
    official_files.url_infos(checksums),
  )
  return prepare(roots.get("glue"), roots.get("super_glue"), tfds_dir, configs)


def main(argv) -> None:
  """Runs `prepare` or `download_and_prepare` with the flags."""
  del argv
  if _DOWNLOAD.value:
    if _GLUE_DIR.value or _SUPER_GLUE_DIR.value:
      raise UserError(
        "--download fetches what --glue_dir and --super_glue_dir would name: "
        "give it, or them."
      )
    download_and_prepare(
      _TFDS_DIR.value,
      _TASKS.value,
      _DOWNLOAD_DIR.value,
      _MIRROR.value,
      _CHECKSUMS.value,
    )
    return
  for flag in (_TASKS, _DOWNLOAD_DIR, _MIRROR, _CHECKSUMS):
    if flag.present:
      raise UserError(f"--{flag.name} goes with --download: add that.")
  prepare(_GLUE_DIR.value, _SUPER_GLUE_DIR.value, _TFDS_DIR.value)


if __name__ == "__main__":
  console.run(main)
