"""Which checkpoint a run reads, and whether it is the right one."""

import json
import shutil
import types

import gin
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import records, request, vocabulary_file
from hypergrid_mtf.run.checks import checkpoint, training_record
from t5_tasks import mixtures
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


@pytest.fixture
def make_run(shapes):
  """A run of the small L2 model, whose shapes are known."""

  def call(
    model_dir, mode="train", step=None, start=None, bindings="", **known
  ):
    flags = types.SimpleNamespace(
      model_dir=str(model_dir),
      allow_partial_warm_start=known.pop("partial", False),
    )
    run = request.Run(flags)
    run.__dict__.update(
      mode=mode,
      checkpoint_step=step,
      train_steps=9,
      init_checkpoint=start and str(start),
      model=mtf_testing.small_model("L2", bindings),
      shapes=shapes,
      vocabulary={},
      mixture=mixtures.get_mixture_or_task("embedded_copy_v1"),
    )
    run.__dict__.update(known)
    return run

  return call


def _check(run):
  """Makes the checks of checkpoints; returns the notes."""
  checkpoint.check_steps(run)
  checkpoint.check_checkpoints(run)
  checkpoint.check_warm_start(run)
  notes = training_record.note_function(run) + checkpoint.note_checkpoints(run)
  return "\n".join(notes)


def _empty(folder, step, number=0):
  (folder / f"model.ckpt-{step}.data-00000-of-00001").write_bytes(b"")


def test_what_is_whole_and_the_same_passes(folder, make_run):
  for asked in (
    ("train",),
    ("eval",),
    ("eval", "all"),
    ("infer", [2, 4]),
    ("infer", (4,)),
    ("export_infer", 2),
    ("export_infer", [2]),
  ):
    assert not _check(make_run(folder, *asked, vocabulary=PIECES))


@pytest.mark.parametrize(
  ("asked", "step"),
  [
    (("train",), 4),
    (("eval",), 4),
    (("infer", -1), 4),
    (("eval", 2), 2),
    (("eval", [4, 2]), 2),
    (("eval", "all"), 2),
    (("export_infer", 2), 2),
  ],
)
def test_the_checkpoint_that_is_read_is_checked(folder, make_run, asked, step):
  _empty(folder, step)
  with pytest.raises(errors.UserError) as e:
    _check(make_run(folder, *asked))
  path = f"{folder}/model.ckpt-{step}"
  assert f"{path} (in --model_dir={folder}) is damaged" in str(e.value)
  assert f"model.ckpt-{step}.data-00000-of-00001 is empty" in str(e.value)
  assert f"model.ckpt-{6 - step}" in str(e.value)


def test_a_damaged_one_that_is_not_read_is_none_of_its_business(
  folder, make_run
):
  _empty(folder, 2)
  assert not _check(make_run(folder))
  assert not _check(make_run(folder, "eval", 4))


def test_a_failed_restore_is_explained(folder, make_run, tmp_path):
  data = folder / "model.ckpt-4.data-00000-of-00001"
  content = bytearray(data.read_bytes())
  content[100] ^= 0xFF
  data.write_bytes(content)
  assert not _check(make_run(folder))  # sizes show nothing
  error = tf.errors.DataLossError(None, None, "")
  checkpoint.explain_failed_restore(error, make_run(folder, "eval", 2))
  for run in (
    make_run(folder, "eval", "all"),
    make_run(tmp_path / "new", start=folder / "model.ckpt-4"),
  ):
    with pytest.raises(errors.UserError, match="model.ckpt-4 .*the value of"):
      checkpoint.explain_failed_restore(error, run)
  checkpoint.explain_failed_restore(OSError("another"), run)


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
  folder, make_run, tmp_path, given, step
):
  run = make_run(tmp_path / "new", start=folder / given)
  said = _check(run)
  path = f"{folder}/model.ckpt-{step}"
  assert run.source == path
  assert said.startswith(f"warm start from {path}, at step {step}\n")
  assert run.warm_start.loaded and not run.warm_start.unexpected


def test_a_start_that_cannot_be_read_is_said(folder, make_run, tmp_path):
  new = tmp_path / "new"
  with pytest.raises(errors.UserError) as e:
    _check(make_run(new, start=folder / "model.ckpt-3"))
  assert f"no file {folder}/model.ckpt-3.index; {folder} has" in str(e.value)
  assert "steps 2, 4" in str(e.value)
  with pytest.raises(errors.UserError, match="a folder without checkpoints"):
    _check(make_run(new, start=tmp_path))
  _empty(folder, 4)
  with pytest.raises(errors.UserError) as e:
    _check(make_run(new, start=folder / "model.ckpt-4"))
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
  folder, make_run, tmp_path, shapes, change, kind, says
):
  name = next(n for n in shapes if "hypergrid" not in n)
  given = dict(
    model_dir=tmp_path / "new",
    start=folder / "model.ckpt-2",
    shapes=change(shapes, name),
  )
  with pytest.raises(errors.UserError) as e:
    _check(make_run(**given))
  first = "new" if kind == "missing" else name
  assert f"1 {kind} variables, the first {first} (" in str(e.value)
  assert says in str(e.value)
  run = make_run(**given, partial=True)
  assert _check(run)
  assert list(getattr(run.warm_start, kind)) == [first]


def test_a_start_beyond_the_last_step_is_refused(folder, make_run, tmp_path):
  """t5 continues counting from the checkpoint's step."""
  run = make_run(tmp_path, start=folder / "model.ckpt-4", train_steps=4)
  with pytest.raises(
    errors.UserError, match="at step 4, .* give 8 to train that"
  ):
    _check(run)


def test_a_start_that_is_not_read_is_said(folder, make_run, tmp_path):
  """A resumed run is given the flags that it started with."""
  start = tmp_path / "source" / "model.ckpt-2"
  shutil.copytree(folder, tmp_path / "source")
  line = _check(make_run(folder, start=start))
  assert line == (
    f"continuing from {folder}/model.ckpt-4: run.init_checkpoint = '{start}' "
    "is not read"
  )
  began = make_run(tmp_path / "began", start=start)
  (tmp_path / "began").mkdir()
  records.write_start(began)
  shutil.copy(tmp_path / "began" / request.WARM_START, folder)
  assert make_run(folder).began == 2
  shutil.copytree(folder, tmp_path / "copy")
  for same in (start, tmp_path / "copy" / "model.ckpt-2.index"):
    line = _check(make_run(folder, start=same))
    assert "is not read, the run started from it" in line
  shutil.rmtree(tmp_path / "source")
  _check(make_run(folder, start=start))  # gone, and not needed
  other = tmp_path / "copy" / "model.ckpt-4"
  with pytest.raises(errors.UserError) as e:
    _check(make_run(folder, start=other))
  assert f"is not the checkpoint {start}" in str(e.value)
  assert "warm_start.json" in str(e.value)
  # As it was written before it kept a digest.
  record = folder / "warm_start.json"
  old = json.loads(record.read_text())
  assert old.pop("digest") and old["step"] == 2
  record.write_text(json.dumps(old))
  with pytest.raises(errors.UserError, match="is not the checkpoint"):
    _check(make_run(folder, start=other))
  # A beginning that left no checkpoint.
  records.write_start(make_run(tmp_path / "began"))
  assert not (tmp_path / "began" / request.WARM_START).exists()


def test_another_function_is_refused_layer_by_layer(folder, make_run, tmp_path):
  other = "decoder/HyperGrid.gate = 'two_sigmoid'"
  with pytest.raises(errors.UserError) as e:
    _check(make_run(folder, "eval", bindings=other))
  assert (
    "HyperGrid.gate of decoder/block_000/layer_002 is 'two_sigmoid' here and "
    "'sigmoid' in its operative_config.gin, and 1 more differ"
  ) in str(e.value)
  start = dict(model_dir=tmp_path / "new", start=folder, bindings=other)
  with pytest.raises(errors.UserError, match="--allow_partial_warm_start"):
    _check(make_run(**start))
  said = _check(make_run(**start, partial=True))
  assert "was trained as another model" in said
  (folder / "operative_config.gin").unlink()
  said = _check(make_run(folder, "eval", bindings=other))
  assert "so the gates were not checked" in said


def test_a_damaged_record_of_a_source_is_no_obstacle(
  folder, make_run, tmp_path
):
  (folder / "operative_config.gin").write_text("")
  assert "not checked: " in _check(make_run(tmp_path / "new", start=folder))
  with pytest.raises(errors.UserError, match="does not describe a model"):
    _check(make_run(folder))


def test_another_vocabulary_is_refused(folder, make_run, tmp_path):
  for given in (
    dict(model_dir=folder),
    dict(model_dir=folder, mode="eval", step=2),
    dict(model_dir=tmp_path / "new", start=folder),
  ):
    with pytest.raises(errors.UserError) as e:
      _check(make_run(**given, vocabulary=BYTES))
    assert "bytes with 100 extra ids here" in str(e.value)
    assert f"/a/sp.model with 0 extra ids in {folder}/vocab" in str(e.value)
    assert "give --vocabulary=/a/sp.model, or a copy" in str(e.value)
  elsewhere = {"targets": {**PIECES["targets"], "described": "/b/sp.model"}}
  assert not _check(make_run(folder, vocabulary=elsewhere))
  over = {"targets": {**PIECES["targets"], "sha256": "def"}}
  with pytest.raises(errors.UserError, match=r"SHA-256 def…\) here and .*abc…"):
    _check(make_run(folder, vocabulary=over))
  (folder / "vocabulary.json").write_text("{")
  with pytest.raises(errors.UserError, match="record of the vocabulary"):
    _check(make_run(folder, vocabulary=BYTES))
  (folder / "vocabulary.json").unlink()  # an older folder
  assert not _check(make_run(folder, vocabulary=BYTES))


def test_a_checkpoint_is_not_a_folder(folder):
  checkpoint.check_model_dir(str(folder))
  checkpoint.check_model_dir(str(folder / "new"))
  for name in ("model.ckpt-2", "model.ckpt-2.index"):
    with pytest.raises(errors.UserError, match=f"give its folder, {folder},"):
      checkpoint.check_model_dir(str(folder / name))
