"""The configuration that each evaluation leaves beside its scores."""

import os

import gin
import mesh_tensorflow.transformer.utils  # noqa: F401  (run)
import pytest

from hypergrid_mtf.launch import eval_config, request
from tools.experiments import evaluation


@pytest.fixture
def asked(tmp_path):
  yield request.Request(
    mode="eval",
    mixture="embedded_copy_v1",
    trains=False,
    waits=False,
    split="test",
    input_files=(),
    results=str(tmp_path / "test_eval"),
  )
  gin.clear_config()


def test_each_evaluation_leaves_its_own(tmp_path, asked):
  (tmp_path / "test_eval").mkdir()
  (tmp_path / "test_eval" / "config.gin").write_text("# of before")
  for examples in (3, None):
    gin.clear_config()
    gin.parse_config(
      f"run.dataset_split = 'test'\nrun.perplexity_eval_steps = {examples}"
    )
    eval_config.write(asked, str(tmp_path), from_api=False)
  (_, old), (early, first), (late, second) = eval_config.find(asked.results)
  assert os.path.basename(old) == "config.gin" and early < late
  for path, examples in ((first, "3"), (second, "None")):
    found = evaluation.bindings(path)
    assert found["run.perplexity_eval_steps"] == examples
    assert found["run.dataset_split"] == "'test'"


def test_the_api_has_its_own_split_and_the_configuration_of_the_training(
  tmp_path, asked
):
  (tmp_path / "operative_config.gin").write_text(
    "Bitransformer.decode.beam_size = 2\nrun.dataset_split = 'train'\n"
  )
  gin.clear_config()
  gin.parse_config("run.dataset_split = 'validation'\nrun.mode = 'train'")
  eval_config.write(asked, str(tmp_path), from_api=True)
  ((_, path),) = eval_config.find(asked.results)
  found = evaluation.bindings(path)
  assert found["run.dataset_split"] == "'test'"
  assert found["run.mode"] == "'eval'"
  assert found["Bitransformer.decode.beam_size"] == "2"
