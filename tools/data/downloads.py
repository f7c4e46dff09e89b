"""Downloads the official files of GLUE and SuperGLUE.

Sizes and hashes come from the installed TFDS. TFDS's own download manager is
not used: it silently waits for minutes on a dead server, and restarts a file
when the connection drops.
"""

import collections
import os
import re
import shutil
import tempfile
import time
import urllib.parse
import zipfile
from collections.abc import Collection, Mapping

import requests
import urllib3

import hypergrid_mtf
from hypergrid_mtf.errors import UserError
from hypergrid_mtf.run import console, lock
from tools.data import local_files

# isort: split
# After our own package, which redirects TensorFlow's banner to the log.
import tqdm
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.text import glue

_HOST = "https://dl.fbaipublicfiles.com"
_MRPC = {
  glue._MRPC_TRAIN: "MRPC/msr_paraphrase_train.txt",
  glue._MRPC_TEST: "MRPC/msr_paraphrase_test.txt",
  glue._MRPC_DEV_IDS: "MRPC/mrpc_dev_ids.tsv",
}
# In TFDS two small files have another host, but the common host has them too.
_ON_HOST = {
  glue._MRPC_DEV_IDS: f"{_HOST}/glue/data/mrpc_dev_ids.tsv",
  glue.Glue.builder_configs["ax"].data_url: f"{_HOST}/glue/data/AX.tsv",
}
# Tries without new data before a server is given up, after 15 seconds.
_TRIES = 5
_WAIT = 1.0  # seconds before the second try, doubled each time
_TIMEOUT = (20, 60)  # seconds: to connect, and between two pieces
_PIECE = 1 << 16  # bytes


class _Refused(Exception):
  """The server refuses the file for good."""


def official_files(benchmark: str, config: str) -> dict[str, str]:
  """The addresses of the files of a TFDS config.

  Returns:
    {address: path below the folder of the benchmark}
  """
  url = local_files.BUILDERS[benchmark].builder_configs[config].data_url
  if config == "mrpc":
    return _MRPC
  if config == "ax":
    return {url: "diagnostic/diagnostic.tsv"}
  return {url: urllib.parse.urlsplit(url).path.rpartition("/")[2]}


def find_configs(tasks: Collection[str] | None) -> dict[str, list[str]]:
  """The TFDS configs named by --tasks, by benchmark; all if there is none.

  Raises:
    UserError: for an unknown task.
  """
  asked = {task.strip() for task in tasks or local_files.BUILDERS}
  names = [(name, *name.split("/")) for name in local_files.OFFICIAL_ROWS]
  if unknown := asked.difference(*names):
    raise UserError(
      f"--tasks has {min(unknown)!r}, which is not a task: give glue, "
      f"super_glue, or some of {', '.join(local_files.OFFICIAL_ROWS)}."
    )
  found: dict[str, list[str]] = collections.defaultdict(list)
  for name, benchmark, config in names:
    if asked & {name, benchmark, config}:
      found[benchmark].append(config)
  return found


def download_files(
  configs: Mapping[str, Collection[str]],
  folder: str,
  mirror: str | None = None,
  infos: Mapping[str, checksums.UrlInfo] | None = None,
) -> dict[str, str]:
  """Downloads and unzips the files of some tasks.

  Args:
    configs: from `find_configs`.
    folder: where to keep the files; made if needed.
    mirror: a base address that replaces dl.fbaipublicfiles.com.
    infos: size and hash by TFDS's address; None for TFDS's own.

  Returns:
    The folder of each benchmark that has a task.

  Raises:
    UserError: a file cannot be downloaded or written. What was received is
      kept, and not downloaded again.
  """
  infos = infos or {
    url: info
    for builder in local_files.BUILDERS.values()
    for url, info in builder.url_infos.items()
  }
  wanted = {
    url: os.path.join(folder, benchmark, name)
    for benchmark, names in configs.items()
    for config in names
    for url, name in official_files(benchmark, config).items()
  }
  try:
    for path in wanted.values():
      os.makedirs(os.path.dirname(path), exist_ok=True)
    with lock.hold(folder, f"--download_dir={folder}", "downloads"):
      for url, path in wanted.items():
        info = infos[url]
        if not is_right(path, info):
          at = _ON_HOST.get(url, url)
          if mirror:
            at = mirror.rstrip("/") + urllib.parse.urlsplit(at).path
          console.say(f"downloading {at} ({int(info.size) / 1e6:,.1f} MB)")
          fetch_file(at, path, info)
        if path.endswith(".zip"):
          _unzip(path)
  except OSError as e:
    raise UserError(
      f"--download_dir={folder} cannot be written to ({e.strerror or e}): free "
      "some space, or give another folder; what was received is kept, and the "
      "same command resumes there."
    ) from e
  console.say(
    f"all {len(wanted)} files are in {folder}, and their sizes and SHA-256 are "
    "right"
  )
  return {benchmark: os.path.join(folder, benchmark) for benchmark in configs}


def is_right(path: str, info: checksums.UrlInfo) -> bool:
  """Whether a file exists with the right size and SHA-256."""
  return os.path.isfile(path) and checksums.compute_url_info(path) == info


def fetch_file(url: str, path: str, info: checksums.UrlInfo) -> None:
  """Downloads a file, and renames it when size and SHA-256 are right.

  Partial data is kept in `<path>.part`, so that a later run can resume.

  Raises:
    UserError: the server refuses the file, or sends other bytes.
  """
  part = f"{path}.part"
  failures, was_wrong = 0, False
  while True:
    before = _size(part)
    try:
      if before < info.size:
        _receive(url, part, int(info.size))
      if is_right(part, info):
        os.replace(part, path)
        return
      os.unlink(part)
      if was_wrong or not before:
        raise _Refused(
          f"sent other bytes than expected (SHA-256 is not {info.checksum})"
        )
      # The parts may be of two versions: try once more, from the start.
      was_wrong = True
      continue
    except (requests.RequestException, urllib3.exceptions.HTTPError) as e:
      root: BaseException = e
      while root.__context__:
        root = root.__context__
      problem = f"fails ({' '.join(str(root).split())})"
    except _Refused as e:
      problem, failures = str(e), _TRIES
    if _size(part) > before:
      failures = 0
    failures += 1
    if failures >= _TRIES:
      raise UserError(
        f"{url} {problem}: what was received is kept, and the same command "
        "resumes there; --mirror=URL uses another server."
      )
    wait = _WAIT * 2 ** (failures - 1)
    console.say(
      f"{url} {problem}; try {failures + 1} of {_TRIES} in {wait:g} s"
    )
    time.sleep(wait)


def _size(path: str) -> int:
  return os.path.getsize(path) if os.path.isfile(path) else 0


def _receive(url: str, part: str, size: int) -> None:
  """Requests the missing part once, and writes what arrives."""
  have = _size(part)
  headers = {
    # In a compressed answer, a range would not be of the file's bytes.
    "Accept-Encoding": "identity",
    "User-Agent": f"hypergrid_mtf/{hypergrid_mtf.__version__}",
  }
  if have:
    headers["Range"] = f"bytes={have}-"
  with requests.get(
    url, headers=headers, stream=True, timeout=_TIMEOUT
  ) as answer:
    status = answer.status_code
    if status == 429 or status >= 500:
      answer.raise_for_status()
    if status == 416:  # the partial file is of another version
      os.unlink(part)
      raise requests.ConnectionError("the server has another version")
    if status not in (200, 206):
      raise _Refused(f"answers {status} {answer.reason}")
    have = have if status == 206 else 0
    length = int(answer.headers.get("Content-Length", size - have))
    if have + length != size:
      raise _Refused(
        f"has {have + length:,} bytes, expected {size:,}: it is another "
        "version of the file, or a web page instead"
      )
    with (
      # Unbuffered, so that received data survive any end of this process.
      open(part, "ab" if have else "wb", buffering=0) as f,
      tqdm.tqdm(
        desc=os.path.basename(part).removesuffix(".part"),
        total=size,
        initial=have,
        unit="B",
        unit_scale=True,
        disable=None,  # None disables it without a terminal.
        file=console.terminal(),
        leave=False,
      ) as bar,
    ):
      # requests' `iter_content` would lose the piece during which a connection
      # drops.
      while piece := answer.raw.read1(_PIECE, decode_content=False):
        f.write(piece)
        bar.update(len(piece))
  if _size(part) < size:
    raise requests.ConnectionError(f"{_size(part):,} of {size:,} bytes came")


def _unzip(path: str) -> None:
  """Unzips the folder of a task atomically.

  The archive also has folders with the sources of the texts.
  """
  root = os.path.dirname(path)
  with zipfile.ZipFile(path) as archive:
    is_member = re.compile("(?!__MACOSX)[^/]+/[^/]+").fullmatch
    members = list(filter(is_member, archive.namelist()))
    folder = os.path.join(root, members[0].split("/")[0])
    if os.path.isdir(folder):
      if os.path.getmtime(folder) >= os.path.getmtime(path):
        return
      shutil.rmtree(folder)  # left from an earlier archive
    with tempfile.TemporaryDirectory(prefix=".unzip-", dir=root) as stage:
      archive.extractall(stage, members)
      os.rename(os.path.join(stage, os.path.basename(folder)), folder)
