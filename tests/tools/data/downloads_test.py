"""The official downloads, from a local server that fails in the known ways."""

import resource

import pytest

from hypergrid_mtf.errors import UserError
from tests.tools.data import official_server
from tools.data import downloads as official
from tools.data import local_files

PATH = "/file.bin"
CONTENT = bytes(i * i % 251 for i in range(200_000))
INFO = official_server.infos({"": CONTENT})[""]
_COLA = "/glue/data/CoLA.zip"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
  monkeypatch.setattr(official, "_WAIT", 0)


@pytest.fixture
def server():
  with official_server.serve() as server:
    server.files[PATH] = CONTENT
    yield server


def _fetch(server, tmp_path, said=None):
  """Fetches PATH; the files that are there afterwards."""
  path = str(tmp_path / "file.bin")
  if said is None:
    official.fetch_file(server.address + PATH, path, INFO)
  else:
    with pytest.raises(UserError, match=said) as error:
      official.fetch_file(server.address + PATH, path, INFO)
    assert "\n" not in str(error.value)
  return {p.name: p.read_bytes() for p in tmp_path.iterdir()}


@pytest.mark.parametrize(
  ("faults", "ranges"),
  [
    ((), [0]),
    # More drops than tries: each brings something.
    ([-20_000] * 7, [20_000 * i for i in range(8)]),
    ([-70_000, "whole"], [0, 70_000]),
    ([503, 429, 500], [0] * 4),
    ([-70_000, 416], [0, 70_000, 0]),
  ],
)
def test_it_comes_whole_after_faults(server, tmp_path, faults, ranges):
  server.faults[PATH] = list(faults)
  assert _fetch(server, tmp_path) == {"file.bin": CONTENT}
  asked = [f"bytes={start}-" if start else None for start in ranges]
  assert [r for _, r in server.ranges] == asked


def test_tries_are_bounded_and_shown(server, tmp_path, capsys):
  server.faults[PATH] = [503] * 20
  assert not _fetch(
    server, tmp_path, r"fails \(503 .*\): what was received is kept"
  )
  assert len(server.ranges) == official._TRIES
  server.faults[PATH] = [0] * 20  # Every connection is cut at once.
  _fetch(server, tmp_path, f"{server.address}{PATH} fails .IncompleteRead")
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2 * (official._TRIES - 1)
  assert "try 5 of 5 in" in lines[-1]
  with official_server.serve() as gone:
    pass
  _fetch(gone, tmp_path, r"fails \(\[Errno 111\] Connection refused\): ")


def test_a_later_run_resumes(server, tmp_path):
  server.faults[PATH] = [-70_000, 404]
  assert _fetch(server, tmp_path, "answers 404") == {
    "file.bin.part": CONTENT[:70_000]
  }
  server.faults[PATH] = ["html"]
  there = _fetch(server, tmp_path, "or a web page instead")
  assert there == {"file.bin.part": CONTENT[:70_000]}
  assert _fetch(server, tmp_path) == {"file.bin": CONTENT}
  assert server.ranges[-1] == (PATH, "bytes=70000-")


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", CONTENT[1:9]])
def test_an_old_part(server, tmp_path, part):
  (tmp_path / "file.bin.part").write_bytes(part)
  assert _fetch(server, tmp_path) == {"file.bin": CONTENT}
  assert bool(server.ranges) == (part != CONTENT)


def test_wrong_bytes(server, tmp_path):
  server.files[PATH] = CONTENT[:-1] + b"?"
  assert not _fetch(server, tmp_path, "sent other bytes .*" + INFO.checksum)
  server.files[PATH] = CONTENT + b"?"
  assert not _fetch(server, tmp_path, "has 200,001 bytes, expected 200,000")


@pytest.fixture(scope="module")
def contents(downloads):
  """What the made-up downloads are as official files."""
  return official_server.make_archives(downloads)


def _download(server, contents, folder, *tasks):
  configs = official.find_configs(tasks or None)
  infos = official_server.infos(contents)
  return official.download_files(configs, str(folder), server.address, infos)


def test_every_task_has_its_official_address():
  """With a size and a hash of TFDS's."""
  infos, urls = {}, {}
  for builder in local_files.BUILDERS.values():
    infos |= builder.url_infos
  for name in local_files.OFFICIAL_ROWS:
    urls |= official.official_files(*name.split("/"))
  assert len(urls) == 9 + 3 + 9 + 1
  for url in urls:
    assert infos[url].size > 5000 and len(infos[url].checksum) == 64
    at = official._ON_HOST.get(url, url)
    assert at.startswith("https://dl.fbaipublicfiles.com/")


def test_all_tasks_of_both_benchmarks(contents, downloads, tmp_path):
  """Interrupted and started again, they are what was served."""
  with official_server.serve(contents) as server:
    for path in list(server.files)[::3]:
      server.faults[path] = [-100]
    roots = _download(server, contents, tmp_path)
    for benchmark in local_files.BUILDERS:
      ours = local_files.find_datasets(benchmark, roots[benchmark])
      theirs = local_files.find_datasets(benchmark, str(downloads / benchmark))
      assert not ours.notes
      for a, b in zip(ours.datasets, theirs.datasets, strict=True):
        assert a.name == b.name and list(a.splits) == list(b.splits)
        for split in a.splits:
          with open(a.file(split), "rb") as f, open(b.file(split), "rb") as g:
            assert f.read() == g.read()
    names = [p.name for p in tmp_path.rglob("*")]
    assert not [n for n in names if n in ("raw.txt", "__MACOSX", "original")]
    assert not [n for n in names if ".part" in n or ".unzip" in n]
    asked = len(server.ranges)
    _download(server, contents, tmp_path)
    assert len(server.ranges) == asked


def test_a_corrupted_file_is_fetched_again(contents, tmp_path):
  with official_server.serve(contents) as server:
    cola = server.files[_COLA]
    server.files[_COLA] = cola[:50] + b"?" + cola[51:]
    with pytest.raises(UserError, match=r"CoLA\.zip sent other bytes"):
      _download(server, contents, tmp_path, "glue/wnli", "cola", "cb")
    server.files[_COLA] = cola
    _download(server, contents, tmp_path, "glue/wnli")
    archive = tmp_path / "glue" / "WNLI.zip"
    archive.write_bytes(archive.read_bytes()[:-1])
    asked = len(server.ranges)
    _download(server, contents, tmp_path, "glue/wnli", "cola")
    assert len(server.ranges) == asked + 2
  assert (tmp_path / "glue" / "CoLA" / "train.tsv").is_file()


def test_a_disk_that_is_full(contents, tmp_path):
  """The kernel refuses to write more than 1,000 bytes of a file."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  (url,) = official.official_files("glue", "cola")
  changed = contents | {url: CONTENT}
  with official_server.serve(changed) as server:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
      with pytest.raises(
        UserError, match=r"written to \(File too large\): free"
      ):
        _download(server, changed, tmp_path, "cola")
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_user_errors(tmp_path):
  with pytest.raises(UserError, match="has 'glue/cb', which is not a task"):
    official.find_configs(["sst2", "glue/cb"])
  assert official.find_configs(["rte", "super_glue/cb"]) == {
    "glue": ["rte"],
    "super_glue": ["cb", "rte"],
  }
  a_file = tmp_path / "file"
  a_file.write_text("")
  with pytest.raises(UserError, match="--download_dir=.* cannot be written"):
    official.download_files(official.find_configs(None), str(a_file))
