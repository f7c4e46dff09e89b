"""tools.warm_start: what is said of a checkpoint, and of the function."""

import json

import gin
import pytest
from absl import flags

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import gin_model, vocabulary_file
from tests import program
from tests.hypergrid_mtf import published
from tools import warm_start
from tools.cost import models

GIN_FILES = ["models/micro.gin", "hypergrid/L2.gin"]
# As models/base.gin has it, being mesh_tensorflow's default.
BFLOAT16 = ["utils.get_variable_dtype.master_dtype = 'bfloat16'"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return published.write(
    str(tmp_path_factory.mktemp("published") / "model.ckpt"), "micro"
  )


def test_the_function_under_both_forms_of_the_gate(checkpoint):
  table = warm_start.compare(checkpoint, GIN_FILES, BFLOAT16, 2)
  table = table.set_index("gate")
  unchanged, changed = table.loc["two_sigmoid"], table.loc["sigmoid"]
  assert unchanged["largest difference"] < 1e-5 * unchanged["largest logit"]
  assert unchanged["same token"] == 1
  assert changed["largest difference"] > 0.01 * changed["largest logit"]


def test_weights_of_another_type_are_refused(checkpoint):
  with pytest.raises(errors.UserError, match="master_dtype = 'bfloat16'"):
    warm_start.compare(checkpoint, GIN_FILES, [], 2)


def test_slots_are_those_of_the_optimizer(checkpoint):
  found = warm_start.shapes_there(checkpoint)
  # The experiment requires a checkpoint of a run; a look at the model does not.
  files = [*GIN_FILES, "experiments/glue.gin"]
  with gin_model.configured(files, (), models.VOCAB_SIZE) as model:
    warm = warm_start.taken(model, found)
  assert not warm.unexpected
  assert {checkpoints.legacy_name(n) for n in warm.loaded} == set(
    published.shapes("micro")
  )
  assert "encoder/final_layer_norm/scale" in found
  assert len(warm.slots) >= len(warm.loaded)


def test_shapes_stand_in_for_a_checkpoint(tmp_path):
  shapes = published.shapes("11B")
  path = tmp_path / "11B.json"
  path.write_text(json.dumps(shapes))
  found = warm_start.shapes_there(str(path))
  gin_files = ["models/11B.gin", "hypergrid/L2.gin"]
  size = warm_start.vocab_size(found, str(path))
  with gin_model.configured(gin_files, (), size) as model:
    warm = warm_start.taken(model, found)
  assert len(warm.loaded) == len(shapes) and not warm.unexpected
  assert all("/hypergrid/" in name for name in warm.fresh)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}'])
def test_what_is_no_list_of_shapes_is_refused(tmp_path, text):
  path = tmp_path / "x.json"
  path.write_text(text)
  with pytest.raises(errors.UserError, match="holds no names and shapes"):
    warm_start.shapes_there(str(path))


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match="has no shared/embedding"):
    warm_start.vocab_size({"dense/kernel": (2, 2)}, "x")


def test_a_checkpoint_by_any_of_its_names(checkpoint, tmp_path):
  folder = checkpoint.rsplit("/", 1)[0]
  assert checkpoints.of_path(f"{checkpoint}.index", "x") == checkpoint
  with pytest.raises(errors.UserError) as e:  # it has no list of checkpoints
    checkpoints.of_path(folder, "--checkpoint")
  assert "none of those of the steps 999900: give the path" in str(e.value)
  assert str(e.value).endswith(f"such as {checkpoint}.")
  with pytest.raises(errors.UserError, match="no file none.index"):
    warm_start.shapes_there(str(tmp_path / "none"))


def test_another_function_or_vocabulary_is_refused(tmp_path):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])
  path = str(tmp_path / "model.ckpt-1")
  with gin_model.configured(GIN_FILES, (), models.VOCAB_SIZE):
    config = tmp_path / "operative_config.gin"
    config.write_text(gin.operative_config_str())
  with gin_model.configured(GIN_FILES, (), models.VOCAB_SIZE) as model:
    warm_start.check_source(model, path)
  other = ["HyperGrid.gate = 'two_sigmoid'"]
  with (
    gin_model.configured(GIN_FILES, other, models.VOCAB_SIZE) as model,
    pytest.raises(errors.UserError, match="HyperGrid.gate of .*--allow_part"),
  ):
    warm_start.check_source(model, path)
  vocabulary_file.write(str(tmp_path), {"targets": {"described": "/a.model"}})
  flags.FLAGS.vocabulary = "bytes"
  try:
    with (
      gin_model.configured(GIN_FILES, (), models.VOCAB_SIZE) as model,
      pytest.raises(errors.UserError, match="bytes with 100 .* /a.model in"),
    ):
      warm_start.check_source(model, path)
  finally:
    flags.FLAGS["vocabulary"].unparse()


def test_the_command(tmp_path, monkeypatch, capsys):
  path = tmp_path / "base.json"
  path.write_text(json.dumps(published.shapes("base")))
  given = f"--checkpoint={path}", "--gin_file=models/base.gin"
  code = program.run(
    "tools.warm_start", [*given, "--gin_file=hypergrid/L2.gin"], monkeypatch
  )
  assert code == 0 and "48" in capsys.readouterr().out
