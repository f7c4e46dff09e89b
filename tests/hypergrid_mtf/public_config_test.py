"""A public operative_config.gin before this project's files, on a CPU."""

import pathlib

import pytest

from hypergrid_mtf.run import config
from tests.hypergrid_mtf.command_line import GraphReached


def test_a_public_operative_config_works_with_our_files(run, capsys):
  public = pathlib.Path(__file__).with_name("public_operative_config.gin")
  with pytest.raises(GraphReached):
    run(
      f"--gin_file={public}",
      "--gin_file=models/tiny.gin",
      "--gin_file=hypergrid/L2.gin",
      "--gin_file=experiments/embedded.gin",
      "--gin_param=mesh_train_dataset_fn.pack = True",
    )
  said = capsys.readouterr().out
  # tensor2tensor is not installed, and there is no pod.
  assert config.value("pack_dataset.use_custom_ops") is False
  assert f"tensor2tensor's, which is not installed ({public}, line " in said
  assert config.value("run.mesh_shape") == "model:1,batch:1"
  assert "tpu_mesh_shape.tpu_topology = '8x8' is not used" in said
  # Sizes and mixture are of the files that came after it.
  assert config.value("decoder/DenseReluDense.hidden_size") == 512
  assert config.value("mesh_train_dataset_fn.mixture_or_task_name") == (
    "embedded_v1"
  )
  # The macro that nothing reads is the file's own affair.
  assert "init_checkpoint" not in said
