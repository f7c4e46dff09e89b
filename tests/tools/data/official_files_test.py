"""The official downloads of both benchmarks, from a local server."""

import io
import os
import zipfile

import pytest

from hypergrid_mtf.errors import UserError
from tests.tools.data import file_server, official_server
from tools.data import local_files, official_files, transfer

RETRIES = transfer.RETRIES.new(backoff_factor=0)
_COLA = "/glue/data/CoLA.zip"


@pytest.fixture(scope="module")
def contents(downloads):
  """What the made-up downloads are as official files."""
  return official_server.archives(downloads)


@pytest.fixture
def server(contents):
  with file_server.serve() as server:
    server.files = official_server.paths(contents)
    yield server


def _download(server, contents, folder, *tasks):
  return official_files.download(
    official_files.chosen(tasks or None),
    str(folder),
    server.address,
    official_server.infos(contents),
    RETRIES,
  )


def _kept(folder):
  return sorted(
    str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()
  )


def test_every_task_has_its_official_address():
  """As TFDS names it, with a size and a hash."""
  files = official_files.official_files()
  infos = official_files.url_infos()
  assert len(files) == len({f.path for f in files}) == 9 + 3 + 9 + 1
  for file in files:
    assert infos[file.url].size > 5000 and len(infos[file.url].checksum) == 64
    assert file.urls(None)[0] == file.url
    (at,) = file.urls("http://here/base/")
    assert at.startswith(
      ("http://here/base/glue/", "http://here/base/senteval/")
    )
  configs = {f"{f.benchmark}/{c}" for f in files for c in f.configs}
  assert configs == set(local_files.OFFICIAL_ROWS)
  mnli = [f for f in files if "mnli_matched" in f.configs]
  assert [f.name for f in mnli] == ["MNLI.zip"]
  qnli = next(f for f in files if f.configs == ("qnli",))
  assert (qnli.folder, qnli.name) == ("QNLI", "QNLIv2.zip")


def test_all_tasks_of_both_benchmarks(server, contents, downloads, tmp_path):
  """Interrupted and started again, they are what was served."""
  for path in list(server.files)[::3]:
    server.faults[path] = [-100]
  roots = _download(server, contents, tmp_path)
  for benchmark in local_files.BENCHMARKS:
    ours = local_files.find(benchmark, roots[benchmark])
    theirs = local_files.find(benchmark, str(downloads / benchmark))
    assert not ours.notes
    assert [d.name for d in ours.datasets] == [d.name for d in theirs.datasets]
    for a, b in zip(ours.datasets, theirs.datasets, strict=True):
      assert a.splits == b.splits and a.splits
      for split in a.splits:
        with open(a.files[split], "rb") as f, open(b.files[split], "rb") as g:
          assert f.read() == g.read()
  assert not [p for p in _kept(tmp_path) if "raw.txt" in p or ".part" in p]
  asked = len(server.ranges)
  _download(server, contents, tmp_path)
  assert len(server.ranges) == asked


def test_a_corrupted_file_is_fetched_again(server, contents, tmp_path, capsys):
  cola = server.files[_COLA]
  server.files[_COLA] = cola[:50] + b"?" + cola[51:]
  with pytest.raises(UserError, match=r"CoLA\.zip gives other bytes"):
    _download(server, contents, tmp_path, "glue/wnli", "cola", "cb")
  assert _kept(tmp_path) == ["in_use.lock"]
  server.files[_COLA] = cola
  _download(server, contents, tmp_path, "glue/wnli")
  archive = tmp_path / "glue" / "WNLI.zip"
  archive.write_bytes(archive.read_bytes()[:-1])
  _download(server, contents, tmp_path, "glue/wnli", "cola")
  assert "downloading 2 files" in capsys.readouterr().out
  assert (tmp_path / "glue" / "CoLA" / "train.tsv").is_file()


def test_a_half_unzipped_folder_is_done_again(server, contents, tmp_path):
  _download(server, contents, tmp_path, "cola")
  folder = tmp_path / "glue" / "CoLA"
  whole = {p.name: p.read_bytes() for p in folder.iterdir()}
  (folder / "dev.tsv").unlink()
  (folder / "train.tsv").write_bytes(whole["train.tsv"][:10])
  killed = tmp_path / "glue" / ".unzip-killed" / "CoLA"
  killed.mkdir(parents=True)
  _download(server, contents, tmp_path, "cola")
  assert {p.name: p.read_bytes() for p in folder.iterdir()} == whole
  assert sorted(os.listdir(tmp_path / "glue")) == ["CoLA", "CoLA.zip"]


def _zip(*names):
  content = io.BytesIO()
  with zipfile.ZipFile(content, "w") as archive:
    for name in names:
      archive.writestr(name, b"x")
  return content.getvalue()


def test_archives_that_are_not_right(server, contents, tmp_path):
  url = next(
    f.url for f in official_files.official_files() if f.configs == ("cola",)
  )
  for name, content, message in (
    ("none", _zip("train.tsv", "other/CoLA/train.tsv"), "no files in a folder"),
    ("no_zip", b"x" * 1000, "cannot be unzipped"),
    ("out", _zip("../CoLA/a", "/CoLA/b", "CoLA/../c", "CoLA/.."), "no files"),
  ):
    changed = contents | {url: content}
    server.files[_COLA] = content
    with pytest.raises(UserError, match=message) as error:
      _download(server, changed, tmp_path / name, "cola")
    assert "\n" not in str(error.value)
    assert _kept(tmp_path / name) == ["glue/CoLA.zip", "in_use.lock"]
  assert sorted(os.listdir(tmp_path)) == ["no_zip", "none", "out"]


def test_user_errors(tmp_path):
  with pytest.raises(UserError, match="names 'glue/cb', which is not a task"):
    official_files.chosen(["sst2", "glue/cb"])
  assert official_files.chosen(["rte", "super_glue/cb"]) == {
    "glue": {"rte"},
    "super_glue": {"cb", "rte"},
  }
  a_file = tmp_path / "file"
  a_file.write_text("no list of checksums")
  with pytest.raises(UserError, match="is not a list of checksums"):
    official_files.url_infos(str(a_file))
  with pytest.raises(UserError, match="No such file"):
    official_files.url_infos(str(tmp_path / "none"))
  with pytest.raises(UserError, match="--download_dir=.* cannot be written"):
    official_files.download(official_files.chosen(None), str(a_file))
