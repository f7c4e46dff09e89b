"""One export of random weights, for the tests of serving."""

import os
import pathlib

import gin
import pytest
import seqio

from t5_tasks import vocabularies
from tests import program
from tests.tools.serving import glue_models, model_dirs

OUTPUTS = 6


@pytest.fixture(autouse=True)
def no_configuration_after():
  yield
  gin.clear_config()


@pytest.fixture(scope="package")
def model_dir(tmp_path_factory):
  """A model_dir of the embedded tasks, each with a token of its own."""
  return model_dirs.make(
    tmp_path_factory.mktemp("model"),
    bindings=(model_dirs.TASK_TOKEN,),
    mixture="embedded_v1_task_token",
  )


@pytest.fixture(scope="package")
def saved_model(model_dir, tmp_path_factory):
  """What tools.export makes of it."""
  folder = tmp_path_factory.mktemp("export") / "saved"
  given = [
    f"--model_dir={model_dir}",
    f"--output_dir={folder}",
    f"--max_output_tokens={OUTPUTS}",
    f"--max_target_tokens={OUTPUTS}",
  ]
  with pytest.MonkeyPatch.context() as patch:
    program.run("tools.export", given, patch)
  return folder


@pytest.fixture(scope="package")
def trained_models(shared_data, tmp_path_factory):
  """`glue_models.Models`."""
  kept = os.environ.get("HYPERGRID_PARITY_DIR")
  root = pathlib.Path(kept) if kept else tmp_path_factory.mktemp("parity")
  models = glue_models.Models(root, shared_data / "glue")
  models.register()
  yield models
  vocabularies.use_vocabulary("t5")
  seqio.set_tfds_data_dir_override(None)
