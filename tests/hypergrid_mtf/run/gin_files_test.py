"""What is wrong in gin files and flags: where it is, and the text."""

import os
import sys

import gin
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_faults, gin_files, gin_statements
from tests.hypergrid_mtf.run import configuration


@pytest.fixture(autouse=True)
def no_bindings_left_behind():
  yield
  gin.clear_config()


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("run.train_steps", ["the form name.parameter = value"]),
    ("run.train_steps: 5", ["the form name.parameter = value"]),
    ("run.train_steps =", ["not a value", "one pair of quotes"]),
    ("MIXTURE_NAME = ''embedded_v1''", ["not a value", "one pair of quotes"]),
    ("run.train_steps = 5 6", ["not a value"]),
    ("run.batch_size = ('tokens_per_batch',", ["bracket", "not closed"]),
    (
      "run.train_step = 5",
      ["'run'", "'train_step'", "did you mean train_steps?"],
    ),
    ("runn.mode = 'eval'", ["'runn'", "did you mean run?"]),
    (
      "run.optimizer = @optimize.AdafactorOptimzer",
      ["AdafactorOptimzer", "did you mean optimize.AdafactorOptimizer?"],
    ),
    ("import no.such.module", ["import", "'no'"]),
    ("include 'no_such.gin'", ["no_such.gin", "not found"]),
  ],
)
def test_a_wrong_binding_is_shown_where_it_was_given(tmp_path, text, words):
  with pytest.raises(errors.UserError) as e:
    configuration.parse("run.mode = 'train'", text)
  assert str(e.value).startswith(f'--gin_param="{text}" is wrong: ')
  for word in words:
    assert word in str(e.value)

  inner = tmp_path / "inner.gin"
  inner.write_text(f"# A comment.\n\n{text}\n")
  outer = tmp_path / "outer.gin"
  outer.write_text(f"include '{inner}'\n")
  with pytest.raises(errors.UserError) as e:
    configuration.parse(files=(*configuration.EMBEDDED, outer))
  message = str(e.value)
  assert message.startswith(f"the gin file {inner}, line ")
  assert "outer.gin" not in message and "\n" not in message
  if "not closed" not in words:  # which is seen at the end
    assert message.startswith(f"the gin file {inner}, line 3 ({text}) is wrong")
  for word in words:
    assert word in message


def test_a_file_that_is_not_text(tmp_path):
  path = tmp_path / "model.gin"
  path.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(errors.UserError, match=f"{path} is not a text file"):
    configuration.parse(files=(path,))


@pytest.mark.parametrize(
  ("source", "words"),
  [("x = = 3\n", "invalid syntax"), ("import os\nno_such_name\n", "line 2")],
)
def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch, source, words):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "broken_tasks.py").write_text(source)
  with pytest.raises(errors.UserError, match=words) as e:
    gin_files.import_modules(["broken_tasks"])
  assert "--module_import=broken_tasks" in str(e.value)
  with pytest.raises(errors.UserError, match="import broken_tasks"):
    configuration.parse("import broken_tasks")
  assert "broken_tasks" not in sys.modules


def test_an_undefined_macro_is_named_with_its_binding():
  configuration.parse("save_scores.scores_filename = %outptu_filename")
  with pytest.raises(errors.UserError) as e:
    gin_faults.check_references()
  message = str(e.value)
  assert "save_scores.scores_filename = %outptu_filename" in message
  assert '--gin_param="' in message
  configuration.parse("d_kv = %d_modle")
  with pytest.raises(errors.UserError, match=r"did you mean d_model\?"):
    gin_faults.check_references()
  configuration.parse("run.train_steps = %gin.REQUIRED")
  with pytest.raises(errors.UserError, match="run.train_steps"):
    gin_faults.check_references()


def test_the_origin_of_a_value(tmp_path):
  mine = tmp_path / "mine.gin"
  mine.write_text("\nencoder/DenseReluDense.hidden_size = 64\nd_model = 64\n")
  configuration.parse(
    "utils.run.train_steps = 3", files=(*configuration.EMBEDDED, mine)
  )
  assert gin_statements.origin("run.train_steps").where == (
    '--gin_param="utils.run.train_steps = 3"'
  )
  found = gin_statements.origin("encoder/DenseReluDense.hidden_size")
  assert (found.where, found.source) == (f"{mine}, line 2", "user")
  # Through the macro.
  assert (
    gin_statements.origin("Unitransformer.d_model").where == f"{mine}, line 3"
  )
  found = gin_statements.origin("run.sequence_length")
  assert found.source == "shipped"
  assert found.where.startswith(os.path.join("experiments", "embedded.gin"))
  assert gin_statements.origin("run.total_run_steps") is None
