"""Fetches the official files of GLUE and SuperGLUE.

Addresses, sizes and hashes are those that the installed TFDS names: its
builders of `glue` and `super_glue`, and their checksums. `local_files` reads
what is fetched.
"""

import collections
import contextlib
import dataclasses
import os
import shutil
import tempfile
import urllib.parse
import zipfile
from collections.abc import Collection, Iterator, Mapping

from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import console, locks
from tools.data import transfer

# isort: split
# After our own package, which puts TensorFlow's banner into the log.
import tqdm
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.text import glue, super_glue

_BUILDERS = {"glue": glue.Glue, "super_glue": super_glue.SuperGlue}
_HOST = "https://dl.fbaipublicfiles.com"
# Two small files are elsewhere in TFDS. The host of all others has them too
# (so the scripts that came after TFDS's say); the hash decides.
_SECOND = {
  glue._MRPC_DEV_IDS: f"{_HOST}/glue/data/mrpc_dev_ids.tsv",
  glue.Glue.builder_configs["ax"].data_url: f"{_HOST}/glue/data/AX.tsv",
}
_MRPC = {
  glue._MRPC_TRAIN: "msr_paraphrase_train.txt",
  glue._MRPC_TEST: "msr_paraphrase_test.txt",
  glue._MRPC_DEV_IDS: "mrpc_dev_ids.tsv",
}
_UNZIPPING = ".unzip-"

UrlInfos = Mapping[str, checksums.UrlInfo]


@dataclasses.dataclass(frozen=True)
class OfficialFile:
  """One file of a benchmark.

  Attributes:
    benchmark: "glue" or "super_glue", the folder that it is kept in.
    folder: of the task, below that: "CoLA".
    name: "CoLA.zip", which holds the folder, or a file in the folder.
    url: where TFDS takes it from.
    configs: the TFDS configs that are made of it.
  """

  benchmark: str
  folder: str
  name: str
  url: str
  configs: tuple[str, ...]

  @property
  def is_archive(self) -> bool:
    """Whether it has to be unzipped."""
    return self.name.endswith(".zip")

  @property
  def path(self) -> str:
    """Where it is, below the folder of downloads."""
    within = () if self.is_archive else (self.folder,)
    return os.path.join(self.benchmark, *within, self.name)

  def urls(self, mirror: str | None) -> tuple[str, ...]:
    """Its addresses, the first to be asked first.

    Args:
      mirror: a base address that stands for dl.fbaipublicfiles.com.
    """
    urls = tuple(u for u in (self.url, _SECOND.get(self.url)) if u)
    if not mirror:
      return urls
    path = urllib.parse.urlsplit(urls[-1]).path
    return (mirror.rstrip("/") + path,)


def official_files() -> list[OfficialFile]:
  """All files of both benchmarks, in TFDS's order."""
  configs = collections.defaultdict(list)
  found = {}
  for benchmark, builder in _BUILDERS.items():
    for config in builder.BUILDER_CONFIGS:
      names = _MRPC if config.name == "mrpc" else {config.data_url: ""}
      for url, name in names.items():
        at = urllib.parse.urlsplit(url).path.rpartition("/")[2]
        folder = getattr(config, "data_dir", None) or at.removesuffix(".zip")
        if config.name == "ax":
          folder, name = "diagnostic", "diagnostic.tsv"
        configs[url].append(config.name)
        found[url] = (benchmark, folder, name or at)
  return [
    OfficialFile(*where, url=url, configs=tuple(configs[url]))
    for url, where in found.items()
  ]


def url_infos(path: str | None = None) -> dict[str, checksums.UrlInfo]:
  """Size and SHA-256 of each file, by TFDS's address of it.

  Args:
    path: of a file in the format of TFDS's checksums, whose lines come before
      TFDS's own.

  Raises:
    UserError: there is no such file, or it is not in that format.
  """
  found = {u: i for b in _BUILDERS.values() for u, i in b.url_infos.items()}
  if path:
    try:
      found |= checksums.load_url_infos(path)
    except OSError as e:
      raise UserError(
        f"--checksums={path} cannot be read ({e.strerror or e})."
      ) from e
    except (AssertionError, ValueError) as e:
      raise UserError(
        f"--checksums={path} is not a list of checksums: give lines of "
        "address, size, SHA-256 and file name with tabs between them, as TFDS "
        "has them."
      ) from e
  return found


def chosen(tasks: Collection[str] | None) -> dict[str, set[str]]:
  """The TFDS configs that --tasks asks for, by benchmark.

  Args:
    tasks: of "glue", "super_glue/cb", "cb"; None for all.

  Raises:
    UserError: there is no such task.
  """
  names = {
    benchmark: [c.name for c in builder.BUILDER_CONFIGS]
    for benchmark, builder in _BUILDERS.items()
  }
  found: dict[str, set[str]] = {benchmark: set() for benchmark in names}
  for task in tasks if tasks is not None else names:
    benchmark, _, config = task.strip().rpartition("/")
    matched = False
    for name, all_configs in names.items():
      if task.strip() == name:
        found[name] |= set(all_configs)
        matched = True
      elif config in all_configs and benchmark in ("", name):
        found[name].add(config)
        matched = True
    if not matched:
      raise UserError(
        f"--tasks names {task!r}, which is not a task: give glue, super_glue, "
        "or some of "
        + ", ".join(f"{b}/{c}" for b, cs in names.items() for c in cs)
        + "."
      )
  return found


def download(
  configs: Mapping[str, Collection[str]],
  folder: str,
  mirror: str | None = None,
  infos: UrlInfos | None = None,
  retries: transfer.urllib3.Retry = transfer.RETRIES,
) -> dict[str, str]:
  """Fetches and unzips the files of some tasks.

  Args:
    configs: from `chosen`.
    folder: where the files are kept; made if it is not there.
    mirror: a base address that stands for the official host.
    infos: size and hash by TFDS's address; None for TFDS's own.
    retries: how often a connection is tried.

  Returns:
    The folder of each benchmark of which there is a task.

  Raises:
    UserError: a file cannot be had, or the disk refuses it. Whatever was whole
      by then stays, and is not fetched again.
  """
  infos = infos or url_infos()
  wanted = [
    file
    for file in official_files()
    if set(file.configs) & set(configs.get(file.benchmark, ()))
  ]
  with _disk_errors(folder):
    os.makedirs(folder, exist_ok=True)
  with locks.hold(folder, f"--download_dir={folder}", "downloads"):
    with _disk_errors(folder):
      for file in wanted:
        os.makedirs(
          os.path.join(folder, os.path.dirname(file.path)), exist_ok=True
        )
    _fetch_all(wanted, folder, mirror, infos, retries)
    for file in wanted:
      if file.is_archive:
        with _disk_errors(folder):
          _unzip(file, folder)
  return {
    benchmark: os.path.join(folder, benchmark)
    for benchmark in {file.benchmark: None for file in wanted}
  }


def _fetch_all(
  files: list[OfficialFile],
  folder: str,
  mirror: str | None,
  infos: UrlInfos,
  retries: transfer.urllib3.Retry,
) -> None:
  wanted = [
    transfer.Wanted(
      path=os.path.join(folder, file.path),
      urls=file.urls(mirror),
      size=int(infos[file.url].size),
      sha256=infos[file.url].checksum,
    )
    for file in files
  ]
  missing = [item for item in wanted if not transfer.is_there(item)]
  size = sum(item.size for item in missing)
  if missing:
    there = len(wanted) - len(missing)
    console.say(
      f"downloading {len(missing)} files, {size / 1e6:,.1f} MB, to {folder}"
      + (f"; {there} are there already" if there else "")
    )
  with (
    transfer.session(retries) as opened,
    tqdm.tqdm(
      total=size,
      initial=sum(map(transfer.begun, missing)),
      unit="B",
      unit_scale=True,
      disable=None,  # None: where there is no terminal.
      file=console.terminal(),
      leave=False,
    ) as bar,
  ):
    for item in missing:
      bar.set_description(os.path.relpath(item.path, folder))
      transfer.fetch(item, opened, bar.update)
  console.say(
    f"all {len(wanted)} files are in {folder}, and their sizes and SHA-256 are "
    "right"
  )


@contextlib.contextmanager
def _disk_errors(folder: str) -> Iterator[None]:
  """Turns what the disk says into one sentence."""
  try:
    yield
  except OSError as e:
    raise UserError(
      f"--download_dir={folder} cannot be written to ({e.strerror or e}): give "
      "another folder, or make room; what was fetched stays."
    ) from e


def _unzip(file: OfficialFile, folder: str) -> None:
  """Unzips the files of a task, as one folder that appears whole.

  An archive has more: the sources of the texts, which no reader of ours looks
  at, in folders of their own.
  """
  root = os.path.join(folder, file.benchmark)
  path = os.path.join(folder, file.path)
  target = os.path.join(root, file.folder)
  for name in os.listdir(root):
    if name.startswith(_UNZIPPING):  # of a run that was killed
      shutil.rmtree(os.path.join(root, name), ignore_errors=True)
  try:
    with zipfile.ZipFile(path) as archive:
      members = _members(archive, file.folder)
      if not members:
        raise UserError(
          f"{path} has no files in a folder {file.folder}/: it is not the "
          "official archive; delete it and fetch it again."
        )
      if all(
        os.path.isfile(there := os.path.join(target, name))
        and os.path.getsize(there) == member.file_size
        for name, member in members.items()
      ):
        return
      stage = tempfile.mkdtemp(prefix=_UNZIPPING, dir=root)
      try:
        new = os.path.join(stage, file.folder)
        os.mkdir(new)
        for name, member in members.items():
          with (
            archive.open(member) as source,
            open(os.path.join(new, name), "wb") as copy,
          ):
            shutil.copyfileobj(source, copy, 1 << 20)
        if os.path.lexists(target):
          os.rename(target, os.path.join(stage, "before"))
        os.rename(new, target)
      finally:
        shutil.rmtree(stage, ignore_errors=True)
  except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as e:
    raise UserError(
      f"{path} cannot be unzipped ({e}): delete it and fetch it again."
    ) from e


def _members(
  archive: zipfile.ZipFile, folder: str
) -> dict[str, zipfile.ZipInfo]:
  """{name: member} of the files that lie directly in a folder of an archive.

  A name is the last part of a path, and so never leads out of the folder.
  """
  found = {}
  for member in archive.infolist():
    at, _, name = member.filename.rpartition("/")
    if at == folder and name not in ("", ".", "..") and not member.is_dir():
      found[name] = member
  return found
