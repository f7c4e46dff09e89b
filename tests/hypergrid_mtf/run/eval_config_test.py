"""The configuration that each evaluation leaves beside its scores."""

import os

import gin
import mesh_tensorflow.transformer.utils  # noqa: F401  (run)

from hypergrid_mtf.run import eval_config
from tools.experiments import evaluation


def test_each_evaluation_leaves_its_own(tmp_path):
  folder = str(tmp_path / "test_eval")
  (tmp_path / "test_eval").mkdir()
  (tmp_path / "test_eval" / "config.gin").write_text("# of before")
  for examples in (3, None):
    gin.clear_config()
    gin.parse_config(
      f"run.dataset_split = 'test'\nrun.perplexity_eval_steps = {examples}"
    )
    eval_config.write(folder)
  (_, old), (early, first), (late, second) = eval_config.find(folder)
  assert os.path.basename(old) == "config.gin" and early < late
  for path, examples in ((first, "3"), (second, "None")):
    found = evaluation.bindings(path)
    assert found["run.perplexity_eval_steps"] == examples
    assert found["run.dataset_split"] == "'test'"
  gin.clear_config()
