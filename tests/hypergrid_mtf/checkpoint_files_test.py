"""Which checkpoints a folder has, and what is wrong with one."""

import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoint_files, checkpoints, errors
from tests import testing

DATA = "model.ckpt-60.data-00000-of-00001"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Checkpoints of steps 20, 40 and 60, with weights of both types."""
  folder = tmp_path_factory.mktemp("trained")
  weight = np.random.default_rng(0).normal(size=[16, 8]).astype(np.float32)
  half = weight.astype(tf.bfloat16.as_numpy_dtype)
  variables = {"wi/kernel": weight, "half": half, "global_step": np.int64(0)}
  testing.write_checkpoint(folder, variables, steps=(20, 40, 60))
  return folder


@pytest.fixture
def folder(trained, tmp_path):
  shutil.copytree(trained, tmp_path / "run")
  return tmp_path / "run"


def _flip(path, at):
  content = bytearray(path.read_bytes())
  content[at] ^= 0xFF
  path.write_bytes(content)


def _cut(path, size):
  path.write_bytes(path.read_bytes()[:size])


def test_a_whole_checkpoint_has_the_size_that_its_index_says(folder):
  assert (folder / DATA).stat().st_size == 16 * 8 * (4 + 2) + 8
  for step in (20, 40, 60):
    path = checkpoint_files.path_of(str(folder), step)
    assert checkpoint_files.damage(path, read_values=True) is None
    checkpoint_files.check_whole(path, "here")
  assert checkpoint_files.steps(str(folder)) == [20, 40, 60]
  assert checkpoint_files.newest_whole(str(folder)) == 60


@pytest.mark.parametrize(
  ("file", "change", "says"),
  [
    (DATA, os.remove, "its values, model.ckpt-60.data-…, are gone"),
    (DATA, lambda p: _cut(p, 0), f"{DATA} is empty"),
    (DATA, lambda p: _cut(p, 500), "hold 500 bytes where its index has 776"),
    ("model.ckpt-60.index", os.remove, "no file model.ckpt-60.index"),
    ("model.ckpt-60.index", lambda p: _cut(p, 0), "index cannot be read"),
    ("model.ckpt-60.index", lambda p: _flip(p, 30), "index cannot be read"),
    (
      DATA,
      lambda p: p.rename(str(p).replace("00000-of-00001", "00001-of-00002")),
      "model.ckpt-60.data-00000-of-00002 is gone",
    ),
  ],
  ids=["gone", "empty", "cut", "no index", "empty index", "bit", "shard"],
)
def test_damage_is_found_without_reading_values(folder, file, change, says):
  change(folder / file)
  path = str(folder / "model.ckpt-60")
  assert says in checkpoint_files.damage(path)
  assert checkpoint_files.newest_whole(str(folder)) == 40
  with pytest.raises(errors.UserError) as e:
    checkpoint_files.check_whole(path, "run.init_checkpoint")
  assert f"{path} (run.init_checkpoint) is damaged" in str(e.value)
  assert f"such as {folder}/model.ckpt-40." in str(e.value)
  with pytest.raises(errors.UserError) as e:
    checkpoint_files.check_whole(path, "here", latest=True)
  assert (
    f"first line of {folder}/checkpoint be "
    '`model_checkpoint_path: "model.ckpt-40"`'
  ) in str(e.value)


def test_a_bit_of_a_value_is_found_by_reading_it(folder):
  _flip(folder / DATA, 600)
  path = str(folder / "model.ckpt-60")
  assert checkpoint_files.damage(path) is None
  wrong = checkpoint_files.damage(path, read_values=True)
  assert "the value of wi/kernel cannot be read" in wrong
  assert checkpoint_files.newest_whole(str(folder), read_values=True) == 40


def test_where_none_is_whole_another_folder_is_asked_for(folder):
  for step in (20, 40, 60):
    _cut(folder / f"model.ckpt-{step}.data-00000-of-00001", 9)
  with pytest.raises(errors.UserError, match="give another folder"):
    checkpoint_files.check_whole(str(folder / "model.ckpt-60"), "here", True)


def test_a_part_is_counted_where_t5_counts_it(folder):
  (folder / "model.ckpt-40.index").unlink()
  (folder / "model.ckpt-80_temp").mkdir()
  assert checkpoint_files.steps(str(folder)) == [20, 60]
  assert checkpoint_files.steps(str(folder), parts=True) == [20, 40, 60]
  assert checkpoint_files.steps(str(folder / "none")) == []


def test_the_latest_is_the_one_that_the_list_names(folder, tmp_path):
  assert checkpoints.latest_checkpoint(str(tmp_path / "none")) is None
  assert checkpoints.latest_checkpoint(str(folder)) == f"{folder}/model.ckpt-60"
  (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-20"')
  assert checkpoints.latest_checkpoint(str(folder)) == f"{folder}/model.ckpt-20"


@pytest.mark.parametrize(
  "text",
  [None, "", "model_checkpoint_pa", 'model_checkpoint_path: "model.ckpt-7"'],
)
def test_a_list_that_leads_nowhere_is_not_an_empty_folder(folder, text):
  """Training would begin at step 0 beside what was saved."""
  (folder / "checkpoint").unlink()
  if text is not None:
    (folder / "checkpoint").write_text(text)
  _cut(folder / DATA, 0)
  with pytest.raises(errors.UserError) as e:
    checkpoints.latest_checkpoint(str(folder))
  assert "checkpoints of the steps 20, 40, 60" in str(e.value)
  assert 'be `model_checkpoint_path: "model.ckpt-40"`' in str(e.value)
  shutil.rmtree(folder)
  folder.mkdir()
  if text is not None:
    (folder / "checkpoint").write_text(text)
    with pytest.raises(errors.UserError, match="remove it to start again"):
      checkpoints.latest_checkpoint(str(folder))


def test_many_steps_are_named_by_the_ends():
  assert checkpoint_files.listed([1, 2]) == "1, 2"
  assert checkpoint_files.listed(list(range(20))) == "0, 1, 2, …, 17, 18, 19"


def test_the_files_of_a_checkpoint_stand_for_it(folder):
  path = str(folder / "model.ckpt-20")
  for suffix in ("", ".index", ".meta", ".data-00000-of-00001"):
    assert checkpoint_files.prefix(path + suffix) == path
  assert checkpoint_files.prefix(f"{path}.data") == f"{path}.data"
  other = checkpoint_files.digest(str(folder / "model.ckpt-40"))
  assert checkpoint_files.digest(path) == other  # the same values
