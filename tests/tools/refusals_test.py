"""What programs refuse first, in a sentence, before anything is read."""

import pytest
from absl import flags

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


@pytest.mark.parametrize(
  ("name", "given"),
  [
    ("tools.export", "--checkpoint_mode=specific"),
    ("tools.export", "--checkpoint_steps=600"),
    ("tools.predict", "--max_target_tokens=3"),
    ("tools.fold", "--gin_param=run.mode = 'eval'"),
    ("tools.gates", "--eval_split=test"),
    ("tools.huggingface", "--batch_size=4"),
    ("tools.submit", "--mixture_or_task=glue_rte_v002"),
    ("tools.cache_tasks", "--seed=1"),
    ("tools.train_vocabulary", "--vocabulary=bytes"),
  ],
)
def test_flags_that_a_program_does_not_read(name, given, monkeypatch):
  with pytest.raises(flags.UnrecognizedFlagError):
    program.parse(name, [given], monkeypatch)


@pytest.mark.parametrize(
  ("verb", "given", "says"),
  [
    ("to", "input_dir", "--input_dir=x is not read by 'to'"),
    ("from", "model_dir", "--model_dir=x is not read by 'from'"),
    ("from", "module_import", r"--module_import=\['x'\] is not read by 'from'"),
  ],
)
def test_flags_of_the_other_direction(verb, given, says, monkeypatch):
  words = [verb, f"--{given}=x", "--output_dir=y"]
  with pytest.raises(errors.UserError, match=says):
    program.run("tools.huggingface", words, monkeypatch)
