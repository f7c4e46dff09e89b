"""A local HTTP server that gives files, and fails in the known ways."""

import contextlib
import dataclasses
import http.server
import threading
from collections.abc import Iterator


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
    tags: by path, its ETag.
  """

  address: str = ""
  files: dict[str, bytes] = dataclasses.field(default_factory=dict)
  faults: dict[str, list] = dataclasses.field(default_factory=dict)
  ranges: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
  tags: dict[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def serve() -> Iterator[Server]:
  """A server in a thread, until the context ends."""
  state = Server()

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
      fault = None
      if state.faults.get(self.path):
        fault = state.faults[self.path].pop(0)
      if fault == "html":
        page = b"<html>Please log in</html>"
        self._answer(200, page, {"Content-Type": "text/html; charset=utf-8"})
        return
      if isinstance(fault, int) and fault >= 400:
        self._answer(fault, b"no")
        return
      body = state.files.get(self.path)
      if body is None:
        self._answer(404, b"no such file")
        return
      tag = state.tags.get(self.path)
      headers = {"ETag": tag} if tag else {}
      same = self.headers.get("If-Range") in (None, tag)
      most = -fault if isinstance(fault, int) else None
      if not asked or not same or fault == "whole":
        self._answer(200, body, headers, most)
        return
      start = int(asked.removeprefix("bytes=").removesuffix("-"))
      if start >= len(body):
        self._answer(416, b"")
        return
      headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
      self._answer(206, body[start:], headers, most)

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
