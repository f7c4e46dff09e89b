"""Differences from the record of a training that shapes cannot show."""

import gin
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run.checks import training_record
from tests.hypergrid_mtf import mtf_testing

FFN = {"encoder": "encoder/block_000/layer_001"}
FFN["decoder"] = "decoder/block_000/layer_002"
BOTH = """
encoder/HyperGrid.gate = 'two_sigmoid'
decoder/HyperGrid.gate = 'sigmoid'
"""
SWAPPED = """
encoder/HyperGrid.gate = 'sigmoid'
decoder/HyperGrid.gate = 'two_sigmoid'
"""


def _trained(folder, *model):
  """Writes the record of a training, as gin writes it."""
  gin.clear_config()
  mtf_testing.small_model(*model)
  text = gin.operative_config_str()
  (folder / "operative_config.gin").write_text(text)
  return text


def _differences(folder, *model):
  now = training_record.facts(mtf_testing.small_model(*model))
  return training_record.differences(
    now, training_record.trained_facts(str(folder))
  )


def test_gates_of_encoder_and_decoder_that_are_swapped(tmp_path):
  _trained(tmp_path, "L2", BOTH)
  assert not _differences(tmp_path, "L2", BOTH)
  found = _differences(tmp_path, "L2", SWAPPED)
  assert {(place, name) for place, name, _, _ in found} == {
    (f"{stack}/block_00{i}/layer_00{layer}", "HyperGrid.gate")
    for stack, layer in (("encoder", 1), ("decoder", 2))
    for i in (0, 1)
  }
  values = {place: (now, then) for place, _, now, then in found}
  assert values[FFN["encoder"]] == ("sigmoid", "two_sigmoid")
  said = training_record.describe(found)
  assert (
    "HyperGrid.gate of decoder/block_000/layer_002 is 'two_sigmoid' here"
    in said
  )
  assert "3 more differ" in said


@pytest.mark.parametrize(
  ("binding", "name", "now", "then"),
  [
    (
      "HyperGrid.condition_on = 'task_token'",
      "HyperGrid.condition_on",
      "task_token",
      "first_token",
    ),
    (
      "DenseReluDense.activation = 'gelu'",
      "DenseReluDense.activation",
      ["gelu"],
      ["relu"],
    ),
    ("num_heads = 4\nd_kv = 4", "SelfAttention.num_heads", 4, 2),
    (
      "SelfAttention.fold_scaling_into_initializer = False",
      "SelfAttention.fold_scaling_into_initializer",
      False,
      True,
    ),
    (
      "sublayer_rms_norm.epsilon = 0.1",
      "sublayer_rms_norm.epsilon",
      0.1,
      1e-6,
    ),
    (
      "mesh_tensorflow.layers.unit_scaling_convention.value = True",
      "unit_scaling_convention.value",
      True,
      False,
    ),
    (
      "VocabEmbedding.scale_variable_like_classifier_weights = True",
      "VocabEmbedding.scale_variable_like_classifier_weights",
      True,
      False,
    ),
  ],
)
def test_what_leaves_no_trace_in_shapes(tmp_path, binding, name, now, then):
  _trained(tmp_path, "L2")
  found = _differences(tmp_path, "L2", binding)
  assert (name, now, then) in [f[1:] for f in found]


@pytest.mark.parametrize(
  "binding",
  [
    "",
    "dropout_rate = 0.5",
    "HyperGrid.contraction = 'weights'",
    "HyperGrid.zero_init = True",
    "decoder/Unitransformer.label_smoothing = 0.1",
    "Unitransformer.z_loss = 0.0",
    "SelfAttention.z_loss_coeff = 0.1",
    "LayerStack.recompute_grads = True",
    "HyperGrid.activation = ['relu']",
  ],
)
def test_what_belongs_to_training_alone_may_change(tmp_path, binding):
  _trained(tmp_path, "L2")
  assert not _differences(tmp_path, "L2", binding)


def test_the_activation_of_an_adapter(tmp_path):
  _trained(tmp_path, "peers/adapter")
  assert not _differences(tmp_path, "peers/adapter")
  binding = "Adapter.activation = 'relu'"
  found = _differences(tmp_path, "peers/adapter", binding)
  assert {name for _, name, _, _ in found} == {
    "SelfAttention.adapter_activation",
    "DenseReluDense.adapter_activation",
  }


def test_a_vanilla_source_is_compared_in_what_both_have(tmp_path):
  _trained(tmp_path, "vanilla")
  assert not _differences(tmp_path, "L2")
  found = _differences(tmp_path, "L2", "DenseReluDense.activation = 'gelu'")
  assert {f[1] for f in found} == {"DenseReluDense.activation"}


def test_old_names_of_norms_are_the_same_function(tmp_path):
  """As the public T5 1.0 configurations have them."""
  _trained(
    tmp_path,
    "vanilla",
    "LayerStack.dropout_rate = 0.1\nLayerStack.norm_epsilon = 1e-6",
  )
  assert not _differences(tmp_path, "L2")


def test_the_configuration_is_as_before(tmp_path):
  _trained(tmp_path, "L2", BOTH)
  mtf_testing.small_model("vanilla")
  before = gin.config_str(), gin.operative_config_str()
  assert training_record.trained_facts(str(tmp_path))
  assert (gin.config_str(), gin.operative_config_str()) == before
  gin.finalize()
  training_record.trained_facts(str(tmp_path))
  assert gin.config_is_locked()
  assert not training_record.trained_facts(str(tmp_path / "none"))


@pytest.mark.parametrize("size", [0, 700])
def test_a_damaged_record_is_said(tmp_path, size):
  text = _trained(tmp_path, "L2")
  path = tmp_path / "operative_config.gin"
  path.write_text(text[:size])
  with pytest.raises(
    errors.UserError, match=f"{path}.* does not describe a model"
  ):
    training_record.trained_facts(str(tmp_path))


def test_a_gate_whose_module_is_not_imported_is_said(tmp_path):
  text = _trained(tmp_path, "L2")
  text = text.replace("HyperGrid.gate = 'sigmoid'", "HyperGrid.gate = @mine")
  (tmp_path / "operative_config.gin").write_text(text)
  with pytest.raises(errors.UserError, match="names @mine, .*--module_import"):
    training_record.trained_facts(str(tmp_path))
