"""Steps that are asked for are there."""

import types

import gin
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import request, steps
from tests.hypergrid_mtf.run import configuration


@pytest.fixture(autouse=True)
def no_bindings_left_behind():
  yield
  gin.clear_config()


@pytest.fixture
def model_dir(tmp_path):
  for step in (60, 20, 100):
    (tmp_path / f"model.ckpt-{step}.index").touch()
    (tmp_path / f"model.ckpt-{step}.data-00000-of-00001").touch()
  return tmp_path


def check(model_dir, mode):
  given = types.SimpleNamespace(model_dir=str(model_dir))
  asked = request.Request(
    mode=mode,
    mixture=None,
    trains=False,
    waits=False,
    split=None,
    input_files=(),
    results="",
  )
  steps.check_steps(asked, given)


MODES = ("eval", "infer", "score_eval", "perplexity_eval", "score_from_strings")


@pytest.mark.parametrize("mode", MODES)
def test_a_step_that_is_not_there_is_not_another_one(model_dir, mode):
  for value in ("[33]", "33", "(20, 33)"):
    configuration.parse(f"run.eval_checkpoint_step = {value}")
    with pytest.raises(errors.UserError) as e:
      check(model_dir, mode)
    message = str(e.value)
    assert "no checkpoint of step 33" in message
    assert "those of 20, 60, 100" in message
    assert f'(--gin_param="run.eval_checkpoint_step = {value}")' in message


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
  "value", ["-2", "[]", "'last'", "40.0", "True", "[-1]", "'20'", "[20, 'all']"]
)
def test_what_is_not_a_step(model_dir, mode, value):
  configuration.parse(f"run.eval_checkpoint_step = {value}")
  with pytest.raises(errors.UserError, match="is not a step.*-1 for the last"):
    check(model_dir, mode)


def test_steps_that_are_there(model_dir):
  for value in ("-1", "'all'", "None", "20", "[100, 20]", "(60,)"):
    configuration.parse(f"run.eval_checkpoint_step = {value}")
    for mode in MODES:
      check(model_dir, mode)


def test_an_export_takes_one_step(model_dir):
  for value in ("-1", "None", "60", "[60]"):
    configuration.parse(f"run.export_checkpoint_step = {value}")
    check(model_dir, "export_infer")
  for value, words in (
    ("33", "no checkpoint of step 33"),
    ("'all'", "is not a step"),
    ("[20, 60]", "one can be exported"),
    ("0", "no checkpoint of step 0"),
  ):
    configuration.parse(f"run.export_checkpoint_step = {value}")
    with pytest.raises(errors.UserError, match=words):
      check(model_dir, "export_score")
  (model_dir / "model.ckpt-0.index").touch()
  with pytest.raises(errors.UserError, match="taken for the last step"):
    check(model_dir, "export_infer")
