"""Fetches files over HTTP: resumable, checked, each whole or not at all.

A transfer writes `<path>.part`, and beside it, in `<path>.from`, which version
of the file the server said it is. After a dropped connection, or in a later
run, it goes on from there (Range, If-Range); where the server gives the whole
file again, it begins anew. The file gets its name when size and SHA-256 are
right.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator

import requests
import requests.adapters
import urllib3

import hypergrid_mtf
from hypergrid_mtf.errors import UserError

# Of a connection, and of a server that answers "later" (429, 5xx): the waits
# are 0, 1, 2, 4, 8 and 16 seconds, or what the server asks for.
RETRIES = urllib3.Retry(
  total=6,
  backoff_factor=0.5,
  status_forcelist=(429, 500, 502, 503, 504),
  raise_on_status=False,
)
_TIMEOUT = (20, 60)  # seconds: to connect, and between two pieces
_PIECE = 1 << 16  # bytes


@dataclasses.dataclass(frozen=True)
class Wanted:
  """A file to fetch.

  Attributes:
    path: where it will be.
    urls: its addresses, the best first; the bytes are the same.
    size: bytes.
    sha256: hexadecimal.
  """

  path: str
  urls: tuple[str, ...]
  size: int
  sha256: str


class _Failed(Exception):
  """An address does not give the file: a sentence without its full stop."""


class _Dropped(Exception):
  """The connection ended in the middle."""


def is_there(wanted: Wanted) -> bool:
  """Whether the file is on disk, with its size and hash."""
  return os.path.isfile(wanted.path) and _is_right(wanted.path, wanted)


def begun(wanted: Wanted) -> int:
  """How many bytes of an unfinished transfer are there."""
  part = f"{wanted.path}.part"
  return os.path.getsize(part) if os.path.isfile(part) else 0


@contextlib.contextmanager
def session(retries: urllib3.Retry = RETRIES) -> Iterator[requests.Session]:
  """Connections that try again; closed at the end.

  Args:
    retries: how often, and after which waits.
  """
  with requests.Session() as opened:
    # Of a compressed answer, a range would be of other bytes than the file's.
    opened.headers["Accept-Encoding"] = "identity"
    opened.headers["User-Agent"] = f"hypergrid_mtf/{hypergrid_mtf.__version__}"
    for scheme in ("http://", "https://"):
      opened.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retries))
    yield opened


def fetch(
  wanted: Wanted,
  opened: requests.Session,
  progress: Callable[[int], object] = lambda count: None,
) -> None:
  """Fetches a file from the first of its addresses that gives it.

  Args:
    wanted: the file; its folder exists.
    opened: from `session`.
    progress: takes the bytes that came, below 0 where some are dropped.

  Raises:
    UserError: no address gives the file, its bytes are other ones, or the disk
      refuses them. What came so far stays, unless it is wrong.
  """
  failures = []
  for url in wanted.urls:
    try:
      _fetch_from(url, wanted, opened, progress)
      return
    except _Failed as e:
      failures.append(f"{url} {e}")
    except OSError as e:  # requests' own are caught where they come from
      raise UserError(
        f"{wanted.path} cannot be written ({e.strerror or e}): make room, or "
        "give another --download_dir; what was fetched stays, and the same "
        "command goes on from there."
      ) from e
  raise UserError(
    "; ".join(failures)
    + ": what was fetched stays, and the same command goes on from there; "
    "--mirror=URL takes the files from another place."
  )


def _fetch_from(
  url: str,
  wanted: Wanted,
  opened: requests.Session,
  progress: Callable[[int], object],
) -> None:
  """`fetch` from one address; raises _Failed where that does not give it."""
  part = f"{wanted.path}.part"
  if begun(wanted) > wanted.size:
    _drop(wanted, progress)
  _check_room(wanted)
  adapter = opened.get_adapter(url)
  assert isinstance(adapter, requests.adapters.HTTPAdapter)
  retries = adapter.max_retries
  furthest = begun(wanted)
  while True:
    resumed = begun(wanted) > 0
    while begun(wanted) < wanted.size:
      try:
        resumed &= _receive(url, wanted, opened, progress)
      except _Dropped as e:
        resumed = True  # what is there, and what will come after it
        if begun(wanted) > furthest:
          furthest, retries = begun(wanted), adapter.max_retries
        try:
          retries = retries.increment("GET", url, error=e)
        except urllib3.exceptions.MaxRetryError:
          raise _Failed(f"drops the connection again and again ({e})") from e
        retries.sleep()
    if _is_right(part, wanted):
      break
    _drop(wanted, progress)
    if not resumed:
      raise _Failed(
        f"gives other bytes than expected (SHA-256 is not {wanted.sha256})"
      )
    # The two halves may be of two versions: once more, from the beginning.
  os.replace(part, wanted.path)
  with contextlib.suppress(FileNotFoundError):
    os.unlink(_note(wanted))


def _receive(
  url: str,
  wanted: Wanted,
  opened: requests.Session,
  progress: Callable[[int], object],
) -> bool:
  """Asks once for what is missing, and writes what comes.

  Returns:
    whether it was added to what was there, rather than written anew

  Raises:
    _Dropped: the connection ended before the file did.
    _Failed: the answer is not the file.
  """
  have = begun(wanted)
  headers = {}
  if have:
    headers["Range"] = f"bytes={have}-"
    if version := _version_of_part(url, wanted):
      headers["If-Range"] = version
  try:
    answer = opened.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
  except requests.RequestException as e:
    raise _Failed(f"does not answer ({_cause(e)})") from e
  with answer:
    adds = answer.status_code == 206
    if answer.status_code == 416 or (adds and not _fits(answer, have, wanted)):
      _drop(wanted, progress)  # It is of another version.
      raise _Dropped("the server has another version of the file")
    _check_answer(answer, wanted, have if adds else 0)
    if not adds:
      if have:
        progress(-have)
      _remember(url, answer, wanted)
    try:
      # Not buffered: whatever ends this process, what came is there.
      with open(
        f"{wanted.path}.part", "ab" if adds else "wb", buffering=0
      ) as f:
        # What came before a connection dropped is kept, to the byte; requests'
        # `iter_content` would lose the last piece.
        while piece := answer.raw.read1(_PIECE, decode_content=False):
          f.write(piece)
          progress(len(piece))
          if f.tell() > wanted.size:
            break
        os.fsync(f.fileno())
    except urllib3.exceptions.HTTPError as e:
      raise _Dropped(_cause(e)) from e
  if begun(wanted) < wanted.size:
    raise _Dropped(f"{begun(wanted):,} of {wanted.size:,} bytes came")
  return adds


def _check_answer(answer: requests.Response, wanted: Wanted, have: int) -> None:
  """Raises _Failed for an answer that is not the file, before it is written."""
  if answer.status_code not in (200, 206):
    raise _Failed(
      f"answers {answer.status_code} {answer.reason or ''}".rstrip()
    )
  kind = answer.headers.get("Content-Type", "")
  if kind.startswith("text/html"):
    raise _Failed(
      "answers with a web page in place of the file (a login, or a page of a "
      "network or a proxy)"
    )
  length = answer.headers.get("Content-Length")
  if length and length.isdigit() and int(length) + have != wanted.size:
    raise _Failed(
      f"has {int(length) + have:,} bytes, expected {wanted.size:,}: it is "
      "another version of the file"
    )


def _fits(answer: requests.Response, have: int, wanted: Wanted) -> bool:
  """Whether a partial answer begins where the part ends."""
  given = answer.headers.get("Content-Range", "")
  return given.startswith(f"bytes {have}-") and (
    given.endswith((f"/{wanted.size}", "/*"))
  )


def _check_room(wanted: Wanted) -> None:
  folder = os.path.dirname(wanted.path)
  free = shutil.disk_usage(folder).free
  missing = wanted.size - begun(wanted)
  if missing > free:
    raise UserError(
      f"{folder} (--download_dir) has {free:,} bytes free, and {missing:,} of "
      f"{os.path.basename(wanted.path)} are to come: make room, or give "
      "another folder."
    )


def _is_right(path: str, wanted: Wanted) -> bool:
  if os.path.getsize(path) != wanted.size:
    return False
  digest = hashlib.sha256()
  with open(path, "rb") as f:
    while piece := f.read(1 << 20):
      digest.update(piece)
  return digest.hexdigest() == wanted.sha256


def _drop(wanted: Wanted, progress: Callable[[int], object]) -> None:
  """Throws away what came."""
  progress(-begun(wanted))
  for path in (f"{wanted.path}.part", _note(wanted)):
    with contextlib.suppress(FileNotFoundError):
      os.unlink(path)


def _note(wanted: Wanted) -> str:
  return f"{wanted.path}.from"


def _remember(url: str, answer: requests.Response, wanted: Wanted) -> None:
  """Notes which version of the file the part is of."""
  tag = answer.headers.get("ETag", "")
  version = ("" if tag.startswith("W/") else tag) or answer.headers.get(
    "Last-Modified"
  )
  with open(_note(wanted), "w", encoding="utf-8") as f:
    json.dump({"url": url, "version": version}, f)


def _version_of_part(url: str, wanted: Wanted) -> str | None:
  """What If-Range asks for; None where that is not known of this address."""
  try:
    with open(_note(wanted), encoding="utf-8") as f:
      note = json.load(f)
  except (OSError, ValueError):
    return None
  return note.get("version") if note.get("url") == url else None


def _cause(error: BaseException) -> str:
  """The innermost reason of an error of requests, on one line."""
  while isinstance(
    inner := getattr(error, "reason", None) or (error.args or [None])[0],
    BaseException,
  ):
    error = inner
  # urllib3 begins with the connection object.
  text = re.sub(r"^(<.*?>|HTTPS?Connection\w*\(.*?\)): ", "", str(error))
  return " ".join(text.split()) or type(error).__name__
