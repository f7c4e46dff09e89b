"""Checks of a run against the folder it goes on in."""

import types

import pytest

from hypergrid_mtf import checkpoints, errors, layers
from hypergrid_mtf.launch import checkpoint_checks
from tests.hypergrid_mtf import mtf_testing


@pytest.mark.parametrize(
  ("binding", "trained"),
  [
    ("HyperGrid.gate = 'two_sigmoid'", "HyperGrid.gate = 'sigmoid'"),
    (
      "HyperGrid.condition_on = 'task_token'",
      "encoder/HyperGrid.condition_on = 'first_token'",
    ),
  ],
)
def test_another_gate_than_the_trained_one_is_refused(
  tmp_path, binding, trained
):
  model = mtf_testing.small_model("L2", binding)
  config = tmp_path / "operative_config.gin"
  config.write_text(f"# Parameters\n{trained}\n")
  with pytest.raises(errors.UserError, match="was trained with"):
    checkpoint_checks._check_same_function(model, str(tmp_path))
  config.write_text(f"{binding}\n")
  checkpoint_checks._check_same_function(model, str(tmp_path))
  vanilla = mtf_testing.small_model("vanilla")
  checkpoint_checks._check_same_function(vanilla, str(tmp_path))


@pytest.mark.parametrize(
  "text", ["", "model_checkpoint_pa", 'model_checkpoint_path: "model.ckpt-7"']
)
def test_a_damaged_checkpoint_file_is_said(tmp_path, text):
  assert checkpoints.latest_checkpoint(str(tmp_path)) is None
  (tmp_path / "checkpoint").write_text(text)
  with pytest.raises(errors.UserError, match="damaged"):
    checkpoints.latest_checkpoint(str(tmp_path))


def test_the_layers_of_both_stacks_are_found():
  model = mtf_testing.small_model("L2")
  assert len(layers.hypergrid_layers(model)) == 4
  student = types.SimpleNamespace(student=model)
  assert len(layers.hypergrid_layers(student)) == 4
  assert not layers.hypergrid_layers(mtf_testing.small_model("vanilla"))
