"""Steps that are asked for are there."""

import gin
import pytest
from absl import flags as absl_flags

from hypergrid_mtf import errors
from hypergrid_mtf.launch import request, steps
from tests.hypergrid_mtf.launch import configuration


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


def check(model_dir, mode, *arguments, api=False):
  given = absl_flags.FLAGS
  given.unparse_flags()
  for name in given:
    given[name].unparse()
  given(
    ["main", f"--model_dir={model_dir}", *arguments]
    + (["--use_model_api", f"--mode={mode}"] if api else [])
  )
  asked = request.Request(
    mode=mode,
    mixture=None,
    trains=False,
    waits=False,
    split=None,
    input_files=(),
    results="",
  )
  try:
    steps.check_steps(asked, given)
  finally:
    for name in given:
      given[name].unparse()


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


@pytest.mark.parametrize(
  ("mode", "arguments", "words"),
  [
    ("eval", ["--checkpoint_steps=20"], "needs --checkpoint_mode=specific"),
    (
      "eval",
      ["--checkpoint_mode=specific", "--checkpoint_steps=20,33"],
      "no checkpoint of step 33",
    ),
    ("eval", ["--checkpoint_mode=specific"], "not a list of steps"),
    (
      "predict",
      ["--checkpoint_mode=specific", "--checkpoint_steps=last"],
      "not a list of steps",
    ),
    ("export_predict", ["--checkpoint_mode=all"], "takes one checkpoint"),
    ("score", ["--checkpoint_mode=all"], "takes one checkpoint"),
    (
      "export_score",
      ["--checkpoint_mode=specific", "--checkpoint_steps=20,60"],
      "takes one checkpoint",
    ),
  ],
)
def test_steps_of_the_model_api(model_dir, mode, arguments, words):
  gin.clear_config()
  with pytest.raises(errors.UserError, match=words):
    check(model_dir, mode, *arguments, api=True)


def test_steps_of_the_model_api_that_are_there(model_dir):
  specific = ["--checkpoint_mode=specific", "--checkpoint_steps=20,100"]
  check(model_dir, "eval", *specific, api=True)
  check(model_dir, "predict", "--checkpoint_mode=all", api=True)
  with pytest.raises(errors.UserError, match="--pretrained_model_dir"):
    check(
      model_dir / "new",
      "finetune",
      "--checkpoint_mode=specific",
      "--checkpoint_steps=33",
      f"--pretrained_model_dir={model_dir}",
      api=True,
    )
