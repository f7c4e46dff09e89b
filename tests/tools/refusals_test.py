"""What programs refuse first, in a sentence, before anything is read."""

import pytest

from hypergrid_mtf import errors
from tests import program


@pytest.mark.parametrize(
  ("name", "given", "says"),
  [
    ("tools.dev.golden", [], "--output_dir is needed"),
    (
      "tools.dev.golden",
      ["--output_dir=x", "--sizes=tiny,huge"],
      "--sizes=huge is unknown: choose from .*tiny",
    ),
    ("tools.dev.golden", ["--output_dir=x", "--sizes="], "--sizes= is empty"),
    (
      "tools.sweep",
      ["--sweep=embedded.sweep", "--output_dir=x", "--seeds=0,one"],
      "--seeds=0,one are not seeds: give different integers",
    ),
    (
      "tools.sweep",
      ["--sweep=embedded.sweep", "--output_dir=x", "--seeds=1,1"],
      "--seeds=1,1 are not seeds",
    ),
    ("tools.train_vocabulary", [], "--mixture is missing: see --help"),
    (
      "tools.train_vocabulary",
      ["--mixture=embedded_v1"],
      "--output is missing: see --help",
    ),
  ],
)
def test_flags_that_are_missing_or_wrong(
  name, given, says, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(errors.UserError, match=says):
    program.run(name, given, monkeypatch)
  assert not list(tmp_path.iterdir())
