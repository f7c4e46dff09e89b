"""What a mode needs beside a model: each sentence names what gives it."""

import types

import gin
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files, mode_checks, request
from t5_tasks import mixtures


@pytest.fixture
def check(tmp_path):
  """Checks a run that is described by lines of gin."""

  def call(*lines):
    gin.clear_config()
    gin_files.add_search_paths()
    gin.parse_config([*lines])
    values = types.SimpleNamespace(model_dir=str(tmp_path))
    asked = request.from_gin(values)
    mixture = mixtures.get_mixture_or_task("embedded_copy_v1")
    mode_checks.check(asked, mixture, values)
    return asked

  yield call
  gin.clear_config()


def _infer(folder):
  return (
    "include 'infer.gin'",
    "input_filename = 'in'",
    f"output_filename = '{folder}/new/out'",
  )


def _score(folder, gin_file="score_from_file.gin"):
  own = "MIXTURE_NAME = 'embedded_copy_v1'"
  if "file" in gin_file:
    own = "inputs_filename = 'in'\ntargets_filename = 'out'"
  return f"include '{gin_file}'", own, f"scores_filename = '{folder}/s'"


def test_what_is_complete_passes(check, tmp_path):
  asked = check(*_infer(tmp_path))
  assert asked.results == f"{tmp_path}/new/out-*"
  assert (tmp_path / "new").is_dir()
  assert asked.input_files == (("decode_from_file.input_filename", "in"),)
  assert check(*_score(tmp_path)).results == f"{tmp_path}/s.*"
  check(*_score(tmp_path, "score_from_task.gin"))
  check("include 'eval.gin'", "MIXTURE_NAME = 'embedded_copy_v1'")
  check(*_infer("gs://bucket"))


@pytest.mark.parametrize(
  ("lines", "words"),
  [
    (
      ["run.mode = 'infer'"],
      ["decode_from_file.input_filename", "infer.gin", "input_filename = '…'"],
    ),
    # The file's name without the file of the mode: the macro is read by none.
    (
      ["run.mode = 'infer'", "input_filename = 'in'"],
      ["decode_from_file.input_filename is not given", "infer.gin"],
    ),
    (
      ["include 'infer.gin'", "input_filename = 'in'"],
      ["output_filename", "'/path/to/inputs'", "output_filename = '…'"],
    ),
    (
      ["include 'infer_from_task.gin'", "MIXTURE_NAME = 'embedded_copy_v1'"],
      ["decode_from_dataset", "'bitransformer'"],
    ),
    (
      [*_score("/tmp"), "run.eval_checkpoint_step = 'all'"],
      ["'all'", "one checkpoint", "-1"],
    ),
    ([*_score("/tmp"), "run.eval_checkpoint_step = [2, 4]"], ["[2, 4]"]),
    ([*_score("/tmp")[:2]], ["scores_filename", "/path/to/scores"]),
    ([*_score("/tmp"), "save_scores.scores_filename = None"], ["not given"]),
    ([*_score("/tmp"), "save_scores.scores_filename = 5"], ["5", "file"]),
    (
      ["run.mode = 'score_from_strings'"],
      ["score_from_strings.targets", "score_from_file.gin"],
    ),
    (
      ["run.mode = 'score_from_dataset'"],
      ["score_from_dataset.score_dataset_fn", "score_from_task.gin"],
    ),
    (["run.mode = 'eval'"], ["run.eval_dataset_fn", "eval.gin"]),
    (["run.mode = 'perplexity_eval'"], ["perplexity_eval.gin"]),
    (
      ["include 'score_eval.gin'", "MIXTURE_NAME = 'embedded_copy_v1'"],
      ["score_eval", "embedded_copy_v1", "'eval'", "score_from_task.gin"],
    ),
    ([*_infer("/proc/nowhere")], ["output_filename", "cannot be written"]),
    (
      ["run.mode = 'export_infer'", "run.export_path = '/proc/nowhere'"],
      ["run.export_path", "cannot be written"],
    ),
  ],
  ids=lambda value: str(value)[:40],
)
def test_what_is_missing_is_named(check, lines, words):
  with pytest.raises(errors.UserError) as e:
    check(*lines)
  for word in words:
    assert word in str(e.value)


def test_scoring_takes_the_last_checkpoint_and_says_so(check, tmp_path, capsys):
  check(*_score(tmp_path))
  assert gin_files.value("run.eval_checkpoint_step") == -1
  assert "the last checkpoint is scored" in capsys.readouterr().out
  check(*_score(tmp_path), "run.eval_checkpoint_step = [2]")
  assert gin_files.value("run.eval_checkpoint_step") == [2]


def test_scores_and_answers_have_folders_of_their_own(check, tmp_path):
  data = "run.dataset_split = 'test'", "MIXTURE_NAME = 'embedded_copy_v1'"
  answers = check("include 'eval.gin'", *data).results
  assert answers == f"{tmp_path}/test_eval"
  with pytest.raises(errors.UserError):
    check("include 'score_eval.gin'", *data)  # no metric of scores
  assert gin_files.value("run.eval_dir_suffix") == "scores"
  suffix = "run.eval_dir_suffix = 'b'"
  assert check("include 'eval.gin'", *data, suffix).results == f"{answers}_b"


@pytest.mark.parametrize("gin_file", ["eval.gin", "perplexity_eval.gin"])
def test_all_checkpoints_are_not_none(check, tmp_path, gin_file):
  lines = f"include '{gin_file}'", "MIXTURE_NAME = 'embedded_copy_v1'"
  (tmp_path / "model.ckpt-0.index").write_text("")
  with pytest.raises(errors.UserError, match="'all' leaves out step 0"):
    check(*lines)
  check(*lines, "eval_checkpoint_step = 0")
  (tmp_path / "model.ckpt-2.index").write_text("")
  check(*lines)


def test_an_evaluation_here_decodes_as_it_is_told(check):
  mixture = "MIXTURE_NAME = 'embedded_copy_v1'"
  local = "include 'experiments/local_eval.gin'"
  check("include 'beam_search.gin'", local, mixture)
  assert gin_files.value("Bitransformer.decode.beam_size") == 4
  assert gin_files.value("Bitransformer.decode.max_decode_length") == 128
  check(local, mixture)
  assert gin_files.value("Bitransformer.decode.beam_size") is None  # t5's own
