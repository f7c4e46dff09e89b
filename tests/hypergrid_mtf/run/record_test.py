"""A trained model is read from the record of its training, in every mode."""

import json
import shutil

import gin
import pytest

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import checks, config, devices, records, settle
from hypergrid_mtf.run.checks import training_record
from tests import testing
from tests.hypergrid_mtf.run import configuration

VARIANTS = ("vanilla", "L2", "LG", "GL", "GG", "row", "col", "two_sigmoid")
GIVEN = {
  "train": ["run.train_steps = 9"],
  "eval": ["eval.gin"],
  "perplexity_eval": ["perplexity_eval.gin"],
  "infer": ["infer.gin", "input_filename = IN", "output_filename = OUT"],
  "score_from_strings": [
    "score_from_file.gin",
    *("inputs_filename = IN", "targets_filename = IN", "scores_filename = OUT"),
  ],
  "score_from_dataset": ["score_from_task.gin", "scores_filename = OUT"],
  "export_infer": ["run.mode = 'export_infer'"],
  "export_score": ["run.mode = 'export_score'"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """{variant: model_dir} of trained nano models."""
  found = {}
  for variant in VARIANTS:
    file = "L2" if variant == "two_sigmoid" else variant
    folder = tmp_path_factory.mktemp(variant)
    gate = ["HyperGrid.gate = 'two_sigmoid'"] * (variant != file)
    files = ("models/nano.gin", f"hypergrid/{file}.gin", *configuration.DATA)
    run = configuration.make_run(
      *gate,
      "run.train_steps = 7",
      "MIXTURE_NAME = 'embedded_copy_v1'",  # eight tasks take longer to read
      "run.sequence_length = {'inputs': 24, 'targets': 12}",
      files=files,
      model_dir=folder,
    )
    settle.settle(run)
    testing.write_checkpoint(folder, checkpoints.variable_shapes(run.model))
    records.write_start(run)
    # What is bound, and of what was built also the defaults, as gin writes it.
    text = gin.config_str() + gin.operative_config_str()
    (folder / config.RECORD).write_text(text)
    found[variant] = folder
  gin.clear_config()
  return found


def _read(folder, given, tmp_path, record=()):
  (tmp_path / "in").write_text("copy: ab\n")
  names = {"IN": f"'{tmp_path}/in'", "OUT": f"'{tmp_path}/out'"}
  bindings = [g for g in given if " = " in g]
  for name, path in names.items():
    bindings = [b.replace(f"= {name}", f"= {path}") for b in bindings]
  files = (*record, *(g for g in given if " = " not in g))
  run = configuration.make_run(*bindings, files=files, model_dir=folder)
  settle.settle(run)
  return run


@pytest.mark.parametrize("mode", GIVEN)
def test_model_dir_alone_says_which_model_it_is(
  folders, mode, tmp_path, monkeypatch, capsys
):
  # One after the other: what a variant changes is what its layers record.
  for variant, folder in folders.items():
    run = _read(folder, GIVEN[mode], tmp_path)
    assert run.mode == mode
    said = capsys.readouterr().out
    assert f"using the configuration in {folder}/operative_config" in said
    assert run.lengths == {"inputs": 24, "targets": 12}
    if variant in ("vanilla", "L2"):
      checks.check_run(run)
    else:  # all but the graph of the shapes, which takes its time
      checks.config.check_bindings(run)
      checks.training_record.check_same_function(run.model, run.model_dir)


@pytest.mark.parametrize("mode", GIVEN)
def test_the_record_is_a_gin_file_as_t5_takes_it(
  folders, mode, tmp_path, capsys
):
  record = str(folders["L2"] / config.RECORD)
  run = _read(folders["L2"], GIVEN[mode], tmp_path, (record,))
  checks.check_run(run)
  assert "using the configuration" not in capsys.readouterr().out


def test_devices_of_another_machine_are_not_asked_for(
  folders, tmp_path, monkeypatch
):
  text = (folders["L2"] / config.RECORD).read_text()
  assert "run.mesh_devices = ['cpu:0']" in text
  record = tmp_path / "gpus.gin"
  record.write_text(
    text.replace("['cpu:0']", "['gpu:0', 'gpu:1']").replace(
      "model:1,batch:1", "model:1,batch:2"
    )
  )
  monkeypatch.setattr(devices, "present", lambda: ["cpu:0"])
  run = _read(folders["L2"], GIVEN["eval"], tmp_path, (str(record),))
  assert run.mesh.settles["run.mesh_devices"] == ["cpu:0"]
  assert run.mesh.shape.size == 1
  # What the user asks for stays.
  asked = [*GIVEN["eval"], "run.mesh_shape = 'batch:2'"]
  run = _read(folders["L2"], asked, tmp_path, (str(record),))
  assert run.mesh.shape.size == 2


def test_what_is_not_as_in_the_training_is_said(folders, tmp_path):
  folder = tmp_path / "L2"
  shutil.copytree(folders["L2"], folder)
  run = _read(folder, GIVEN["eval"], tmp_path)
  assert not training_record.note_lengths(
    run
  ) and not training_record.note_data(run)
  data = folder / records.DATA
  found = json.loads(data.read_text())
  found["t5"], found["task embedded_copy_v1"] = "0.1", "another > steps"
  data.write_text(json.dumps(found))
  lengths = "run.sequence_length = {'inputs': 16, 'targets': 12}"
  lines = checks.list_notes(_read(folder, [*GIVEN["eval"], lengths], tmp_path))
  for words in (
    "with {'inputs': 24, 'targets': 12} (operative_config.gin)",
    "was '0.1' in the training",
    "task embedded_copy_v1 is ",
  ):
    assert sum(words in line for line in lines) == 1, lines
