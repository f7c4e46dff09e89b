"""A local server of the official files, which fails in the known ways."""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import pathlib
import threading
import urllib.parse
import zipfile
from collections.abc import Iterator

from tensorflow_datasets.core.download import checksums

from tools.data import downloads, local_files


def make_archives(root: pathlib.Path) -> dict[str, bytes]:
  """Bytes by TFDS's address, in the layout of the official files.

  Args:
    root: with the folders glue and super_glue.
  """
  found = {}
  for name in local_files.OFFICIAL_ROWS:
    benchmark, config = name.split("/")
    for url, path in downloads.official_files(benchmark, config).items():
      path = root / benchmark / path.replace("mrpc_dev_ids", "dev_ids")
      folder = path.with_suffix("")
      if path.suffix != ".zip":
        found[url] = path.read_bytes()
        continue
      folder = folder.with_name(folder.name.removesuffix("v2"))
      content = io.BytesIO()
      with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        # Each begins with the folder itself, and has what nobody reads.
        archive.writestr(f"{folder.name}/", b"")
        archive.writestr(f"{folder.name}/original/raw.txt", b"raw")
        archive.writestr(f"__MACOSX/{folder.name}/._train.tsv", b"finder")
        for file in sorted(folder.iterdir()):
          archive.write(file, f"{folder.name}/{file.name}")
      found[url] = content.getvalue()
  return found


def infos(contents: dict[str, bytes]) -> dict[str, checksums.UrlInfo]:
  """Sizes and hashes as TFDS has them."""
  return {
    url: checksums.UrlInfo(
      size=len(content),
      checksum=hashlib.sha256(content).hexdigest(),
      filename=None,
    )
    for url, content in contents.items()
  }


@dataclasses.dataclass
class Server:
  """What it serves, and what was asked of it.

  Attributes:
    address: "http://localhost:PORT".
    files: bytes by path, "/glue/data/CoLA.zip".
    faults: by path, what happens to the next requests of it, one each: minus a
      number of bytes after which the connection is dropped, a status, "html",
      or "whole" for a server that ignores Range.
    ranges: (path, the Range that was asked for), of every request.
  """

  address: str = ""
  files: dict[str, bytes] = dataclasses.field(default_factory=dict)
  faults: dict[str, list] = dataclasses.field(default_factory=dict)
  ranges: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def serve(contents: dict[str, bytes] | None = None) -> Iterator[Server]:
  """A server in a thread, until the context ends.

  Args:
    contents: bytes by TFDS's address; served at the path below a mirror.
  """
  state = Server()
  for url, content in (contents or {}).items():
    at = urllib.parse.urlsplit(downloads._ON_HOST.get(url, url)).path
    state.files[at] = content

  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
      pass

    def _answer(self, status, body, headers=(), most=None):
      self.send_response(status)
      for name, value in dict(headers).items():
        self.send_header(name, value)
      self.send_header("Content-Length", str(len(body)))
      self.send_header("Connection", "close")
      self.end_headers()
      self.wfile.write(body[:most])

    def do_GET(self):
      asked = self.headers.get("Range")
      state.ranges.append((self.path, asked))
      faults = state.faults.get(self.path)
      fault = faults.pop(0) if faults else None
      body = state.files.get(self.path)
      if fault == "html":
        self._answer(200, b"<html>Please log in</html>")
      elif isinstance(fault, int) and fault >= 400:
        self._answer(fault, b"no")
      elif body is None:
        self._answer(404, b"no such file")
      elif not asked or fault == "whole":
        self._answer(200, body, most=None if fault == "whole" else _most(fault))
      else:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        at = f"bytes {start}-{len(body) - 1}/{len(body)}"
        headers = {"Content-Range": at}
        self._answer(206, body[start:], headers, _most(fault))

  server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
  state.address = f"http://localhost:{server.server_port}"
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield state
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


def _most(fault: int | None) -> int | None:
  return None if fault is None else -fault
