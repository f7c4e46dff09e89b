"""One export of random weights, for the tests of what is served."""

import pytest

from tests import program
from tests.tools.serving import export_test


@pytest.fixture(scope="package")
def model_dir(tmp_path_factory):
  """A model_dir of the embedded tasks."""
  return export_test.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="package")
def saved_model(model_dir, tmp_path_factory):
  """What tools.export makes of it."""
  folder = tmp_path_factory.mktemp("export") / "saved"
  given = [
    f"--model_dir={model_dir}",
    f"--output_dir={folder}",
    f"--max_output_tokens={export_test.OUTPUTS}",
    f"--max_target_tokens={export_test.OUTPUTS}",
  ]
  with pytest.MonkeyPatch.context() as patch:
    program.run("tools.export", given, patch)
  return folder
