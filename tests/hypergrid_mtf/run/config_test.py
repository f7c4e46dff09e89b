"""Errors in gin files and flags: their place and text."""

import glob
import os
import sys

import gin
import pytest

from hypergrid_mtf import errors, layers
from hypergrid_mtf.run import bindings, config, gin_files
from hypergrid_mtf.run.checks import config as checks_config
from tests.hypergrid_mtf.run import configuration


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("run.train_steps", ["the form name.parameter = value"]),
    ("run.train_steps: 5", ["the form name.parameter = value"]),
    ("run.train_steps =", ["cannot read this value", "one pair of quotes"]),
    (
      "MIXTURE_NAME = ''embedded_v1''",
      ["cannot read this value", "one pair of quotes"],
    ),
    ("run.train_steps = 5 6", ["cannot read this value"]),
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
    config.import_modules(["broken_tasks"])
  assert "--module_import=broken_tasks" in str(e.value)
  with pytest.raises(errors.UserError, match="import broken_tasks"):
    configuration.parse("import broken_tasks")
  assert "broken_tasks" not in sys.modules


def test_an_undefined_macro_is_named_with_its_binding():
  configuration.parse("save_scores.scores_filename = %outptu_filename")
  with pytest.raises(errors.UserError) as e:
    bindings.check_references()
  message = str(e.value)
  assert "save_scores.scores_filename = %outptu_filename" in message
  assert '--gin_param="' in message
  configuration.parse("d_kv = %d_modle")
  with pytest.raises(errors.UserError, match=r"did you mean d_model\?"):
    bindings.check_references()
  configuration.parse("run.train_steps = %gin.REQUIRED")
  with pytest.raises(errors.UserError, match="run.train_steps"):
    bindings.check_references()


def test_the_origin_of_a_value(tmp_path):
  mine = tmp_path / "mine.gin"
  mine.write_text("\nencoder/DenseReluDense.hidden_size = 64\nd_model = 64\n")
  configuration.parse(
    "utils.run.train_steps = 3", files=(*configuration.EMBEDDED, mine)
  )
  assert config.origin("run.train_steps").place == (
    '--gin_param="utils.run.train_steps = 3"'
  )
  found = config.origin("encoder/DenseReluDense.hidden_size")
  assert (found.place, found.source) == (f"{mine}, line 2", "user")
  # Through the macro.
  assert config.origin("Unitransformer.d_model").place == f"{mine}, line 3"
  found = config.origin("run.sequence_length")
  assert found.source == "shipped"
  assert found.place.startswith(os.path.join("experiments", "embedded.gin"))
  assert config.origin("run.total_run_steps") is None


def test_macros_in_files_of_ones_own(tmp_path):
  mine = tmp_path / "mine.gin"
  files = (*configuration.EMBEDDED, mine)
  mine.write_text("width = 64\nd_model = %width\nheads_of_my_own_file = 3\n")
  run = configuration.make_run(files=files)
  bindings.check_macros()  # said, not refused: it may serve other runs
  assert checks_config.note_unread_macros(run) == [
    f"nothing reads the macro heads_of_my_own_file ({mine}, line 3)"
  ]
  mine.write_text("d_model = 64\nnum_layer = 3\n")
  configuration.parse(files=files)
  with pytest.raises(errors.UserError, match="mine.gin, line 2.*num_layers"):
    bindings.check_macros()
  # What gin itself wrote holds macros whose readers were replaced.
  mine.write_text(f"# Macros:\n# {'=' * 78}\nnum_layer = 3\n")
  configuration.parse(files=files)
  bindings.check_macros()


@pytest.mark.parametrize(
  ("text", "near"),
  [
    ("MIXTURENAME = 'embedded_v1'", "did you mean MIXTURE_NAME?"),
    ("D_FF = 32", "did you mean d_ff?"),
    ("train_steps = 5", "did you mean run.train_steps?"),
    ("tokens_per_batch = 65536", "name.parameter = value"),
  ],
)
def test_a_macro_that_nothing_reads_is_refused(text, near):
  configuration.parse(text)
  with pytest.raises(errors.UserError) as e:
    bindings.check_macros()
  assert f'(--gin_param="{text}")' in str(e.value) and near in str(e.value)


def test_scopes_that_something_enters_are_accepted():
  configuration.parse(
    "decoder/DenseReluDense.dropout_rate = 0.5",
    "wide/DenseReluDense.hidden_size = 64",  # code may enter it
    "mine/DenseReluDense.hidden_size = 64",
    "encoder/transformer.make_layer_stack.layers = [@mine/DenseReluDense]",
  )
  bindings.check_scopes()


def test_every_file_of_t5_and_of_this_project_is_accepted():
  found = [
    os.path.relpath(path, folder)
    for folder in gin_files.SEARCHED
    for path in sorted(glob.glob(f"{folder}/**/*.gin", recursive=True))
  ]
  assert len(found) > 80
  found.remove("infer_multi_file.gin")  # names a function that t5 lost
  for file in found:
    configuration.parse(files=(*configuration.EMBEDDED, file))
    assert list(config.statements())
    bindings.check_macros()
    bindings.check_scopes()


def test_values_that_t5_takes_are_not_refused():
  configuration.parse(
    "run.train_steps = @auto_train_steps",
    "learning_rate_schedules.product_learning_rate.factors = [0.1]",
    "run.keep_checkpoint_max = 0",
    "run.skip_seen_data = 1",
    "truncated_rsqrt.warmup_steps = 10000.0",
    "decoder/DenseReluDense.dropout_rate = 0",
    "Unitransformer.loss_denominator = 233472",
    "Unitransformer.z_loss = 0.0",
    "Bitransformer.decode.temperature = 0.5",
    "SimdMeshImpl.allreduce_in_bfloat16_max_group_size = 8",
    "run.learning_rate_schedule = [1, @learning_rate_schedules.linear_decay]",
  )
  bindings.check_values(trains=True)
  # Only a training reads it.
  configuration.parse("run.train_steps = 0")
  bindings.check_values(trains=False)


def test_short_names_in_an_old_record_have_one_meaning():
  """gin writes a record with the shortest names that are unambiguous then.

  A second configurable of a name would make records of earlier trainings
  unreadable.
  """
  registry = gin.config._REGISTRY
  ours = [
    name
    for name, _ in registry.items()
    if name.startswith(("hypergrid_mtf.", "t5_tasks."))
  ]
  assert {"t5_tasks.table.define_table", "hypergrid_mtf.layers.HyperGrid"} <= {
    *ours
  }
  for name in ours:
    assert registry.matching_selectors(name.split(".")[-1]) == [name]


def test_a_binding_holds_in_the_scopes_of_a_record(tmp_path):
  record = tmp_path / "operative_config.gin"
  record.write_text(
    f"# Parameters for encoder/hypergrid_mtf.layers.HyperGrid:\n# {'=' * 78}\n"
    "encoder/hypergrid_mtf.layers.HyperGrid.grid_rows = 16\n"
    "encoder/hypergrid_mtf.layers.HyperGrid.grid_cols = 16\n"
    "HyperGrid.grid_rows = 16\n"
  )
  own = tmp_path / "own.gin"
  own.write_text("encoder/HyperGrid.grid_rows = 2\n")
  given = ["HyperGrid.grid_rows = 8"]
  for paths, flags, want in (
    ([record], [], (16, 16)),
    ([record], given, (8, 16)),
    ([record, own], given, (2, 16)),  # the user's own scope stays
    ([record], [*given, "encoder/HyperGrid.grid_cols = 4"], (8, 4)),
  ):
    config.parse_files(list(map(str, paths)), flags)
    with gin.config_scope("encoder"):
      layer = layers.HyperGrid(hidden_size=32)
    found = layer.grid_rows.size, layer.grid_cols.size
    assert found == want, (paths, flags)
