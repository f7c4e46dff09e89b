"""Repairs of a model_dir after a crash."""

import os
import shutil

import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import repair
from tests import testing

DATA = "model.ckpt-60.data-00000-of-00001"
INDEX = "model.ckpt-60.index"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Checkpoints of steps 20, 40 and 60."""
  folder = tmp_path_factory.mktemp("trained")
  testing.write_checkpoint(folder, {"wi/kernel": (16, 8)}, steps=(20, 40, 60))
  return folder


@pytest.fixture
def folder(trained, tmp_path):
  shutil.copytree(trained, tmp_path / "run")
  return tmp_path / "run"


def _flip(path):
  content = bytearray(path.read_bytes())
  content[300] ^= 0xFF
  path.write_bytes(content)


@pytest.mark.parametrize(
  ("file", "change", "says"),
  [
    (DATA, lambda p: os.truncate(p, 300), "hold 300 bytes, but the index says"),
    (INDEX, lambda p: os.truncate(p, 100), "its index cannot be read"),
    (
      DATA,
      lambda p: p.rename(str(p).replace("00000-of-00001", "00001-of-00002")),
      "model.ckpt-60.data-00000-of-00002 is missing",
    ),
    (DATA, os.remove, "its data files, model.ckpt-60.data-…, are missing"),
    (DATA, _flip, "the value of wi/kernel cannot be read"),
  ],
  ids=["cut data", "cut index", "shard", "no data", "bit"],
)
def test_a_damaged_newest_checkpoint_is_set_aside(
  folder, file, change, says, capsys
):
  change(folder / file)
  moved = sorted(f.name for f in folder.glob("model.ckpt-60.*"))
  repair.repair_model_dir(str(folder))
  said = capsys.readouterr().out
  assert says in said and f"it was moved to {folder}/damaged" in said
  assert "resuming from the checkpoint of step 40" in said
  assert sorted(os.listdir(folder / "damaged")) == moved
  assert checkpoints.latest_checkpoint(str(folder)) == f"{folder}/model.ckpt-40"
  state = tf.train.get_checkpoint_state(str(folder))
  assert [p[-2:] for p in state.all_model_checkpoint_paths] == ["20", "40"]
  repair.repair_model_dir(str(folder))
  assert not capsys.readouterr().out  # all is well now


def test_one_that_is_damaged_again_has_a_folder_of_its_own(folder):
  for _ in range(2):
    shutil.copy(folder / "model.ckpt-40.index", folder / INDEX)
    shutil.copy(folder / DATA.replace("60", "40"), folder / DATA)
    os.truncate(folder / DATA, 9)
    repair.name_latest(str(folder), 60)
    repair.repair_model_dir(str(folder))
  assert os.listdir(folder / "damaged") and os.listdir(folder / "damaged2")


@pytest.mark.parametrize(
  ("content", "says"),
  [
    (None, "checkpoint is missing"),
    ("", "checkpoint is damaged or names a missing checkpoint"),
    ('model_checkpoint_path: "model.ckpt-', "is damaged or names"),
    ('model_checkpoint_path: "model.ckpt-80"', "is damaged or names"),
  ],
)
def test_the_newest_is_found_without_the_file_that_names_it(
  folder, content, says, capsys
):
  index = folder / "checkpoint"
  index.unlink() if content is None else index.write_text(content)
  repair.repair_model_dir(str(folder))
  assert says in capsys.readouterr().out
  assert checkpoints.latest_checkpoint(str(folder)) == f"{folder}/model.ckpt-60"


def test_an_older_step_that_the_user_named_stays_the_last(folder, capsys):
  (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-40"')
  repair.repair_model_dir(str(folder))
  assert checkpoints.latest_checkpoint(str(folder)) == f"{folder}/model.ckpt-40"
  os.truncate(folder / DATA.replace("60", "40"), 9)
  repair.repair_model_dir(str(folder))
  assert checkpoints.latest_checkpoint(str(folder)) == f"{folder}/model.ckpt-20"
  assert (folder / INDEX).exists()


def test_a_folder_without_a_whole_one_is_left_to_the_checks(folder, capsys):
  for step in (20, 40, 60):
    os.truncate(folder / f"model.ckpt-{step}.data-00000-of-00001", 9)
  repair.repair_model_dir(str(folder))
  assert not capsys.readouterr().out and not (folder / "damaged").exists()
  with pytest.raises(errors.UserError, match="give another folder"):
    path = checkpoints.latest_checkpoint(str(folder))
    checkpoints.check_intact(path, "here", latest=True)


def test_what_was_half_written_is_removed(folder, tmp_path):
  (folder / "model.ckpt-80_temp").mkdir()
  half = [
    "model.ckpt-80_temp/part-00000-of-00001.index",
    f"checkpoint.tmp{'0' * 32}",
    f"{DATA}.tempstate123",
    f"warm_start.json.{'0' * 32}.part",
  ]
  for name in half:
    (folder / name).write_text("")
  before = sorted(os.listdir(folder))
  repair.repair_model_dir(str(folder))
  after = sorted(os.listdir(folder))
  assert set(before) - set(after) == {n.split("/")[0] for n in half}
  repair.repair_model_dir(str(tmp_path / "none"))


def test_a_full_disk_is_a_sentence(tmp_path):
  error = OSError(28, "No space left on device")
  (tmp_path / f"graph.pbtxt.tmp{'0' * 32}").write_text("half")
  with pytest.raises(errors.UserError) as e:
    repair.explain_full_disk(error, str(tmp_path))
  assert f"--model_dir={tmp_path} is full: no checkpoint has been" in str(
    e.value
  )
  assert not os.listdir(tmp_path)
  repair.explain_full_disk(OSError("another"), str(tmp_path))
