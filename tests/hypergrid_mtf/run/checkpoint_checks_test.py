"""Which checkpoint a run reads, and whether it is what the run takes it for."""

import dataclasses
import json
import shutil

import gin
import pytest

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import checkpoint_checks, request, vocabulary_file
from tests import testing
from tests.hypergrid_mtf import mtf_testing

BYTES = {
  "targets": {
    "kind": "ByteVocabulary",
    "ids": 359,
    "described": "bytes with 100 extra ids",
    "given_by": "--vocabulary=bytes",
  }
}
PIECES = {
  "targets": {
    "kind": "SentencePieceVocabulary",
    "ids": 359,
    "sha256": "abc",
    "described": "/a/sp.model with 0 extra ids",
    "given_by": "--vocabulary=/a/sp.model, or a copy of that file",
  }
}


@pytest.fixture(scope="module")
def shapes():
  return checkpoints.variable_shapes(mtf_testing.small_model("L2"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shapes):
  """A model_dir of the small L2 model with steps 2 and 4."""
  folder = tmp_path_factory.mktemp("trained")
  gin.clear_config()
  mtf_testing.small_model("L2")
  (folder / "operative_config.gin").write_text(gin.operative_config_str())
  vocabulary_file.write(str(folder), PIECES)
  testing.write_checkpoint(folder, shapes, steps=(2, 4))
  return folder


@pytest.fixture
def folder(trained, tmp_path):
  shutil.copytree(trained, tmp_path / "run")
  return tmp_path / "run"


@pytest.fixture(autouse=True)
def one_configuration(monkeypatch, shapes):
  """All models here have the same shapes: a graph for each would be slow."""
  monkeypatch.setattr(checkpoints, "variable_shapes", lambda model: shapes)
  yield
  with gin.unlock_config():
    gin.clear_config()


def _asked(mode="train", step=None, start=None):
  return request.Request(
    mode=mode,
    mixture="m",
    trains=mode == "train",
    waits=mode == "eval" and step is None,
    split=None,
    input_files=(),
    results="",
    train_steps=9,
    checkpoint_step=step,
    warm_from=("run.init_checkpoint", str(start)) if start else None,
  )


def _check(model_dir, asked, bindings="", **kwargs):
  return checkpoint_checks.check_checkpoints(
    mtf_testing.small_model("L2", bindings), str(model_dir), asked, **kwargs
  )


def _empty(folder, step, number=0):
  (folder / f"model.ckpt-{step}.data-00000-of-00001").write_bytes(b"")


def test_what_is_whole_and_the_same_passes(folder):
  for asked in (
    _asked(),
    _asked("eval"),
    _asked("eval", "all"),
    _asked("infer", [2, -1]),
    _asked("export_infer", 2),
  ):
    assert _check(folder, asked, vocabulary=PIECES) is None


@pytest.mark.parametrize(
  ("asked", "step"),
  [
    (_asked(), 4),
    (_asked("eval"), 4),
    (_asked("infer", -1), 4),
    (_asked("eval", 2), 2),
    (_asked("eval", [4, 2]), 2),
    (_asked("eval", "all"), 2),
    (_asked("export_infer", 2), 2),
  ],
)
def test_the_checkpoint_that_is_read_is_checked(folder, asked, step):
  _empty(folder, step)
  with pytest.raises(errors.UserError) as e:
    _check(folder, asked)
  path = f"{folder}/model.ckpt-{step}"
  assert f"{path} (in --model_dir={folder}) is damaged" in str(e.value)
  assert f"model.ckpt-{step}.data-00000-of-00001 is empty" in str(e.value)
  assert f"model.ckpt-{6 - step}" in str(e.value)


def test_a_damaged_one_that_is_not_read_is_none_of_its_business(folder):
  _empty(folder, 2)
  assert _check(folder, _asked()) is None
  assert _check(folder, _asked("eval", 4)) is None


def test_a_failed_restore_is_explained(folder, tmp_path):
  data = folder / "model.ckpt-4.data-00000-of-00001"
  content = bytearray(data.read_bytes())
  content[100] ^= 0xFF
  data.write_bytes(content)
  assert _check(folder, _asked()) is None  # sizes show nothing
  checkpoint_checks.explain_failed_restore(str(folder), _asked("eval", 2))
  for model_dir, asked in (
    (folder, _asked("eval", "all")),
    (tmp_path / "new", _asked(start=folder / "model.ckpt-4")),
  ):
    with pytest.raises(errors.UserError, match="model.ckpt-4 .*the value of"):
      checkpoint_checks.explain_failed_restore(str(model_dir), asked)


@pytest.mark.parametrize(
  ("given", "step"),
  [
    ("", 4),
    ("checkpoint", 4),
    ("model.ckpt-2", 2),
    ("model.ckpt-2.index", 2),
    ("model.ckpt-2.meta", 2),
    ("model.ckpt-2.data-00000-of-00001", 2),
  ],
)
def test_every_name_of_a_checkpoint_is_understood(
  folder, tmp_path, given, step
):
  path, warm = _check(tmp_path / "new", _asked(start=folder / given))
  assert path == f"{folder}/model.ckpt-{step}"
  assert warm.loaded and not warm.unexpected


def test_a_start_that_cannot_be_read_is_said(folder, tmp_path):
  new = tmp_path / "new"
  with pytest.raises(errors.UserError) as e:
    _check(new, _asked(start=folder / "model.ckpt-3"))
  assert f"no file {folder}/model.ckpt-3.index; {folder} has" in str(e.value)
  assert "steps 2, 4" in str(e.value)
  with pytest.raises(errors.UserError, match="a folder without checkpoints"):
    _check(new, _asked(start=tmp_path))
  _empty(folder, 4)
  with pytest.raises(errors.UserError) as e:
    _check(new, _asked(start=folder / "model.ckpt-4"))
  assert f"{folder}/model.ckpt-4 (run.init_checkpoint)" in str(e.value)
  assert f"such as {folder}/model.ckpt-2." in str(e.value)


@pytest.mark.parametrize(
  ("change", "kind", "says"),
  [
    (lambda here, name: {**here, name: (3, 5)}, "reshaped", "[3, 5] in the mo"),
    (
      lambda here, name: {**here, "new": (3,)},
      "missing",
      "absent in the check",
    ),
    (
      lambda here, name: {n: s for n, s in here.items() if n != name},
      "unused",
      "absent in the model",
    ),
  ],
)
def test_a_start_from_another_model_names_its_first_variable(
  folder, tmp_path, monkeypatch, shapes, change, kind, says
):
  name = next(n for n in shapes if "hypergrid" not in n)
  there = change(shapes, name)
  monkeypatch.setattr(checkpoints, "variable_shapes", lambda model: there)
  asked = _asked(start=folder / "model.ckpt-2")
  with pytest.raises(errors.UserError) as e:
    _check(tmp_path / "new", asked)
  first = "new" if kind == "missing" else name
  assert f"1 {kind}, the first being {first} (" in str(e.value)
  assert says in str(e.value)
  path, warm = _check(tmp_path / "new", asked, allow_partial=True)
  assert path == str(folder / "model.ckpt-2")
  assert list(getattr(warm, kind)) == [first]


def test_a_start_beyond_the_last_step_is_refused(folder, tmp_path):
  """t5 counts on from the step of the checkpoint."""
  asked = _asked(start=folder / "model.ckpt-4")
  asked = dataclasses.replace(asked, train_steps=4)
  with pytest.raises(errors.UserError, match="at step 4, .* give 8 for that"):
    _check(tmp_path / "new", asked)


def test_a_start_that_is_not_read_is_said(folder, tmp_path, capsys):
  """A run that goes on is given the flags that it began with."""
  start = tmp_path / "source" / "model.ckpt-2"
  shutil.copytree(folder, tmp_path / "source")
  assert _check(folder, _asked(start=start)) is None
  line = capsys.readouterr().out
  assert (
    f"continuing from {folder}/model.ckpt-4: run.init_checkpoint = " in line
  )
  assert f"'{start}' is not read\n" in line
  checkpoint_checks.record_warm_start(str(folder), str(start), {})
  shutil.copytree(folder, tmp_path / "copy")
  for same in (start, tmp_path / "copy" / "model.ckpt-2.index"):
    _check(folder, _asked(start=same))
    assert "is not read, the run began from it" in capsys.readouterr().out
  shutil.rmtree(tmp_path / "source")
  _check(folder, _asked(start=start))  # gone, and not needed
  with pytest.raises(errors.UserError) as e:
    _check(folder, _asked(start=tmp_path / "copy" / "model.ckpt-4"))
  assert f"is another checkpoint than {start}" in str(e.value)
  assert "warm_start.json" in str(e.value)
  # As it was written before it kept a digest.
  record = folder / "warm_start.json"
  old = json.loads(record.read_text())
  assert old.pop("digest") and old["step"] == 2
  record.write_text(json.dumps(old))
  with pytest.raises(errors.UserError, match="is another checkpoint"):
    _check(folder, _asked(start=tmp_path / "copy" / "model.ckpt-4"))
  checkpoint_checks.forget_warm_start(str(folder))
  assert not record.exists()


def test_another_function_is_refused_layer_by_layer(folder, tmp_path, capsys):
  other = "decoder/HyperGrid.gate = 'two_sigmoid'"
  with pytest.raises(errors.UserError) as e:
    _check(folder, _asked("eval"), other)
  assert (
    "HyperGrid.gate of decoder/block_000/layer_002 is 'two_sigmoid' here and "
    "'sigmoid' in its operative_config.gin, and 1 more differ"
  ) in str(e.value)
  new, start = tmp_path / "new", _asked(start=folder)
  with pytest.raises(errors.UserError, match="--allow_partial_warm_start"):
    _check(new, start, other)
  assert _check(new, start, other, allow_partial=True)
  assert "was trained as another model" in capsys.readouterr().out
  (folder / "operative_config.gin").unlink()
  assert _check(folder, _asked("eval"), other) is None
  assert "it is not checked that the gates" in capsys.readouterr().out


def test_a_damaged_record_of_a_source_is_no_obstacle(folder, tmp_path, capsys):
  (folder / "operative_config.gin").write_text("")
  assert _check(tmp_path / "new", _asked(start=folder))
  assert "not checked: " in capsys.readouterr().out
  with pytest.raises(errors.UserError, match="does not describe a model"):
    _check(folder, _asked())


def test_another_vocabulary_is_refused(folder, tmp_path):
  for model_dir, asked in (
    (folder, _asked()),
    (folder, _asked("eval", 2)),
    (tmp_path / "new", _asked(start=folder)),
  ):
    with pytest.raises(errors.UserError) as e:
      _check(model_dir, asked, vocabulary=BYTES)
    assert "bytes with 100 extra ids here" in str(e.value)
    assert f"/a/sp.model with 0 extra ids in {folder}/vocab" in str(e.value)
    assert "give --vocabulary=/a/sp.model, or a copy" in str(e.value)
  elsewhere = {"targets": {**PIECES["targets"], "described": "/b/sp.model"}}
  assert _check(folder, _asked(), vocabulary=elsewhere) is None
  over = {"targets": {**PIECES["targets"], "sha256": "def"}}
  with pytest.raises(errors.UserError, match=r"SHA-256 def…\) here and .*abc…"):
    _check(folder, _asked(), vocabulary=over)
  (folder / "vocabulary.json").write_text("{")
  with pytest.raises(errors.UserError, match="record of the vocabulary"):
    _check(folder, _asked(), vocabulary=BYTES)
  (folder / "vocabulary.json").unlink()  # an older folder
  assert _check(folder, _asked(), vocabulary=BYTES) is None


def test_a_checkpoint_is_not_a_folder(folder):
  checkpoint_checks.check_model_dir(str(folder))
  checkpoint_checks.check_model_dir(str(folder / "new"))
  for name in ("model.ckpt-2", "model.ckpt-2.index"):
    with pytest.raises(errors.UserError, match=f"give its folder, {folder},"):
      checkpoint_checks.check_model_dir(str(folder / name))
