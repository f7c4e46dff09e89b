"""What programs refuse first, in a sentence, before anything is read."""

import pytest
from absl import flags

from hypergrid_mtf import errors
from tests import program
from tools.cost.tpu import client

# Of each program that compiles for a TPU: what else is given, and what is not
# right in it.
_FOR_TPUS = {
  "tools.tpu_compile": (
    (),
    (
      (("--size=giant",), "--size=giant: value should be one of"),
      (("--variant=L3",), "--variant=L3: value should be one of"),
      (("--variant=L2", "--grid=4"), "--grid=4 is not a grid"),
      (("--packed", "--step=decode"), "--packed is only for training"),
      (("--batch=0",), "--batch=0: 0 is not a positive"),
      (("--mesh_shape=model:0",), "--mesh_shape=model:0 is not a mesh"),
      (("--layout=batch",), "--layout=batch is not a layout"),
      (("--mesh_shape=modle:8",), "names the axis modle.*did you mean model"),
      (("--mesh_shape=model",), "--mesh_shape=model is not a mesh"),
      (
        ("--mesh_shape=model:2,batch:2",),
        "has 4 devices and --topology=v3:2x2",
      ),
      (("--mesh_shape=batch:8", "--batch=6"), "--batch=6 does not divide"),
      (("--size=nano", "--mesh_shape=model:8"), "does not divide among the 8"),
    ),
  ),
  "tools.dev.tpu_layer": (
    ("--size=nano", "--batch=2", "--tokens=4", "--grids=4x4"),
    (
      (("--size=giant",), "--size=giant: value should be one of"),
      (("--steps=test",), "--steps=test is unknown"),
      (("--rows=full",), "--rows=full is unknown"),
      (("--tokens=0",), "--tokens=0: 0 is not a positive"),
      (("--variants=L3",), "--variants=L3 is unknown"),
      (("--grids=5x5",), "does not divide"),
    ),
  ),
  "tools.dev.tpu_execute": (
    ("--size=nano", "--grids=4x4", "--packed", "--inputs=16", "--targets=8"),
    (
      (("--variants=L3",), "--variants=L3 is unknown"),
      (("--microbatches=1,3",), "--microbatches=3 does not divide the 2 sequ"),
      (("--microbatches=two",), "--microbatches=two does not divide"),
      (("--batch=6",), "--batch=6 does not divide"),
      (("--mesh_shape=model:2",), "has 2 devices and --topology=v3:2x2 8"),
      (("--mesh_shape=model:8",), "does not divide among the 8"),
    ),
  ),
}


@pytest.mark.parametrize(
  ("name", "given", "says"),
  [
    ("tools.dev.golden", [], "--output_dir is missing"),
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
    ("to", "input_dir", "--input_dir=x is not used by 'to'"),
    ("from", "model_dir", "--model_dir=x is not used by 'from'"),
    ("from", "module_import", r"--module_import=\['x'\] is not used by 'from'"),
  ],
)
def test_flags_of_the_other_direction(verb, given, says, monkeypatch):
  words = [verb, f"--{given}=x", "--output_dir=y"]
  with pytest.raises(errors.UserError, match=says):
    program.run("tools.huggingface", words, monkeypatch)


@pytest.mark.parametrize("name", _FOR_TPUS)
def test_what_a_tpus_compiler_is_not_asked(
  name, described_tpu, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  usual, wrong = _FOR_TPUS[name]
  for given, says in wrong:
    with pytest.raises((errors.UserError, flags.Error), match=says):
      program.run(name, [*usual, *given], monkeypatch)


@pytest.mark.parametrize("name", ["tools.plan", *_FOR_TPUS])
def test_without_the_compiler_a_sentence_says_how_to_make_it(name, monkeypatch):
  monkeypatch.setattr(client, "PYTHON", client.PYTHON / "no")
  with pytest.raises(errors.UserError, match="make tpu-compiler"):
    program.run(name, [], monkeypatch)
