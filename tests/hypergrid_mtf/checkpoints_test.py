"""What is known of a checkpoint before any graph is built."""

import json
import pathlib

import gin
import pytest

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
  assert "[32, 16] in the checkpoint, [64, 16] in the model" in text
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
  """As the public checkpoints have them: shapes alone, no weights."""
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
