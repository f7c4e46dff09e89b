"""Converts local GLUE and SuperGLUE files to the data sets of t5's tasks.

    python -m tools.prepare_data --glue_dir=glue_data \\
        --super_glue_dir=superglue --tfds_dir=tfds

takes the official downloads, complete or not, and writes them below --tfds_dir
as TFDS would: same names, versions, features and order. With internet,

    python -m tools.prepare_data --download --tfds_dir=tfds

downloads those files first and checks them against TFDS's sizes and hashes; the
same command resumes an interrupted download. The tasks of t5 (`glue_cola_v002`,
...) then need no network:

    --gin_file=tfds/local_mixture.gin --t5_tfds_data_dir=tfds

All files are checked before anything is written. A data set is written in a
temporary folder and renamed into place; it then replaces one of an earlier run,
which stays unchanged if this run fails before.
"""

import contextlib
import io
import os
import shlex
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping

from absl import flags

from hypergrid_mtf.run import console

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flags.DEFINE_string(
    "glue_dir", None, "Folder of the GLUE download: CoLA/, SST-2/, ..."
  )
  flags.DEFINE_string(
    "super_glue_dir", None, "Folder of the SuperGLUE download: BoolQ/, CB/, ..."
  )
  flags.DEFINE_string(
    "tfds_dir", None, "Folder to write to, for --t5_tfds_data_dir."
  )
  flags.DEFINE_bool(
    "download", False, "Download the official files first, and use them."
  )
  flags.DEFINE_list(
    "tasks",
    None,
    "With --download: which tasks; 'glue', 'super_glue/cb', 'rte' (both). "
    "Default: all tasks of both benchmarks.",
  )
  flags.DEFINE_string(
    "download_dir",
    None,
    "With --download: where to keep the files. Default: <tfds_dir>_download.",
  )
  flags.DEFINE_string(
    "mirror",
    None,
    "With --download: a base address instead of "
    "https://dl.fbaipublicfiles.com, with the same paths below it.",
  )


console.read_flags(__name__, define_flags, ["glue_dir", "super_glue_dir"])

import tabulate
import tensorflow_datasets as tfds
import tqdm

from hypergrid_mtf import errors, tfds_data
from hypergrid_mtf.errors import UserError
from tools.data import downloads, local_files, local_mixture


def prepare(
  glue_dir: str | None,
  super_glue_dir: str | None,
  tfds_dir: str | None,
  configs: Mapping[str, Collection[str]] | None = None,
) -> None:
  """Writes the data sets found in the folders to tfds_dir.

  Args:
    glue_dir: folder of the GLUE download, or None.
    super_glue_dir: folder of the SuperGLUE download, or None.
    tfds_dir: folder to write to; made if needed.
    configs: configs to write, by benchmark; None for all that were found.

  Raises:
    UserError: a folder or file is wrong; nothing has been written, unless the
      disk failed midway: then the data sets written before are complete.
  """
  if not (glue_dir or super_glue_dir):
    raise UserError(
      "Neither --glue_dir nor --super_glue_dir is given: name the folder of at "
      "least one download, or fetch the files with --download."
    )
  tfds_dir = _check_tfds_dir(tfds_dir)
  prepared = []
  for benchmark, root in (("glue", glue_dir), ("super_glue", super_glue_dir)):
    if root:
      for dataset in _find_datasets(benchmark, root, configs):
        prepared.append((dataset, _count_rows(dataset)))

  try:
    os.makedirs(tfds_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(
      prefix=".prepare_data-", dir=tfds_dir, ignore_cleanup_errors=True
    ) as stage:
      for dataset, rows in prepared:
        _install(_write(dataset, sum(rows.values()), stage), tfds_dir, stage)
  except Exception as e:  # TFDS turns errors into RuntimeErrors
    reason = errors.describe_unwritten(e) or getattr(e, "strerror", None)
    if not reason:
      raise
    raise UserError(
      f"--tfds_dir is {tfds_dir!r}: it cannot be written to ({reason})."
    ) from e
  gin_file = local_mixture.write_gin_file(tfds_dir)
  _print_table(prepared)
  console.say(f"\nWrote {len(prepared)} data sets to {tfds_dir}")
  data_dir = f"--t5_tfds_data_dir={tfds_dir}"
  if gin_file:
    console.say("To train on all of it, add to the command:")
    console.say("  " + shlex.join([f"--gin_file={gin_file}", data_dir]))
  else:
    console.say(
      "There is nothing to train on, so there is no gin file; to evaluate, add "
      "to the command:"
    )
    console.say("  " + shlex.quote(data_dir))


def _check_tfds_dir(tfds_dir: str | None) -> str:
  if not tfds_dir or "://" in tfds_dir:
    raise UserError(
      f"--tfds_dir is {tfds_dir!r}: name a local folder to write to."
    )
  return os.path.abspath(os.path.expanduser(tfds_dir))


def _find_datasets(
  benchmark: str, root: str, configs: Mapping[str, Collection[str]] | None
) -> list[local_files.LocalDataset]:
  root = os.path.expanduser(root)
  if not os.path.isdir(root):
    raise UserError(f"--{benchmark}_dir is {root!r}: there is no such folder.")
  found = local_files.find_datasets(
    benchmark, root, configs and configs[benchmark]
  )
  if not found.datasets:
    raise UserError(
      f"--{benchmark}_dir is {root!r}: no task of {benchmark} is in it; "
      f"expected folders such as {_FOLDERS[benchmark]}."
    )
  for note in found.notes:
    console.say(note)
  return found.datasets


_FOLDERS = {
  "glue": "CoLA/ or SST-2/ with train.tsv, dev.tsv, test.tsv",
  "super_glue": "BoolQ/ or CB/ with train.jsonl, val.jsonl, test.jsonl",
}


def _count_rows(dataset: local_files.LocalDataset) -> dict[str, int]:
  """Reads and checks a data set; returns its rows by split."""
  counts = {}
  for split in dataset.splits:
    counts[split], notes = dataset.check_split(split)
    for note in notes:
      console.say(note)
  return counts


def _print_table(
  prepared: Iterable[tuple[local_files.LocalDataset, dict[str, int]]],
) -> None:
  lines = [
    (dataset.name, split, count, local_files.OFFICIAL_ROWS[dataset.name][split])
    for dataset, rows in prepared
    for split, count in rows.items()
  ]
  headers = ("data set", "split", "rows", "official")
  console.say(
    "\n" + tabulate.tabulate(lines, headers, tablefmt="plain", intfmt=",")
  )


def _write(dataset: local_files.LocalDataset, rows: int, stage: str) -> str:
  """Writes a data set with TFDS into the stage; returns its path."""
  info = dataset.builder.info
  # Only our own bar and lines are shown to the user.
  tfds.disable_progress_bar()
  with (
    tfds_data.without_cloud_bucket(),
    contextlib.redirect_stdout(io.StringIO()),
    tqdm.tqdm(
      desc=dataset.name,
      total=rows,
      unit="row",
      disable=None,  # None: where there is no terminal.
      file=console.terminal(),
      leave=False,
    ) as bar,
  ):
    written = tfds.dataset_builders.store_as_tfds_dataset(
      name=dataset.benchmark,
      config=tfds.core.BuilderConfig(
        name=dataset.config,
        version=dataset.builder.version,
        description=info.config_description,
      ),
      version=dataset.builder.version,
      data_dir=stage,
      features=info.features,
      description=info.description,
      homepage=info.homepage,
      citation=info.citation,
      split_datasets={
        split: _update_bar(dataset.examples(split), bar)
        for split in dataset.splits
      },
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  return os.fspath(written.data_dir)


def _update_bar(examples: Iterable, bar: tqdm.tqdm) -> Iterator:
  for example in examples:
    yield example
    bar.update()


def _install(written: str, tfds_dir: str, stage: str) -> None:
  """Renames a complete data set into place, moving an old one away first."""
  target = os.path.join(tfds_dir, os.path.relpath(written, stage))
  os.makedirs(os.path.dirname(target), exist_ok=True)
  aside = os.path.join(tempfile.mkdtemp(dir=stage), "before")
  replaces = os.path.lexists(target)
  if replaces:
    os.rename(target, aside)
  try:
    os.rename(written, target)
  except BaseException:
    if replaces:
      os.rename(aside, target)
    raise


def main(argv) -> None:
  """Runs `prepare` as the flags say, after any download."""
  del argv
  if not FLAGS.download:
    for name in ("tasks", "download_dir", "mirror"):
      if FLAGS[name].present:
        raise UserError(f"--{name} needs --download: add it.")
    prepare(FLAGS.glue_dir, FLAGS.super_glue_dir, FLAGS.tfds_dir)
    return
  if FLAGS.glue_dir or FLAGS.super_glue_dir:
    raise UserError(
      "--download replaces --glue_dir and --super_glue_dir: give one or the "
      "other."
    )
  tfds_dir, mirror = _check_tfds_dir(FLAGS.tfds_dir), FLAGS.mirror
  if mirror is not None and not mirror.startswith(("http://", "https://")):
    raise UserError(
      f"--mirror={mirror} is not an address: give https://HOST/PATH."
    )
  configs = downloads.find_configs(FLAGS.tasks)
  folder = FLAGS.download_dir or f"{tfds_dir}_download"
  folder = os.path.abspath(os.path.expanduser(folder))
  roots = downloads.download_files(configs, folder, mirror)
  prepare(roots.get("glue"), roots.get("super_glue"), tfds_dir, configs)


if __name__ == "__main__":
  console.run(main)
