"""The command line: bad input in one sentence, before a graph is built."""

import os
import re
import sys

import gin
import pytest
import seqio

from hypergrid_mtf import errors
from tests import command, testing
from tests.hypergrid_mtf.command_line import EMBEDDED, GraphReached

VOCABULARY = os.path.join(
  os.path.dirname(seqio.__file__),
  "test_data/sentencepiece/sentencepiece.model",
)


def test_a_good_command_reaches_the_graph(run):
  with pytest.raises(GraphReached):
    run(*EMBEDDED)


def test_a_warm_start_says_what_it_takes_and_leaves_out_what_does_not_fit(
  run, tmp_path, capsys
):
  name = "encoder/rms_norm/scale"
  variables = {name: (3,), "shared/embedding": (384, 128)}
  testing.write_checkpoint(tmp_path / "other", variables, steps=(2,))
  with pytest.raises(GraphReached):
    run(
      *EMBEDDED,
      f"--gin_param=run.init_checkpoint = '{tmp_path}/other'",
      "--gin_param=run.train_steps = 9",
      "--allow_partial_warm_start",
    )
  said = capsys.readouterr().out
  assert f"warm start from {tmp_path}/other/model.ckpt-2, at step 2" in said
  assert re.search(r"loaded +1 variables", said)
  assert f"1 variables: {name} " in said
  path = gin.query_parameter("run.init_checkpoint")
  assert path == f"{tmp_path}/other/model.ckpt-2"
  loads = gin.query_parameter("should_load_variable.filter_fn")
  assert loads("shared/embedding")
  assert not loads(name) and not loads(f"{name}_slot_vc")
  assert "model.ckpt-2" in (tmp_path / "model/warm_start.json").read_text()


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (["--gin_param=HyperGrid.variant = 'LL'"], ["variant", "'LL'", "'L2'"]),
    (["--gin_param=HyperGrid.grid_rows = 7"], ["grid_rows", "7", "512"]),
    (["--gin_param=HyperGrid.grid_cols = 7"], ["grid_cols", "7", "128"]),
    (["--gin_param=HyperGrid.varaint = 'L2'"], ["varaint"]),
    (["--gin_param=HyperGrid.variant = "], ["--gin_param"]),
    (["--gin_file=models/tiniest.gin"], ["models/tiniest.gin"]),
    (["--gin_param=MIXTURE_NAME = 'glou'"], ["glou"]),
    (["--vocabulary=/nowhere/sp.model"], ["/nowhere/sp.model"]),
    (["--vocabulary="], ["vocabulary"]),
    (["--gin_param=HyperGrid.grid_rows = True"], ["grid_rows", "True"]),
    (
      ["--gin_param=HyperGrid.grid_rows = '8'"],
      ["grid_rows", "'8'", "integer"],
    ),
    (["--gin_param=HyperGrid.zero_init = 'no'"], ["zero_init", "'no'"]),
    (["--gin_param=DenseReluDense.activation = 'rellu'"], ["'rellu'"]),
    (
      ["--gin_param=HyperGrid.contraction = 'row'"],
      ["contraction", "'row'", "'rows'", "'auto'"],
    ),
    (
      [
        "--gin_param=HyperGrid.contraction = 'weights'",
        "--gin_param=mesh_train_dataset_fn.pack = True",
      ],
      ["'weights'", "packed", "'rows'", "'cols'", "'auto'", "pack = False"],
    ),
    (["--gin_param=d_model = '64'"], ["d_model = '64'", "positive integer"]),
    (["--gin_param=run.model_type = 'bitrans'"], ["'bitrans'"]),
    (
      [
        "--gin_param=run.model_type = 'lm'",
        "--gin_param=transformer.make_layer_stack.layers = [@HyperGrid]",
      ],
      ["'lm'", "bitransformer"],
    ),
    *(
      (
        [
          f"--gin_param=run.model_type = '{kind}'",
          "--gin_param=transformer.make_layer_stack.layers = "
          "[@transformer_layers.DenseReluDense]",
        ],
        [
          "coder/transformer.make_layer_stack.layers has HyperGrid (",
          "layers.gin",
          f"'{kind}' has no stack that reads it",
          "'bitransformer'",
        ],
      )
      for kind in ("lm", "delimited_lm", "aligned", "bi_student_teacher")
    ),
    (["--gin_param=run.mode = 'trian'"], ["'trian'", "'train'"]),
    (["--gin_param=run.batch_size = 'many'"], ["batch_size", "'many'"]),
    (["--gin_param=run.train_steps = %STEPS"], ["train_steps", "STEPS"]),
    (["--gin_param=run.init_checkpoint = 5"], ["init_checkpoint", "5"]),
    (
      ["--gin_param=run.init_checkpoint = '/nowhere/model.ckpt-1'"],
      ["run.init_checkpoint", "/nowhere/model.ckpt-1"],
    ),
    (
      ["--gin_file=infer.gin", "--gin_param=input_filename = '/nowhere/in'"],
      ["decode_from_file.input_filename", "/nowhere/in"],
    ),
    (
      [
        "--gin_file=experiments/local_eval.gin",
        "--gin_param=run.dataset_split = 'vaildation'",
      ],
      ["'vaildation'", "validation"],
    ),
    (["--gin_file=/"], ["--gin_file=/", "folder"]),
    (["--use_model_api"], ["--use_model_api", "MtfModel", "docs/python.md"]),
    (["--module_import=no.such.module"], ["no.such.module"]),
    (
      [
        "--gin_param=MIXTURE_NAME = 'glue_cola_v002'",
        "--vocabulary=bytes",
        "--t5_tfds_data_dir=/nowhere/data",
      ],
      ["/nowhere/data"],
    ),
    (
      [
        "--gin_param=run.mode = 'eval'",
        "--gin_param=run.eval_checkpoint_step = -1",
      ],
      ["eval", "checkpoint"],
    ),
  ],
  ids=lambda value: str(value[0])[:40],
)
def test_bad_input_is_refused_before_a_graph(run, arguments, words):
  with pytest.raises(errors.UserError) as e:
    run(*EMBEDDED, *arguments)
  message = " ".join(str(e.value).split())
  for word in words:
    assert word in message, message
  assert "In call to" not in errors.sentence(e.value)


def test_a_data_folder_without_the_data_set_is_refused(run, tmp_path):
  with pytest.raises(errors.UserError, match="glue/cola:1.0.0"):
    run(
      *EMBEDDED,
      "--gin_param=MIXTURE_NAME = 'glue_cola_v002'",
      "--vocabulary=bytes",
      f"--t5_tfds_data_dir={tmp_path}",
    )


def test_a_model_dir_that_cannot_be_written_is_refused(run, tmp_path):
  (tmp_path / "file").write_text("not a folder")
  with pytest.raises(errors.UserError, match="cannot be written"):
    run(*EMBEDDED, model_dir=tmp_path / "file" / "model")


_OWN_TASK = """
import functools
import seqio
from t5.data import preprocessors, tasks

seqio.TaskRegistry.add(
  "own_v1",
  source=seqio.TextLineDataSource({{"train": {train!r}}}),
  preprocessors=[
    functools.partial(
      preprocessors.parse_tsv, field_names=["inputs", "targets"]
    ),
    seqio.preprocessors.tokenize,
    seqio.preprocessors.append_eos_after_trim,
  ],
  output_features=tasks.DEFAULT_OUTPUT_FEATURES,
)
"""


def test_the_data_of_a_task_of_ones_own(run, tmp_path, monkeypatch, capsys):
  path = tmp_path / "train.tsv"
  module = _OWN_TASK.format(train=str(path))
  (tmp_path / "own_task_of_main_test.py").write_text(module)
  monkeypatch.syspath_prepend(tmp_path)
  own = (
    *EMBEDDED,
    "--module_import=own_task_of_main_test",
    "--gin_param=MIXTURE_NAME = 'own_v1'",
    f"--vocabulary={VOCABULARY}",
  )
  tsv = (
    *own,
    "--gin_param=run.train_dataset_fn = "
    "@t5.models.mesh_transformer.tsv_dataset_fn",
    f"--gin_param=tsv_dataset_fn.filename = '{path}'",
  )
  try:
    with pytest.raises(errors.UserError, match=f"{path} .*does not exist"):
      run(*own)
    for content, says in (
      ("own: a\tb\nown: c\n", ", line 2 .*1 tab-separated column, expected 2"),
      ("own: a\tb\n\n", ", line 2 .*an empty row"),
      ("", " .*has no rows"),
    ):
      path.write_text(content)
      for arguments in (own, tsv):
        with pytest.raises(errors.UserError, match=f"{path}{says}"):
          run(*arguments)
    path.write_text("the tent\tat last\nthe \u4e2d  \u4e2d tent\tlate\n")
    capsys.readouterr()
    for arguments in (tsv, own):
      with pytest.raises(GraphReached):
        run(*arguments)
    said = capsys.readouterr().out
    assert (
      "1 of 2 sampled inputs hold characters that the vocabulary lacks"
      in (said)
    )
    assert "'\u4e2d'" in said and "1 of 2 sampled inputs hold doubled" in said
    assert "sampled targets" not in said
    # The same of a file to decode; only then is the checkpoint missed.
    lines = tmp_path / "inputs.txt"
    lines.write_text("the tent\n\u4e2d tent\nthe  tent\n")
    with pytest.raises(errors.UserError, match="checkpoint"):
      run(
        *own,
        "--gin_file=infer.gin",
        f"--gin_param=input_filename = '{lines}'",
        f"--gin_param=output_filename = '{tmp_path / 'out'}'",
      )
    said = capsys.readouterr().out
    assert "1 of 3 lines of decode_from_file.input_filename hold char" in said
    assert "1 of 3 lines of decode_from_file.input_filename hold doub" in said
  finally:
    seqio.TaskRegistry.remove("own_v1")
    sys.modules.pop("own_task_of_main_test", None)


def test_a_vocabulary_that_the_tasks_cannot_take_is_refused(run):
  with pytest.raises(errors.UserError, match="cannot be used: the task 'embed"):
    run(*EMBEDDED, f"--vocabulary={VOCABULARY}")


def test_exit_status_and_the_one_sentence(tmp_path):
  done = command.program(
    "hypergrid_mtf.main",
    f"--model_dir={tmp_path}",
    *EMBEDDED,
    "--gin_param=HyperGrid.variant = 'LL'",
  )
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
  assert "'LL'" in done.stderr
  assert (tmp_path / "hypergrid_mtf.log").exists()


def test_a_module_that_a_gin_file_cannot_import_is_placed(run, tmp_path):
  path = tmp_path / "mine.gin"
  path.write_text("# mine\nimport nowhere_to_be_found.gates\n")
  says = "mine.gin.* line 2.*the import fails: No module named 'nowhere_to"
  with pytest.raises(errors.UserError, match=says):
    run(*EMBEDDED, f"--gin_file={path}")
