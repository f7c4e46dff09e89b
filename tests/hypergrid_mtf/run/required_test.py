"""What experiment files require is asked of the runs that need it alone."""

import re
import types

import gin
import pytest
import tensorflow.compat.v1 as tf
from absl import flags
from t5.models import mesh_transformer  # noqa: F401  (known to gin)

from hypergrid_mtf import errors, main
from hypergrid_mtf.run import gin_files, gin_model, request, required

GLUE = "experiments/glue.gin"
START = "run.init_checkpoint"
_MODES = ("eval", "score_eval", "perplexity_eval", "infer", "export_infer")


@pytest.fixture
def check(tmp_path):
  """Parses gin files and bindings as main does; what init_checkpoint is."""

  def call(*files, params=(), model_dir=tmp_path / "none"):
    given = types.SimpleNamespace(model_dir=str(model_dir))
    gin_model.parse(files, params)
    mode = gin_files.value("run.mode", "train")
    asked = request.Request(
      mode=mode,
      mixture="m",
      trains=mode == "train",
      waits=False,
      split=None,
      input_files=(),
      results="",
    )
    required.check(asked, given)
    gin.finalize()  # would raise what gin says of it
    return gin_files.value("run.init_checkpoint", "not bound")

  yield call
  gin.clear_config()


def _sentence(check, *args, **kwargs):
  with pytest.raises(errors.UserError) as e:
    check(*args, **kwargs)
  return str(e.value)


@pytest.mark.parametrize("name", ["glue", "super_glue", "glue_super_glue"])
def test_a_training_needs_a_checkpoint_or_none_on_purpose(check, name):
  file = f"experiments/{name}.gin"
  says = _sentence(check, file)
  assert re.match(rf"{file}, line \d+: {START} is required, ", says), says
  assert "/model.ckpt-STEP'" in says and "or None" in says
  for value, found in (("'gs://b/model.ckpt-5'", "gs://b/model.ckpt-5"),) + (
    ("None", None),
  ):
    assert check(file, params=[f"run.init_checkpoint = {value}"]) == found


def test_what_loads_checkpoints_of_its_own_is_not_asked(check, tmp_path):
  for mode in _MODES:
    assert check(GLUE, params=[f"run.mode = '{mode}'"]) is None
  with tf.Graph().as_default(), tf.Session() as session:
    tf.get_variable("global_step", initializer=5)
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, str(tmp_path / "begun" / "model.ckpt-5"))
  assert check(GLUE, model_dir=tmp_path / "begun") is None
  assert check("experiments/local_glue.gin") == "not bound"


def test_any_binding_of_any_file_can_be_required(check, tmp_path):
  deep, own = tmp_path / "deep.gin", str(tmp_path / "own.gin")
  deep.write_text("\nrun.train_steps = %gin.REQUIRED\n")
  (tmp_path / "own.gin").write_text(f"include '{deep}'\nSTART = 'x'\n")
  says = f'{deep}, line 2: run.train_steps is required; give --gin_param="run.'
  for params in ([], ["run.mode = 'eval'"]):
    assert says in _sentence(
      check, "experiments/embedded.gin", own, params=params
    )
  check(own, params=["run.train_steps = 5"])
  says = _sentence(check, params=["N = %gin.REQUIRED", "run.train_steps = %N"])
  assert says.startswith('--gin_param="N = %gin.REQUIRED": N is required')


def test_the_command_says_it_before_data_are_looked_for(tmp_path):
  flags.FLAGS.unparse_flags()
  for name in flags.FLAGS:
    flags.FLAGS[name].unparse()
  flags.FLAGS(
    ["main", f"--model_dir={tmp_path}", "--gin_file=models/nano.gin"]
    + ["--gin_file=hypergrid/L2.gin", f"--gin_file={GLUE}"]
  )
  gin.clear_config()
  try:
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(tf, "disable_v2_behavior", lambda: None)
      with pytest.raises(
        errors.UserError, match=rf"^{GLUE}, line \d+: {START} is"
      ):
        main.main(["main"])
  finally:
    gin.clear_config()
