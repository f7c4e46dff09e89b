"""Checkpoints before any graph is built: shapes, steps, and damage."""

import json
import os
import pathlib
import shutil

import gin
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from tests import testing

from . import mtf_testing

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def shapes():
  return checkpoints.variable_shapes(mtf_testing.small_model("L2"))


def _vanilla(shapes):
  return {n: s for n, s in shapes.items() if "/hypergrid/" not in n}


def test_a_checkpoint_of_the_same_model_fits(tmp_path, shapes):
  slots = {"shared/embedding_slot_v": (64, 16)}
  path = testing.write_checkpoint(tmp_path, {**shapes, **slots})
  checkpoints.check_same_model(path, shapes, "here")
  assert checkpoints.step_of(path) == 7


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    (
      {"shared/embedding": (64, 8)},
      "shared/embedding is [64, 8] in the checkpoint and [64, 16] in",
    ),
    (
      {"encoder/block_002/wi": (16, 32)},
      "encoder/block_002/wi is [16, 32] in the checkpoint and absent in",
    ),
  ],
)
def test_another_model_is_named(tmp_path, shapes, changes, says):
  path = testing.write_checkpoint(tmp_path, {**shapes, **changes})
  with pytest.raises(errors.UserError) as e:
    checkpoints.check_same_model(path, shapes, "--model_dir=x")
  assert says in str(e.value) and "--model_dir=x" in str(e.value)


def test_a_vanilla_checkpoint_is_not_the_same_model(tmp_path, shapes):
  path = testing.write_checkpoint(tmp_path, _vanilla(shapes))
  with pytest.raises(errors.UserError, match="absent in the checkpoint"):
    checkpoints.check_same_model(path, shapes, "here")


def test_what_is_no_checkpoint_is_said(tmp_path):
  with pytest.raises(errors.UserError, match="cannot be read"):
    checkpoints.reader_shapes(str(tmp_path / "none"), "here")


def test_a_warm_start_takes_all_but_hypergrids_own(shapes):
  vanilla = _vanilla(shapes)
  found = {
    **vanilla,
    "global_step": (),
    "shared/embedding_slot_vr": (64,),
    "shared/embedding_slot_vc": (16,),
  }
  warm = checkpoints.warm_start(found, shapes)
  assert warm.loaded == vanilla and not warm.unexpected
  assert set(warm.fresh) == set(shapes) - set(vanilla)
  assert set(warm.slots) == {
    "shared/embedding_slot_vr",
    "shared/embedding_slot_vc",
  }
  text = warm.to_text()
  assert f"{len(vanilla):>5} variables" in text and "2 too" in text
  assert json.loads(json.dumps(warm.to_json()))["missing"] == {}


def test_what_is_unexpected_is_sorted_and_named(shapes):
  vanilla = _vanilla(shapes)
  found = {**vanilla, "shared/embedding": (32, 16), "decoder/extra": (3,)}
  del found["encoder/rms_norm/scale"]
  warm = checkpoints.warm_start(found, shapes)
  assert warm.unexpected
  assert warm.reshaped == {"shared/embedding": ((32, 16), (64, 16))}
  assert set(warm.missing) == {"encoder/rms_norm/scale"}
  assert set(warm.unused) == {"decoder/extra"}
  text = warm.to_text()
  assert "[32, 16] in the checkpoint and [64, 16] in the model" in text
  assert "encoder/rms_norm/scale" in text and "decoder/extra [3]" in text


def test_the_three_ways_to_choose_are_asked(shapes):
  found = {f"old/{n}": s for n, s in _vanilla(shapes).items()}
  with gin.unlock_config():
    gin.bind_parameter(
      "init_checkpoint_variable_mapping.mapping_fn", lambda n: f"old/{n}"
    )
    gin.bind_parameter(
      "should_load_variable.filter_fn", lambda n: "embedding" not in n
    )
  try:
    warm = checkpoints.warm_start(found, shapes, variable_filter="encoder")
  finally:
    gin.clear_config()
  assert warm.loaded and all(n.startswith("encoder/") for n in warm.loaded)
  assert "shared/embedding" in warm.fresh and not warm.unexpected


@pytest.mark.parametrize("size", ["base", "11B", "t5_1_1_xxl"])
def test_published_names_and_shapes(size):
  """Compares only shapes with those of the public checkpoints, no weights."""
  golden = json.loads((GOLDEN / f"{size}.json").read_text())
  vanilla = {n: tuple(s) for n, s in golden["vanilla"].items()}
  own = {n: tuple(s) for n, s in golden["L2"].items()}
  found = {**vanilla, "global_step": ()}
  for name, shape in vanilla.items():
    # Adafactor factors what has two large dimensions.
    if len(shape) == 2 and min(shape) >= 128:
      found[f"{name}_slot_vr"] = shape[:1]
      found[f"{name}_slot_vc"] = shape[1:]
    else:
      found[f"{name}_slot_v"] = shape
  warm = checkpoints.warm_start(found, {**vanilla, **own})
  assert warm.loaded == vanilla and warm.fresh == own
  assert not warm.unexpected and len(warm.slots) > len(vanilla)


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
    path = checkpoints.path_of(str(folder), step)
    assert checkpoints.damage(path, read_values=True) is None
    checkpoints.check_intact(path, "here")
  assert checkpoints.list_steps(str(folder)) == [20, 40, 60]
  assert checkpoints.newest_intact(str(folder)) == 60


@pytest.mark.parametrize(
  ("file", "change", "says"),
  [
    (DATA, os.remove, "its data files, model.ckpt-60.data-…, are missing"),
    (DATA, lambda p: _cut(p, 0), f"{DATA} is empty"),
    (DATA, lambda p: _cut(p, 500), "hold 500 bytes, but the index says 776"),
    ("model.ckpt-60.index", os.remove, "model.ckpt-60.index is missing"),
    ("model.ckpt-60.index", lambda p: _cut(p, 0), "index cannot be read"),
    ("model.ckpt-60.index", lambda p: _flip(p, 30), "index cannot be read"),
    (
      DATA,
      lambda p: p.rename(str(p).replace("00000-of-00001", "00001-of-00002")),
      "model.ckpt-60.data-00000-of-00002 is missing",
    ),
  ],
  ids=["gone", "empty", "cut", "no index", "empty index", "bit", "shard"],
)
def test_damage_is_found_without_reading_values(folder, file, change, says):
  change(folder / file)
  path = str(folder / "model.ckpt-60")
  assert says in checkpoints.damage(path)
  assert checkpoints.newest_intact(str(folder)) == 40
  with pytest.raises(errors.UserError) as e:
    checkpoints.check_intact(path, "run.init_checkpoint")
  assert f"{path} (run.init_checkpoint) is damaged" in str(e.value)
  assert f"such as {folder}/model.ckpt-40." in str(e.value)
  with pytest.raises(errors.UserError) as e:
    checkpoints.check_intact(path, "here", latest=True)
  assert (
    f"first line of {folder}/checkpoint to "
    '`model_checkpoint_path: "model.ckpt-40"`'
  ) in str(e.value)


def test_a_bit_of_a_value_is_found_by_reading_it(folder):
  _flip(folder / DATA, 600)
  path = str(folder / "model.ckpt-60")
  assert checkpoints.damage(path) is None
  wrong = checkpoints.damage(path, read_values=True)
  assert "the value of wi/kernel cannot be read" in wrong
  assert checkpoints.newest_intact(str(folder), read_values=True) == 40


def test_where_none_is_whole_another_folder_is_asked_for(folder):
  for step in (20, 40, 60):
    _cut(folder / f"model.ckpt-{step}.data-00000-of-00001", 9)
  with pytest.raises(errors.UserError, match="give another folder"):
    checkpoints.check_intact(str(folder / "model.ckpt-60"), "here", True)


def test_a_part_is_counted_where_t5_counts_it(folder):
  (folder / "model.ckpt-40.index").unlink()
  (folder / "model.ckpt-80_temp").mkdir()
  assert checkpoints.list_steps(str(folder)) == [20, 60]
  assert checkpoints.list_steps(str(folder), parts=True) == [20, 40, 60]
  assert checkpoints.list_steps(str(folder / "none")) == []


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
  """Otherwise training would start over at step 0 next to what was saved."""
  (folder / "checkpoint").unlink()
  if text is not None:
    (folder / "checkpoint").write_text(text)
  _cut(folder / DATA, 0)
  with pytest.raises(errors.UserError) as e:
    checkpoints.latest_checkpoint(str(folder))
  assert "checkpoints of steps 20, 40, 60" in str(e.value)
  assert 'to `model_checkpoint_path: "model.ckpt-40"`' in str(e.value)
  shutil.rmtree(folder)
  folder.mkdir()
  if text is not None:
    (folder / "checkpoint").write_text(text)
    with pytest.raises(errors.UserError, match="remove it to start over"):
      checkpoints.latest_checkpoint(str(folder))


def test_many_steps_are_named_by_the_ends():
  assert checkpoints.describe_steps([1, 2]) == "1, 2"
  assert checkpoints.describe_steps(list(range(20))) == "0, 1, 2, …, 17, 18, 19"


def test_the_files_of_a_checkpoint_stand_for_it(folder):
  path = str(folder / "model.ckpt-20")
  for suffix in ("", ".index", ".meta", ".data-00000-of-00001"):
    assert checkpoints.prefix(path + suffix) == path
  assert checkpoints.prefix(f"{path}.data") == f"{path}.data"
  other = checkpoints.digest(str(folder / "model.ckpt-40"))
  assert checkpoints.digest(path) == other  # the same values
