"""Gates of tasks, from a checkpoint of random weights."""

import gin
import numpy as np
import pytest
import seqio

import t5_tasks
from hypergrid_mtf import errors, gate_figures, task_gates
from hypergrid_mtf.run import vocabulary_file
from tests.tools.serving import model_dirs


def _trained(folder, variant):
  return model_dirs.make(folder, variant, size="micro")


@pytest.fixture(autouse=True)
def no_configuration_after():
  yield
  gin.clear_config()


@pytest.mark.parametrize(
  ("variant", "shape"),
  [("L2", (16, 16)), ("row", (16, 1)), ("GG", (16, 16))],
)
def test_one_grid_a_task_and_layer(tmp_path, variant, shape):
  found = task_gates.task_gates(_trained(tmp_path, variant), examples=3)
  tasks = {
    t.name for t in seqio.get_subtasks(seqio.get_mixture_or_task("embedded_v1"))
  }
  assert set(found) == tasks
  layers = {f"{s}/block_00{i}" for s in ("encoder", "decoder") for i in (0, 1)}
  first = next(iter(found.values()))
  for by_layer in found.values():
    assert set(by_layer) == layers
    for name, grid in by_layer.items():
      assert grid.shape == shape
      assert ((grid >= 0) & (grid <= 1)).all()
      if variant == "GG":  # no task signal at all
        np.testing.assert_array_equal(grid, first[name])
  if variant == "L2":
    a, b = found["embedded_copy_v1"], found["embedded_sort_v1"]
    assert np.abs(a["encoder/block_000"] - b["encoder/block_000"]).max() > 0.01
    apart = gate_figures.distances(found)
    matrix = apart["encoder/block_000"]
    assert matrix.shape == (8, 8)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 0)
    i, j = (list(found).index(f"embedded_{t}_v1") for t in ("copy", "sort"))
    np.testing.assert_allclose(
      matrix[i, j],
      np.abs(a["encoder/block_000"] - b["encoder/block_000"]).mean(),
      rtol=1e-6,
    )


def test_a_checkpoint_that_cannot_be_drawn_is_named(tmp_path):
  folder = _trained(tmp_path, "L2")
  data = tmp_path / "model.ckpt-7.data-00000-of-00001"
  whole = data.read_bytes()
  vocabulary_file.write(folder, {"targets": {"kind": "other"}})
  with pytest.raises(errors.UserError, match="another vocabulary"):
    task_gates.task_gates(folder)
  (tmp_path / "vocabulary.json").unlink()
  data.write_bytes(whole[:-1])
  with pytest.raises(errors.UserError, match="model.ckpt-7 .* is damaged"):
    task_gates.task_gates(folder)
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 0xFF
  data.write_bytes(flipped)
  with pytest.raises(errors.UserError, match="model.ckpt-7 .*the value of"):
    task_gates.task_gates(folder, examples=1)
  with pytest.raises(errors.UserError, match="is a checkpoint: give its fold"):
    task_gates.task_gates(f"{folder}/model.ckpt-7")
  (tmp_path / "checkpoint").unlink()
  with pytest.raises(errors.UserError, match="checkpoints of steps 7,"):
    task_gates.task_gates(folder)
  (tmp_path / "model.ckpt-7.index").unlink()
  with pytest.raises(errors.UserError, match="has no checkpoint"):
    task_gates.task_gates(folder)
  (tmp_path / "operative_config.gin").write_text("x = ")
  with pytest.raises(errors.UserError, match="does not describe a model"):
    task_gates.task_gates(folder)


def test_a_vanilla_model_has_no_gates(tmp_path):
  with pytest.raises(errors.UserError, match="has no gates to draw"):
    task_gates.task_gates(_trained(tmp_path, "vanilla"))


def test_data_that_is_not_there_is_named(tmp_path):
  folder = _trained(tmp_path, "L2")
  with pytest.raises(errors.UserError, match="no task .* has a split 'dev'"):
    task_gates.task_gates(folder, split="dev")
  config = tmp_path / "operative_config.gin"
  text = config.read_text().replace("embedded_v1", "glue_rte_v002")
  name = "t5_tasks.vocabularies.use_vocabulary.name"
  config.write_text(f"{text}\n{name} = 'bytes'\n")
  with pytest.raises(
    errors.UserError, match="data that are not in .*: glue/rte"
  ):
    task_gates.task_gates(folder, data_dir=str(tmp_path))
  name = "mesh_train_dataset_fn.mixture_or_task_name ="
  config.write_text(config.read_text().replace(name, f"{name} None  #"))
  with pytest.raises(errors.UserError, match="names no mixture .*: put back"):
    task_gates.task_gates(folder, data_dir=str(tmp_path))
  t5_tasks.vocabularies.use_vocabulary("t5")


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(errors.UserError, match="operative_config"):
    task_gates.task_gates(str(tmp_path))
