"""The command line: bad input in one sentence, before a graph is built."""

import pathlib
import re
import shlex
import sys

import gin
import pytest
import seqio
from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import config, request
from hypergrid_mtf.run.checks import data as data_checks
from tests import testing
from tests.hypergrid_mtf.command_line import EMBEDDED, GraphReached
from tests.testing import PIECES


def test_a_good_command_reaches_the_graph(run, monkeypatch, tmp_path):
  """And is recorded so that it can be pasted into a shell."""
  given = [*EMBEDDED, "--gin_param=run.keep_checkpoint_max = 3"]
  monkeypatch.setattr(sys, "argv", ["/x/main.py", *given])
  with pytest.raises(GraphReached):
    run(*given)
  kept = (tmp_path / "model" / "commands" / "command").read_text()
  assert shlex.split(kept) == ["python", "-m", "hypergrid_mtf.main", *given]


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
    f"--vocabulary={PIECES}",
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
      "1 of 2 sampled inputs have characters that the vocabulary lacks"
      in (said)
    )
    assert "'\u4e2d'" in said and "1 of 2 sampled inputs have doubled" in said
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
    run_ = request.Run(flags.FLAGS)
    (said,) = data_checks.note_lost_characters(run_)
    assert "1 of 3 lines of decode_from_file.input_filename have char" in said
    assert "1 of 3 lines of decode_from_file.input_filename have doub" in said
  finally:
    seqio.TaskRegistry.remove("own_v1")
    sys.modules.pop("own_task_of_main_test", None)


def test_a_public_operative_config_works_with_our_files(run, capsys):
  """A public operative_config.gin before this project's files, on a CPU."""
  public = pathlib.Path(__file__).with_name("public_operative_config.gin")
  with pytest.raises(GraphReached):
    packs = "--gin_param=mesh_train_dataset_fn.pack = True"
    run(f"--gin_file={public}", *EMBEDDED, packs)
  said = capsys.readouterr().out
  # tensor2tensor is not installed, and there is no pod.
  assert config.value("pack_dataset.use_custom_ops") is False
  assert f"needs tensor2tensor, which is not installed ({public}, line " in said
  assert config.value("run.mesh_shape") == "model:1,batch:1"
  assert "tpu_mesh_shape.tpu_topology = '8x8' is not used" in said
  # Sizes and mixture are of the files that came after it.
  assert config.value("decoder/DenseReluDense.hidden_size") == 512
  assert config.value("mesh_train_dataset_fn.mixture_or_task_name") == (
    "embedded_v1"
  )
  # The macro that nothing reads is the file's own affair.
  assert "init_checkpoint" not in said
