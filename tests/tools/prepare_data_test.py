"""tools.prepare_data: what it writes is what TFDS, SeqIO and t5 read."""

import os
import pathlib
import shutil

import gin
import pytest
import seqio
from absl import flags
from absl.testing import flagsaver

import t5_tasks  # noqa: F401  (patches the stack, registers the tasks)
from hypergrid_mtf import tfds_data
from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures
from tests import command
from tests.tools.data import benchmark_files as files
from tests.tools.data import file_server, official_server
from tools import prepare_data
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


@pytest.mark.parametrize("name", local_files.OFFICIAL_ROWS)
def test_tfds_reads_what_was_written(name, downloads, tfds_dir):
  benchmark, config = name.split("/")
  version = local_files.VERSIONS[benchmark]
  with tfds_data.without_cloud_bucket():
    builder = tfds.builder(f"{name}:{version}", data_dir=str(tfds_dir))
    official = {
      "glue": tfds.text.glue.Glue,
      "super_glue": tfds.text.super_glue.SuperGlue,
    }[benchmark](config=config, version=version, data_dir="/nonexistent")
  assert builder.info.full_name == official.info.full_name
  assert repr(builder.info.features) == repr(official.info.features)
  if "label" in official.info.features and config != "stsb":
    assert (
      builder.info.features["label"].names
      == official.info.features["label"].names
    )
  (dataset,) = (
    d
    for d in local_files.find(benchmark, str(downloads / benchmark)).datasets
    if d.name == name
  )
  assert set(builder.info.splits) == set(dataset.splits)
  for split in dataset.splits:
    read = tfds.as_numpy(builder.as_dataset(split=split))
    read = sorted(map(_plain, read), key=_place)
    written = [example for _, example in dataset.examples(split)]
    assert read == sorted(written, key=_place)


def test_nothing_else_is_left(tfds_dir):
  assert sorted(p.name for p in tfds_dir.iterdir()) == [
    "glue",
    local_mixture.FILE_NAME,
    "super_glue",
  ]
  assert not [p for p in tfds_dir.rglob("*") if "incomplete" in p.name]


def test_t5_task_end_to_end(t5_reads):
  cola = seqio.get_mixture_or_task("glue_cola_v002")
  features = {
    k: seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
    for k in ("inputs", "targets")
  }
  task = seqio.Task(
    "cola_bytes",
    source=cola.source,
    preprocessors=cola.preprocessors,
    output_features=features,
  )
  dataset = task.get_dataset(
    {"inputs": 64, "targets": 16}, split="train", shuffle=False
  )
  keys = ("inputs_pretokenized", "targets_pretokenized")
  texts = [
    tuple(x[key].decode() for key in keys) for x in dataset.as_numpy_iterator()
  ]
  labels = ("unacceptable", "acceptable")
  assert sorted(texts) == sorted(
    (f"cola sentence: {files.text(i)}", labels[i % 2]) for i in range(5)
  )


def test_every_task_of_the_gin_file_reads(t5_reads, tfds_dir):
  entries, _ = local_mixture.task_rates(local_mixture.present(str(tfds_dir)))
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


def test_gin_file_defines_a_mixture(t5_reads, tfds_dir):
  path = tfds_dir / local_mixture.FILE_NAME
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


def _copy(source, target, *names):
  for name in names:
    shutil.copytree(source / name, target / name)
  return target


def _files(folder):
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in sorted(folder.rglob("*"))
    if p.is_file()
  }


def test_bad_row_changes_nothing(downloads, tmp_path):
  glue = _copy(downloads / "glue", tmp_path / "glue", "CoLA", "WNLI")
  out = tmp_path / "tfds"
  prepare_data.prepare(str(glue), None, str(out))
  before = _files(out)
  with open(glue / "WNLI" / "test.tsv", "a") as f:
    f.write("4\tone column too few\n")
  with open(glue / "CoLA" / "train.tsv", "a") as f:
    f.write("\ngj04\t1\t\tAnother.\n")
  with pytest.raises(UserError, match=r"WNLI/test\.tsv, line 6: 2 tab-sep"):
    prepare_data.prepare(str(glue), None, str(out))
  assert _files(out) == before


def test_failed_write_keeps_the_earlier_one(downloads, tmp_path, monkeypatch):
  glue = _copy(downloads / "glue", tmp_path / "glue", "WNLI")
  out = tmp_path / "tfds"
  prepare_data.prepare(str(glue), None, str(out))
  before = _files(out)
  rename = os.rename

  def full_disk(source, target):
    if (
      target == str(out / "glue" / "wnli" / "1.0.0") and "before" not in source
    ):
      raise OSError(28, "No space left on device")
    rename(source, target)

  monkeypatch.setattr(os, "rename", full_disk)
  with pytest.raises(UserError, match="No space left on device"):
    prepare_data.prepare(str(glue), None, str(out))
  assert _files(out) == before


def test_second_run_replaces(downloads, tmp_path, capsys):
  glue = _copy(downloads / "glue", tmp_path / "glue", "CoLA")
  out = tmp_path / "tfds"
  prepare_data.prepare(str(glue), None, str(out))
  assert "glue/cola train: 5 rows, the official file has 8,551" in (
    capsys.readouterr().out
  )
  (glue / "CoLA" / "test.tsv").unlink()
  with open(glue / "CoLA" / "train.tsv", "a") as f:
    f.write("\ngj04\t1\t\tAnother.\n")
  prepare_data.prepare(str(glue), None, str(out))
  printed = capsys.readouterr().out
  assert "glue/cola: no file for test" in printed
  assert f"--gin_file={out}/local_mixture.gin" in printed
  assert local_mixture.present(str(out)) == {
    "glue/cola": {"train": 6, "validation": 3}
  }


def test_nothing_to_train_on(downloads, tmp_path, capsys):
  glue = _copy(downloads / "glue", tmp_path / "glue", "diagnostic")
  out = tmp_path / "tfds"
  prepare_data.prepare(str(glue), None, str(out))
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


def test_real_files(shared_data, tmp_path, capsys):
  (tmp_path / "glue").mkdir()
  (tmp_path / "glue" / "MRPC").symlink_to(shared_data / "glue" / "MRPC")
  (tmp_path / "s").mkdir()
  (tmp_path / "s" / "CB").symlink_to(shared_data / "super_glue" / "CB")
  out = str(tmp_path / "tfds")
  prepare_data.prepare(str(tmp_path / "glue"), str(tmp_path / "s"), out)
  printed = capsys.readouterr().out
  assert "glue/mrpc train: 3,667 rows, the official file has 3,668\n" in printed
  assert "glue/mrpc validation" not in printed
  assert local_mixture.present(out) == {
    "glue/mrpc": {"train": 3667, "validation": 408, "test": 1725},
    "super_glue/cb": {"train": 32, "validation": 56},
  }


def test_download_and_prepare(downloads, tmp_path, capsys):
  contents = official_server.archives(downloads)
  checksums = tmp_path / "checksums.txt"
  checksums.write_text(official_server.list_of_checksums(contents))
  out = tmp_path / "tfds"
  with file_server.serve() as server:
    server.files = official_server.paths(contents)
    server.faults["/glue/data/WNLI.zip"] = [-200]
    arguments = dict(
      tasks=["mrpc", "glue/wnli", "super_glue/axb"],
      mirror=server.address,
      checksums=str(checksums),
    )
    prepare_data.download_and_prepare(str(out), **arguments)
    assert "downloading 5 files" in capsys.readouterr().out
    prepare_data.download_and_prepare(str(out), **arguments)
  assert "all 5 files are in" in capsys.readouterr().out
  assert local_mixture.present(str(out)) == {
    "glue/mrpc": {"train": 4, "validation": 2, "test": 4},
    "glue/wnli": {"train": 4, "validation": 4, "test": 4},
    "super_glue/axb": {"test": 3},
  }
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    "checksums.txt",
    "tfds",
    "tfds_download",
  ]
  with pytest.raises(UserError, match="--mirror=ftp://x is not an address"):
    prepare_data.download_and_prepare(str(out), mirror="ftp://x")


def test_command_line(tmp_path):
  bad = tmp_path / "glue" / "CoLA" / "train.tsv"
  files.write_table(bad, [("gj04", 1, "", "A b."), ("gj04", 7, "", "C d.")])
  result = command.tool(
    "prepare_data",
    f"--glue_dir={tmp_path / 'glue'}",
    f"--tfds_dir={tmp_path / 'tfds'}",
  )
  assert result.returncode == 2
  assert result.stderr == (
    f"error: {bad}, line 2: the label is '7', expected one of unacceptable, "
    "acceptable, 0, 1.\n"
  )
  assert not (tmp_path / "tfds").exists()


def test_flags_of_a_download(downloads, tmp_path, capsys):
  contents = official_server.archives(downloads)
  checksums = tmp_path / "checksums.txt"
  checksums.write_text(official_server.list_of_checksums(contents))
  folder = tmp_path / "tfds_download"
  flags.FLAGS.mark_as_parsed()
  with file_server.serve() as server:
    server.files = official_server.paths(contents)
    del server.files["/glue/superglue/data/v2/CB.zip"]
    given = dict(
      tasks="wnli,cb",
      tfds_dir=str(tmp_path / "tfds"),
      mirror=f"{server.address}/",
      checksums=str(checksums),
    )
    with (
      flagsaver.as_parsed(download="true", **given),
      pytest.raises(UserError) as error,
    ):
      prepare_data.main([])
    assert str(error.value) == (
      f"{server.address}/glue/superglue/data/v2/CB.zip answers 404 Not Found: "
      "what was fetched stays, and the same command goes on from there; "
      "--mirror=URL takes the files from another place."
    )
  assert capsys.readouterr().out.startswith("downloading 2 files, 0.0 MB, to ")
  assert (folder / "glue" / "WNLI.zip").is_file()
  assert not (tmp_path / "tfds").exists()
  for wrong, message in (
    (given, "--tasks goes with --download"),
    ({"download": "true", "glue_dir": "x"}, "give it, or them"),
  ):
    with (
      flagsaver.as_parsed(**wrong),
      pytest.raises(UserError, match=message),
    ):
      prepare_data.main([])
