"""What is bound before a run, and how often its folder is read."""

import re

import gin
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import checks, config, request, settle
from hypergrid_mtf.run.checks import config as config_checks
from hypergrid_mtf.run.checks import mode, sizes
from t5_tasks import vocabularies
from tests import testing
from tests.hypergrid_mtf.run import configuration
from tests.hypergrid_mtf.run.configuration import EMBEDDED

EVAL = (*EMBEDDED, "eval.gin")
SCORE = (
  "include 'score_from_file.gin'",
  "inputs_filename = 'in'",
  "targets_filename = 'out'",
  "scores_filename = '/tmp/scores'",
)


def _settled(*given, **kwargs):
  run = configuration.make_run(*given, **kwargs)
  settle.settle(run)
  return run


def test_the_vocabulary_is_kept_with_the_training():
  """So that its folder alone is enough to open the model."""
  run = _settled("--vocabulary=bytes", "MIXTURE_NAME = 'glue_cola_v002'")
  try:
    assert run.mixture
    assert "use_vocabulary.name = 'bytes'" in gin.operative_config_str()
  finally:
    vocabularies.use_vocabulary("t5")


def test_the_batch_of_t5s_eval_file_is_made_to_fit(capsys):
  # 32,768 tokens are 1,365 rows of 24 and a rest.
  run = _settled(files=EVAL)
  assert config.value("run.batch_size") == ("tokens_per_replica", 32760)
  sizes.check_batch_size(run)
  said = capsys.readouterr().out
  assert "32760" in said and "32768 tokens (eval.gin, line " in said
  _settled("run.sequence_length = 32", files=EVAL)
  assert config.value("run.batch_size") == ("tokens_per_replica", 32768)
  assert not capsys.readouterr().out
  # What the user gives is not changed.
  for given, says in (
    ("run.batch_size = ('tokens_per_replica', 1000)", "not a multiple of the"),
    ("run.sequence_length = None", "'sequences_per_replica', 32"),
  ):
    with pytest.raises(errors.UserError, match=says):
      sizes.check_batch_size(_settled(given, files=EVAL))


def test_sizes_that_t5_takes():
  for text in (
    "run.sequence_length = 24",
    "run.sequence_length = {'inputs': 24, 'targets': 48}",
    "run.batch_size = 3",
    "run.batch_size = ('tokens_per_batch', 240)",
    "run.batch_size = ['sequences_per_replica', 7]",
  ):
    run = _settled(text)
    sizes.check_lengths(run)
    sizes.check_batch_size(run)
  sizes.check_lengths(
    _settled("run.mode = 'eval'", "run.sequence_length = None")
  )


def test_what_follows_a_training_ends_with_it(tmp_path):
  stop = "get_checkpoint_iterator.stop_after"
  follows = "run.eval_checkpoint_step = None", "run.train_steps = 9"
  variables = {"shared/embedding": (384, 128)}
  testing.write_checkpoint(tmp_path / "at", variables, steps=(9,))
  testing.write_checkpoint(tmp_path / "past", variables, steps=(10,))
  for given, folder, ends in (
    (follows, "begins", 9),
    (follows, "at", 9),
    (follows, "past", None),  # of another training
    ((*follows, f"{stop} = 5"), "at", 5),
    (("run.eval_checkpoint_step = 9", "run.train_steps = 9"), "at", None),
  ):
    _settled(*given, files=EVAL, model_dir=tmp_path / folder)
    assert config.value(stop) == ends, given


def test_where_results_go(tmp_path, capsys):
  files = (*EMBEDDED, "infer.gin")
  out = f"output_filename = '{tmp_path}/new/out'"
  run = _settled("input_filename = 'in'", out, files=files)
  mode.check_mode(run)
  assert run.results == f"{tmp_path}/new/out-*" and (tmp_path / "new").is_dir()
  assert run.input_files == (("decode_from_file.input_filename", "in"),)
  mode.check_mode(
    _settled(
      "input_filename = 'in'", "output_filename = 'gs://b/x'", files=files
    )
  )
  # Scores and answers have folders of their own.
  for file, end in (("eval.gin", ""), ("score_eval.gin", "_scores")):
    run = _settled(
      "run.dataset_split = 'test'",
      files=(*EMBEDDED, file),
      model_dir=tmp_path,
    )
    assert run.results == f"{tmp_path}/test_eval{end}"
  assert config.value("run.eval_dir_suffix") == "scores"
  run = _settled("run.eval_dir_suffix = 'b'", files=EVAL, model_dir="m")
  assert run.results == "m/train_eval_b"
  # An export has a folder, and a scoring one checkpoint.
  _settled("run.mode = 'export_infer'", model_dir="m")
  assert config.value("run.export_path") == "m/export"
  capsys.readouterr()
  run = _settled(*SCORE)
  mode.check_mode(run)
  assert run.results == "/tmp/scores.*"
  assert config.value("run.eval_checkpoint_step") == -1
  assert "the last checkpoint is scored" in capsys.readouterr().out
  _settled(*SCORE, "run.eval_checkpoint_step = [2]")
  assert config.value("run.eval_checkpoint_step") == [2]


def test_an_evaluation_here_decodes_as_it_is_told():
  local = "experiments/local_eval.gin"
  configuration.parse(files=(*EMBEDDED, "beam_search.gin", local))
  assert config.value("Bitransformer.decode.beam_size") == 4
  assert config.value("Bitransformer.decode.max_decode_length") == 128
  configuration.parse(files=(*EMBEDDED, local))
  assert config.value("Bitransformer.decode.beam_size") is None  # t5's own
  both = ("sample_decode.gin", "beam_search.gin")
  with pytest.raises(errors.UserError, match="temperature = 1.0 .sample_deco"):
    config_checks.check_decoding(_settled(files=(*EVAL, *both)))
  # t5's file goes back to one beam.
  config_checks.check_decoding(_settled(files=(*EVAL, *both[::-1])))


@pytest.mark.parametrize("name", ["glue", "super_glue", "glue_super_glue"])
def test_a_training_needs_a_checkpoint_or_none_on_purpose(name):
  file = f"experiments/{name}.gin"
  files = ("models/nano.gin", "hypergrid/L2.gin", file)
  with pytest.raises(errors.UserError) as e:
    config_checks.check_bindings(_settled(files=files))
  says = str(e.value)
  assert re.match(rf"{file}, line \d+: {request.START} is required: ", says)
  assert "/model.ckpt-STEP'" in says and "or None" in says
  run = _settled("run.init_checkpoint = None", files=files)
  config_checks.check_bindings(run)
  assert run.init_checkpoint is None and not run.is_warm_start


def test_what_loads_checkpoints_of_its_own_is_not_asked(tmp_path):
  files = ("models/nano.gin", "hypergrid/L2.gin", "experiments/glue.gin")
  for mode_ in ("eval", "infer", "export_infer"):
    config_checks.check_bindings(_settled(f"run.mode = '{mode_}'", files=files))
    assert config.value(request.START, "not bound") is None
    gin.finalize()  # would raise what gin says of it
  testing.write_checkpoint(tmp_path, {}, steps=(5,))
  config_checks.check_bindings(_settled(files=files, model_dir=tmp_path))
  assert config.value(request.START, "not bound") is None


def test_a_start_looks_at_most_twice_for_a_checkpoint(tmp_path, monkeypatch):
  """Each look is a round trip on gs://."""
  testing.write_checkpoint(tmp_path / "source", {}, steps=(5,))
  looks = []
  for name in ("latest_checkpoint", "get_checkpoint_state"):
    original = getattr(tf.train, name)
    monkeypatch.setattr(
      tf.train,
      name,
      lambda *args, original=original: looks.append(args) or original(*args),
    )
  start = f"run.init_checkpoint = '{tmp_path}/source'"
  for given in (
    ["--model_dir=" + str(tmp_path / "new")],
    ["--model_dir=" + str(tmp_path / "new"), start, "run.train_steps = 9"]
    + ["--allow_partial_warm_start"],
    ["--model_dir=" + str(tmp_path / "source"), "run.mode = 'infer'"],
  ):
    looks.clear()
    one_task = "MIXTURE_NAME = 'embedded_copy_v1'"
    run = configuration.make_run(*given, one_task)
    try:
      configuration.check(run)
      checks.list_notes(run)
    except errors.UserError:
      assert run.mode == "infer"
    # Its own folder once; and once the one that it starts from.
    assert len(looks) == len({args[0] for args in looks}) <= 2


def _touch(folder, *steps):
  names = [f"model.ckpt-{step}" for step in steps]
  for name in names:
    (folder / f"{name}.index").touch()
  tf.train.update_checkpoint_state(str(folder), names[-1], names)


@pytest.mark.parametrize(
  ("asked", "lost", "left", "says"),
  [
    # One that is removed while it is read, and one that comes after it.
    ("'all'", [4], [6, 8], "the checkpoint of step 4: continuing with 6, 8"),
    ("'all'", [2, 4, 6], [8], "continuing with 8"),
    ("[4, 8]", [4], [8], "continuing with 8"),
    # The newest, and whatever comes.
    ("-1", [8], -1, "continuing with 10"),
    ("None", [8], None, "continuing with 10"),
    ("4", [4], errors.UserError, "checkpoint of step 4 .*keep_checkpoint_max"),
    ("[4]", [4], errors.UserError, "removed the checkpoint of step 4"),
    # Nothing is gone: a fault of another kind.
    ("'all'", [], False, ""),
    ("-1", [], False, ""),
  ],
)
def test_a_reader_goes_on_without_the_checkpoints_that_a_training_removed(
  asked, lost, left, says, tmp_path, capsys
):
  _touch(tmp_path, 2, 4, 6, 8)
  run = _settled(
    f"run.eval_checkpoint_step = {asked}", files=EVAL, model_dir=tmp_path
  )
  assert gin.query_parameter("get_checkpoint_iterator.find_closest") is False
  assert run.read
  newest = asked in ("-1", "None")
  for step in lost:
    (tmp_path / f"model.ckpt-{step}.index").unlink()
  if newest and lost:
    _touch(tmp_path, 10)
  reads = tmp_path / f"model.ckpt-{8 if newest else 4}"
  gin.finalize()  # as t5 leaves it
  if left is errors.UserError:
    with pytest.raises(errors.UserError, match=says):
      settle.settle_removed(run, str(reads))
    return
  assert settle.settle_removed(run, str(reads)) is (left is not False)
  if left is not False:
    assert config.value("run.eval_checkpoint_step") == left
  assert re.search(says, capsys.readouterr().out)


def test_a_checkpoint_that_is_gone_before_it_is_read_is_passed_over(
  tmp_path, capsys
):
  """As in `score_eval`, whose estimator is given no checkpoint."""
  _touch(tmp_path, 2, 4)
  asked = "run.eval_checkpoint_step = 'all'"
  run = _settled(asked, files=EVAL, model_dir=tmp_path)
  assert len(run.read) == 2
  (tmp_path / "model.ckpt-2.index").unlink()
  assert settle.settle_removed(run, None)
  assert config.value("run.eval_checkpoint_step") == [4]
  # All that were left went before one of them was read.
  (tmp_path / "model.ckpt-4.index").unlink()
  _touch(tmp_path, 6)
  capsys.readouterr()
  assert settle.settle_removed(run, str(tmp_path / "model.ckpt-2"))
  assert config.value("run.eval_checkpoint_step") == [6]
  assert "removed the checkpoint of step 4" in capsys.readouterr().out
