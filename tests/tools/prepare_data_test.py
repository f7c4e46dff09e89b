"""tools.prepare_data: what it writes is what TFDS, SeqIO and t5 read."""

import os
import pathlib
import re
import shutil

import gin
import pytest
import seqio

import t5_tasks  # noqa: F401  (patches the stack, registers the tasks)
from hypergrid_mtf import tfds_data
from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures
from tests import command, program
from tests.tools.data import benchmark_files as files
from tests.tools.data import official_server
from tools import prepare_data
from tools.data import downloads as official
from tools.data import local_files, local_mixture

# isort: split
import tensorflow_datasets as tfds


@pytest.fixture
def t5_reads(tfds_dir):
  """Lets SeqIO look into tfds_dir."""
  seqio.set_tfds_data_dir_override(str(tfds_dir))
  yield
  seqio.set_tfds_data_dir_override(None)


def _plain(value):
  """An example as read from TFDS in the form of the readers."""
  if isinstance(value, dict):
    return {k: _plain(v) for k, v in value.items()}
  if getattr(value, "ndim", 0):
    return [_plain(v) for v in value]
  return value.decode() if isinstance(value, bytes) else value.item()


def _place(example):
  idx = example["idx"]
  return sorted(idx.items()) if isinstance(idx, dict) else idx


def _named(example, features):
  """An example of the readers with the number of its label."""
  if isinstance(example.get("label"), str):
    return example | {"label": features["label"].str2int(example["label"])}
  return example


def test_tfds_reads_what_was_written(downloads, tfds_dir):
  for name in local_files.OFFICIAL_ROWS:
    benchmark, config = name.split("/")
    (dataset,) = local_files.find_datasets(
      benchmark, str(downloads / benchmark), [config]
    ).datasets
    version = local_files.VERSIONS[benchmark]
    with tfds_data.without_cloud_bucket():
      builder = tfds.builder(f"{name}:{version}", data_dir=str(tfds_dir))
    official = dataset.builder.info
    assert builder.info.full_name == official.full_name
    assert repr(builder.info.features) == repr(official.features)
    if "label" in official.features and config != "stsb":
      assert (
        builder.info.features["label"].names == official.features["label"].names
      )
    assert set(builder.info.splits) == set(dataset.splits)
    for split in dataset.splits:
      read = tfds.as_numpy(builder.as_dataset(split=split))
      read = sorted(map(_plain, read), key=_place)
      written = [
        _named(example, official.features)
        for _, example in dataset.examples(split)
      ]
      assert read == sorted(written, key=_place), (name, split)


def test_every_task_of_the_gin_file_reads(t5_reads, tfds_dir):
  entries, _ = local_mixture.task_rates(
    local_mixture.find_prepared(str(tfds_dir))
  )
  names = [e if isinstance(e, str) else e[0] for e in entries]
  assert len(names) == len(set(names)) == 12 + 1 + 10
  for name in names:
    task = seqio.get_mixture_or_task(name)
    split = "train" if "train" in task.splits else list(task.splits)[0]
    examples = task.source.get_dataset(split=split, shuffle=False)
    for preprocess in task.preprocessors[:2]:
      # The diagnostics are rekeyed first; the others end before the tokens.
      if preprocess is not seqio.preprocessors.tokenize:
        examples = preprocess(examples)
    (first,) = examples.take(1).as_numpy_iterator()
    assert first["inputs"] and first["targets"], name
    if name == "glue_cola_v002":
      assert first["inputs"].startswith(b"cola sentence: ")
      assert first["targets"] in (b"unacceptable", b"acceptable")


def test_gin_file_defines_a_mixture(t5_reads, tfds_dir):
  path = tfds_dir / local_mixture.FILE_NAME
  left = sorted(p.name for p in tfds_dir.iterdir())
  assert left == ["glue", path.name, "super_glue"]
  text = path.read_text()
  assert text.startswith("# written by tools.prepare_data: ")
  assert "super_glue/rte shares RTE's rate" in text
  with gin.unlock_config():
    gin.parse_config_file(str(path))
  try:
    assert mixtures.define_mixture() == local_mixture.MIXTURE
    mixture = seqio.get_mixture_or_task(local_mixture.MIXTURE)
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  finally:
    gin.clear_config()
    seqio.MixtureRegistry.remove(local_mixture.MIXTURE)
  assert rates["glue_cola_v002"] == 5
  assert rates["glue_wnli_v002"] == 0  # as in T5's own mixture
  assert rates["glue_mnli_matched_v002"] == rates["glue_ax_v002"] == 0
  # As many of T5's 259 as there are of the 554 rows.
  assert rates["super_glue_wsc_v102_simple_train"] == 2
  assert rates["super_glue_wsc_v102_simple_eval"] == 0
  # RTE counts once in all.
  assert rates["super_glue_rte_v102"] == rates["glue_rte_v002"] == 2


def test_rates_of_whole_and_absent_training_rows():
  whole = local_files.OFFICIAL_ROWS
  entries, remarks = local_mixture.task_rates(
    {
      "glue/mrpc": whole["glue/mrpc"] | {"train": 3667},
      "glue/mnli": {"validation_matched": 9815},
      "glue/rte": {"validation": 277},
      "glue/qqp": whole["glue/qqp"] | {"train": 363846},
      "super_glue/record": whole["super_glue/record"],
      "super_glue/rte": whole["super_glue/rte"],
      "super_glue/boolq": {"validation": 3270},
      "super_glue/wsc": whole["super_glue/wsc"],
      "super_glue/wsc.fixed": {"validation": 104},
    }
  )
  assert entries == [
    "glue_mrpc_v002",
    ("glue_rte_v002", 0),
    "glue_qqp_v002",
    "super_glue_record_v102",
    "super_glue_rte_v102",
    ("super_glue_boolq_v102", 0),
    "super_glue_wsc_v102_simple_eval",
  ]
  assert not remarks
  few = {"glue/rte": {"train": 2490}, "super_glue/rte": {"train": 32}}
  for rte, rates in ((few, (2458, 32)), (whole, (1245, 1245))):
    entries, remarks = local_mixture.task_rates(
      {name: rte[name] for name in few}
    )
    assert dict(entries) == dict(
      zip(("glue_rte_v002", "super_glue_rte_v102"), rates, strict=True)
    )
    assert len(remarks) == 2


def _files(folder):
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in sorted(folder.rglob("*"))
    if p.is_file()
  }


def test_a_later_run_replaces_or_changes_nothing(
  downloads, tmp_path, monkeypatch, capsys
):
  glue, out = tmp_path / "glue", tmp_path / "tfds"
  for name in ("CoLA", "WNLI", "diagnostic"):
    shutil.copytree(downloads / "glue" / name, glue / name)
  arguments = (str(glue), None, str(out))
  prepare_data.prepare(*arguments)
  printed = capsys.readouterr().out
  assert f"{glue}: no files of sst2, mrpc, qqp, stsb, mnli, " in printed
  assert re.search("\nglue/cola +train +5 +8,551\n", printed)
  before = _files(out)

  # A wrong row.
  wnli = (glue / "WNLI" / "test.tsv").read_text()
  (glue / "WNLI" / "test.tsv").write_text(wnli + "4\tone column too few\n")
  with open(glue / "CoLA" / "train.tsv", "a") as f:
    f.write("\ngj04\t1\t\tAnother.\n")
  with pytest.raises(UserError, match=r"WNLI/test\.tsv, line 6: 2 tab-sep"):
    prepare_data.prepare(*arguments)
  assert _files(out) == before
  (glue / "WNLI" / "test.tsv").write_text(wnli)

  # A full disk.
  rename = os.rename

  def full_disk(source, target):
    if target == str(out / "glue/cola/1.0.0") and "before" not in source:
      raise OSError(28, "No space left on device")
    rename(source, target)

  with monkeypatch.context() as patch:
    patch.setattr(os, "rename", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
      prepare_data.prepare(*arguments)
  assert _files(out) == before

  # Other files.
  (glue / "CoLA" / "test.tsv").unlink()
  capsys.readouterr()
  prepare_data.prepare(*arguments)
  printed = capsys.readouterr().out
  assert "glue/cola: no test, because " in printed
  assert f"--gin_file={out}/local_mixture.gin" in printed
  wnli = {"train": 4, "validation": 4, "test": 4}
  assert local_mixture.find_prepared(str(out)) == {
    "glue/cola": {"train": 6, "validation": 3},
    "glue/wnli": wnli,
    "glue/ax": {"test": 3},
  }
  for name in ("cola", "wnli"):
    shutil.rmtree(out / "glue" / name)
    shutil.rmtree(glue / {"cola": "CoLA", "wnli": "WNLI"}[name])
  prepare_data.prepare(*arguments)
  assert "nothing to train on" in capsys.readouterr().out
  assert not (out / local_mixture.FILE_NAME).exists()


def test_user_errors(downloads, tmp_path):
  glue, out = str(downloads / "glue"), str(tmp_path / "tfds")
  empty = tmp_path / "empty"
  empty.mkdir()
  a_file = tmp_path / "file"
  a_file.write_text("")
  for arguments, message in (
    ((None, None, out), "Neither --glue_dir nor --super_glue_dir"),
    ((glue, None, None), "--tfds_dir is None"),
    ((glue, None, "gs://bucket/x"), "a local folder"),
    ((str(tmp_path / "no"), None, out), "--glue_dir is .* no such folder"),
    ((None, str(empty), out), "no task of super_glue is in it"),
    ((glue, None, str(a_file)), "--tfds_dir is .*cannot be written"),
  ):
    with pytest.raises(UserError, match=message) as error:
      prepare_data.prepare(*arguments)
    assert "\n" not in str(error.value)
  assert not pathlib.Path(out).exists()


@pytest.fixture
def mirror(downloads, tmp_path, monkeypatch):
  """A server of official files, and the flags that take them from it."""
  monkeypatch.setattr(official, "_WAIT", 0)
  contents = official_server.make_archives(downloads)
  infos = official_server.infos(contents)
  for builder in local_files.BUILDERS.values():
    monkeypatch.setattr(builder, "url_infos", infos)
  with official_server.serve(contents) as server:
    tfds_dir, mirror = tmp_path / "tfds", f"{server.address}/"
    given = "--download", f"--tfds_dir={tfds_dir}", f"--mirror={mirror}"
    yield server, given


def test_download_and_prepare(mirror, tmp_path, capsys, monkeypatch):
  server, given = mirror
  given = [*given, "--tasks=mrpc,glue/wnli,super_glue/axb"]
  server.faults["/glue/data/WNLI.zip"] = [-200]
  program.run("tools.prepare_data", given, monkeypatch)
  assert "WNLI.zip" in capsys.readouterr().out
  asked = len(server.ranges)
  program.run("tools.prepare_data", given, monkeypatch)
  assert len(server.ranges) == asked == 6
  assert "all 5 files are in" in capsys.readouterr().out
  assert local_mixture.find_prepared(str(tmp_path / "tfds")) == {
    "glue/mrpc": {"train": 4, "validation": 2, "test": 4},
    "glue/wnli": {"train": 4, "validation": 4, "test": 4},
    "super_glue/axb": {"test": 3},
  }
  names = sorted(p.name for p in tmp_path.iterdir())
  assert names == ["tfds", "tfds_download"]


def test_a_download_that_is_refused(mirror, tmp_path, monkeypatch):
  server, given = mirror
  del server.files["/glue/superglue/data/v2/CB.zip"]
  with pytest.raises(UserError) as error:
    program.run("tools.prepare_data", [*given, "--tasks=wnli,cb"], monkeypatch)
  assert str(error.value) == (
    f"{server.address}/glue/superglue/data/v2/CB.zip answers 404 Not Found: "
    "what was received is kept, and the same command resumes there; "
    "--mirror=URL uses another server."
  )
  assert (tmp_path / "tfds_download" / "glue" / "WNLI.zip").is_file()
  assert not (tmp_path / "tfds").exists()
  for wrong, message in (
    (["--tasks=cb"], "--tasks needs --download"),
    (["--download", "--glue_dir=x"], "one or the other"),
    ([*given, "--mirror=ftp://x"], "--mirror=ftp://x is not an address"),
  ):
    with pytest.raises(UserError, match=message):
      program.run("tools.prepare_data", wrong, monkeypatch)


def test_the_command(shared_data, tmp_path):
  glue, out = tmp_path / "glue", tmp_path / "tfds"
  glue.mkdir()
  (glue / "MRPC").symlink_to(shared_data / "glue" / "MRPC")
  (tmp_path / "s").mkdir()
  (tmp_path / "s" / "CB").symlink_to(shared_data / "super_glue" / "CB")
  arguments = (f"--glue_dir={glue}", f"--super_glue_dir={tmp_path / 's'}")
  result = command.tool("prepare_data", *arguments, f"--tfds_dir={out}")
  assert result.returncode == 0 and not result.stderr
  assert re.search("\nglue/mrpc +train +3,667 +3,668\n", result.stdout)
  assert local_mixture.find_prepared(str(out)) == {
    "glue/mrpc": {"train": 3667, "validation": 408, "test": 1725},
    "super_glue/cb": {"train": 32, "validation": 56},
  }


def test_the_command_refuses(tmp_path):
  bad = tmp_path / "glue" / "CoLA" / "train.tsv"
  files.write_table(bad, [("gj04", 1, "", "A b."), ("gj04", 7, "", "C d.")])
  result = command.tool(
    "prepare_data",
    f"--glue_dir={tmp_path / 'glue'}",
    f"--tfds_dir={tmp_path / 'tfds'}",
  )
  assert result.returncode == 2
  assert result.stderr == (
    f"error: {bad}, line 2: the label is 7, expected one of unacceptable, "
    "acceptable.\n"
  )
  assert not (tmp_path / "tfds").exists()
