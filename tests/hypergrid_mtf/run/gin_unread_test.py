"""Macros and scopes that nothing reads."""

import glob
import os

import gin
import pytest
from t5.models import mesh_transformer_main

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_statements, gin_unread
from tests.hypergrid_mtf.run import configuration

ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
)


@pytest.fixture(autouse=True)
def no_bindings_left_behind():
  yield
  gin.clear_config()


@pytest.mark.parametrize(
  ("text", "near"),
  [
    ("d_modl = 32", "did you mean d_model?"),
    ("MIXTURENAME = 'embedded_v1'", "did you mean MIXTURE_NAME?"),
    ("D_FF = 32", "did you mean d_ff?"),
    ("train_steps = 5", "did you mean run.train_steps?"),
    ("tokens_per_batch = 65536", "name.parameter = value"),
  ],
)
def test_a_macro_that_nothing_reads_is_refused(text, near):
  configuration.parse(text)
  with pytest.raises(errors.UserError) as e:
    gin_unread.check_macros()
  message = str(e.value)
  assert f'(--gin_param="{text}")' in message and near in message


def test_macros_in_files_of_ones_own(tmp_path, capsys):
  mine = tmp_path / "mine.gin"
  files = (*configuration.EMBEDDED, mine)
  mine.write_text("width = 64\nd_model = %width\nheads_of_my_own_file = 3\n")
  configuration.parse(files=files)
  gin_unread.check_macros()  # said, not refused: it may serve other runs
  assert f"heads_of_my_own_file ({mine}, line 3)" in capsys.readouterr().out
  mine.write_text("d_model = 64\nnum_layer = 3\n")
  configuration.parse(files=files)
  with pytest.raises(errors.UserError, match="mine.gin, line 2.*num_layers"):
    gin_unread.check_macros()
  # What gin itself wrote holds macros whose readers were replaced.
  mine.write_text(f"# Macros:\n# {'=' * 78}\nnum_layer = 3\n")
  configuration.parse(files=files)
  gin_unread.check_macros()


def test_a_scope_that_nothing_is_in_is_refused(tmp_path):
  configuration.parse("encodr/DenseReluDense.dropout_rate = 0.5")
  with pytest.raises(errors.UserError, match=r"encodr/.*did you mean encoder/"):
    gin_unread.check_scopes()
  configuration.parse(
    "decoder/DenseReluDense.dropout_rate = 0.5",
    "wide/DenseReluDense.hidden_size = 64",  # code may enter it
    "mine/DenseReluDense.hidden_size = 64",
    "encoder/transformer.make_layer_stack.layers = [@mine/DenseReluDense]",
  )
  gin_unread.check_scopes()


def test_every_file_of_t5_and_of_this_project_is_accepted():
  t5 = os.path.join(os.path.dirname(mesh_transformer_main.__file__), "gin")
  ours = os.path.join(ROOT, "operative_configs")
  found = [
    os.path.relpath(path, folder)
    for folder in (t5, ours)
    for path in sorted(glob.glob(f"{folder}/**/*.gin", recursive=True))
  ]
  assert len(found) > 80
  found.remove("infer_multi_file.gin")  # names a function that t5 lost
  for file in found:
    configuration.parse(files=(*configuration.EMBEDDED, file))
    assert gin_statements.statements()
    gin_unread.check_macros()
    gin_unread.check_scopes()
