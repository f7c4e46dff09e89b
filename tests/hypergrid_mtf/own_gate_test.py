"""A gate in a file of its own, outside this repository, by gin alone.

The file is that of docs/variants.md, "Your own gate".
"""

import pathlib
import re

from tests import command

VARIANTS = pathlib.Path(__file__).parents[2] / "docs" / "variants.md"
# In the same file, to be refused.
WRONG = """

@gin.configurable
def of_rows(logits):
  return mtf.reduce_sum(logits, reduced_dim=logits.shape.dims[-1])


@gin.configurable
def misspelt(logits):
  return mtf.tahn(logits)
"""


def test_a_gate_outside_the_package_trains_evaluates_and_is_remembered(
  tmp_path,
):
  section = VARIANTS.read_text().split("## Your own gate")[1]
  (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
  (tmp_path / "my_gate.py").write_text(code + WRONG)
  model_dir = tmp_path / "run"
  model = [
    f"--model_dir={model_dir}",
    "--gin_file=models/nano.gin",
    "--gin_file=hypergrid/L2.gin",
    "--gin_file=experiments/embedded.gin",
    "--gin_param=MIXTURE_NAME = 'embedded_copy_v1'",
    "--gin_param=run.train_steps = 2",
    "--gin_param=run.batch_size = ('sequences_per_batch', 4)",
  ]
  mine = [
    *model,
    "--module_import=my_gate",
    "--gin_param=HyperGrid.gate = @my_gate",
  ]
  evaluates = "--gin_file=experiments/local_eval.gin"
  fresh = f"--model_dir={tmp_path / 'fresh'}"
  got = command.outcomes(
    {
      "train": mine,
      "eval": [*mine, evaluates],
      "sharper": [*mine, evaluates, "--gin_param=my_gate.sharpness = 3.0"],
      "default": [*model, evaluates],
      "of_rows": [*mine, fresh, "--gin_param=HyperGrid.gate = @of_rows"],
      "misspelt": [*mine, fresh, "--gin_param=HyperGrid.gate = @misspelt"],
    },
    tmp_path,
  )
  assert got["train"]["outcome"] == "done", got["train"]["error"]
  assert got["eval"]["outcome"] == "done", got["eval"]["error"]
  assert "step 2" in got["eval"]["said"]
  # The record that gin writes names the gate, and the layer by its gin name.
  record = (model_dir / "operative_config.gin").read_text()
  assert "encoder/HyperGrid.gate = @my_gate\n" in record
  assert "my_gate.sharpness = 1.0" in record
  assert "@hypergrid_mtf.layers.HyperGrid" in record
  for name, words in {
    "sharper": ["HyperGrid.gate.sharpness", "3.0 here and 1.0"],
    "default": ["HyperGrid.gate", "'sigmoid' here and 'my_gate.my_gate'"],
    "of_rows": ["HyperGrid.gate = @my_gate.of_rows", "shape"],
    "misspelt": ["HyperGrid.gate = @my_gate.misspelt", "tahn"],
  }.items():
    assert got[name]["outcome"] == "refused", got[name]
    assert all(w in got[name]["error"] for w in words), got[name]["error"]
