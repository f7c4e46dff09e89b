"""Files over HTTP, from a server that fails in the known ways."""

import hashlib
import re
import resource
import shutil

import pytest
import urllib3

from hypergrid_mtf.errors import UserError
from tests.tools.data import file_server
from tools.data import transfer

PATH = "/file.bin"
CONTENT = bytes(i * i % 251 for i in range(200_000))
# Without waiting.
RETRIES = transfer.RETRIES.new(backoff_factor=0)


@pytest.fixture
def server():
  with file_server.serve() as server:
    server.files[PATH] = CONTENT
    server.tags[PATH] = '"first"'
    yield server


@pytest.fixture
def wanted(server, tmp_path):
  return transfer.Wanted(
    path=str(tmp_path / "file.bin"),
    urls=(server.address + PATH,),
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
  )


def _fetch(wanted, retries=RETRIES):
  """Fetches; how many bytes the progress bar shows at the end."""
  shown = [transfer.begun(wanted)]
  with transfer.session(retries) as opened:
    try:
      transfer.fetch(wanted, opened, shown.append)
    finally:
      total = sum(shown)
  return total


def _refused(wanted, retries=RETRIES):
  with pytest.raises(UserError) as error:
    _fetch(wanted, retries)
  assert "\n" not in str(error.value)
  return str(error.value)


def _content(tmp_path):
  return {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_a_file_comes_whole_and_alone(server, wanted, tmp_path):
  assert not transfer.is_there(wanted)
  assert _fetch(wanted) == len(CONTENT)
  assert transfer.is_there(wanted)
  assert _content(tmp_path) == {"file.bin": CONTENT}
  assert server.ranges == [(PATH, None)]


def test_dropped_connections_go_on_where_they_ended(server, wanted, tmp_path):
  # More of them than there are tries: each brings something.
  drops = [-20_000] * (RETRIES.total + 2)
  server.faults[PATH] = list(drops)
  assert _fetch(wanted) == len(CONTENT)
  assert _content(tmp_path) == {"file.bin": CONTENT}
  asked = [None] + [f"bytes={20_000 * (i + 1)}-" for i in range(len(drops))]
  assert [r for _, r in server.ranges] == asked


def test_a_later_run_goes_on(server, wanted, tmp_path):
  server.faults[PATH] = [-70_000, 404]
  message = _refused(wanted)
  assert "answers 404" in message and "the same command goes on" in message
  assert _content(tmp_path)["file.bin.part"] == CONTENT[:70_000]
  assert _fetch(wanted) == len(CONTENT)
  assert server.ranges[-1] == (PATH, "bytes=70000-")
  assert _content(tmp_path) == {"file.bin": CONTENT}


def test_a_server_that_ignores_range(server, wanted, tmp_path):
  server.faults[PATH] = [-70_000, "whole"]
  assert _fetch(wanted) == len(CONTENT)
  assert _content(tmp_path) == {"file.bin": CONTENT}


@pytest.mark.parametrize("tags", [('"old"', '"first"'), (None, None)])
def test_a_file_that_changed_in_between(server, wanted, tmp_path, tags):
  """With a tag it comes whole at once, without one when the hash is wrong."""
  server.files[PATH] = CONTENT[::-1]
  server.tags[PATH], later = tags
  server.faults[PATH] = [-70_000, 404]
  _refused(wanted)
  server.files[PATH], server.tags[PATH] = CONTENT, later
  assert _fetch(wanted) == len(CONTENT)
  assert _content(tmp_path) == {"file.bin": CONTENT}
  requests = [r for _, r in server.ranges[2:]]
  assert requests == ["bytes=70000-"] + [None] * (later is None)


def test_a_part_that_is_longer_than_the_file(wanted, tmp_path):
  (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
  assert _fetch(wanted) == len(CONTENT)
  assert _content(tmp_path) == {"file.bin": CONTENT}


def test_a_whole_part_is_not_asked_for_again(server, wanted, tmp_path):
  (tmp_path / "file.bin.part").write_bytes(CONTENT)
  assert _fetch(wanted) == len(CONTENT)
  assert not server.ranges and transfer.is_there(wanted)


def test_wrong_bytes(server, wanted, tmp_path):
  server.files[PATH] = CONTENT[:-1] + b"?"
  message = _refused(wanted)
  assert f"{server.address}{PATH} gives other bytes than expected" in message
  assert wanted.sha256 in message
  assert not _content(tmp_path)
  server.files[PATH] = CONTENT + b"?"
  assert "has 200,001 bytes, expected 200,000" in _refused(wanted)
  assert not _content(tmp_path)


def test_a_web_page_leaves_what_is_there(server, wanted, tmp_path):
  server.faults[PATH] = [-70_000, "html"]
  assert "answers with a web page" in _refused(wanted)
  assert _content(tmp_path)["file.bin.part"] == CONTENT[:70_000]


def test_a_busy_server_is_asked_again(server, wanted):
  server.faults[PATH] = [503, 429, 500]
  assert _fetch(wanted) == len(CONTENT)
  server.faults[PATH] = [503] * 20
  assert "answers 503" in _refused(wanted)
  assert len(server.ranges) == 4 + RETRIES.total + 1


def test_the_second_address(server, wanted, tmp_path):
  other = transfer.Wanted(
    wanted.path,
    (f"{server.address}/gone", *wanted.urls),
    wanted.size,
    wanted.sha256,
  )
  _fetch(other)
  assert _content(tmp_path) == {"file.bin": CONTENT}


def test_no_server(wanted):
  with file_server.serve() as gone:
    pass
  nowhere = transfer.Wanted(
    wanted.path, (f"{gone.address}/x",), wanted.size, wanted.sha256
  )
  message = _refused(nowhere, urllib3.Retry(total=1))
  assert re.search(r"/x does not answer \(.*Connection refused\): ", message)


def test_a_disk_that_is_full(wanted, tmp_path, monkeypatch):
  """The kernel refuses to write more than 100,000 bytes of a file."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
  try:
    message = _refused(wanted)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert f"{wanted.path} cannot be written (File too large)" in message
  part = _content(tmp_path)["file.bin.part"]
  assert part == CONTENT[: len(part)] and len(part) > 50_000
  usage = shutil.disk_usage(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "has 1,000 bytes free" in _refused(wanted)
  assert _fetch(wanted) == len(CONTENT)
