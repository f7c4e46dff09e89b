"""Results collected from the files that a run leaves."""

import json
import math
import os
import pathlib
import types

import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from tests import docs_test
from tests.tools.experiments import event_files
from tools import results
from tools.experiments import answers, result

TASK = "glue_sst2_v002"
CONFIG = """\
# Macros:
# ==============================================================================
d_model = 64
MIXTURE_NAME = 'glue_sst2_v002'

# Parameters for run:
# ==============================================================================
run.batch_size = \\
    ('sequences_per_batch',
     64)
run.model_dir = '{folder}'
mesh_train_dataset_fn.seed = {seed}
use_vocabulary.name = '{folder}/vocabulary.model'
"""


def _run(folder: pathlib.Path, seed=0) -> str:
  """A model_dir of a run that was evaluated at steps 10 and 20."""
  folder.mkdir()
  (folder / "vocabulary.model").write_text("pieces")
  text = CONFIG.format(folder=folder, seed=seed)
  (folder / "operative_config.gin").write_text(text)
  with tf.Graph().as_default(), tf.Session() as sess:
    tf.get_variable("shared/embedding", (8, 4))
    tf.get_variable("encoder/wi/kernel", (4, 6))
    tf.get_variable("encoder/wi/kernel_slot_v", (4, 6))
    sess.run(tf.global_variables_initializer())
    tf.train.Saver().save(sess, str(folder / "model.ckpt"), global_step=20)
  eval_folder = folder / "validation_eval"
  eval_folder.mkdir()
  (eval_folder / "config.gin").write_text(
    "run.dataset_split = 'validation'\nBitransformer.decode.beam_size = 1\n"
  )
  for step, value, lines in ((10, 75.0, "1101"), (20, 50.0, "1001")):
    scores = {f"{TASK}/accuracy": value}
    event_files.write(eval_folder, 1000.0 + step, (1.0, step, scores))
    (eval_folder / f"{TASK}_{step}_predictions").write_text("\n".join(lines))
  (eval_folder / f"{TASK}_targets").write_text("1\n1\n1\n1\n")
  (eval_folder / f"{TASK}_inputs").write_text("a\nb\nc\nd\n")
  return str(folder)


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  return [
    result.collect(_run(root / f"s{seed}", seed), "L2", seed) for seed in (0, 1)
  ]


def test_everything_is_there(collected):
  found = json.loads(json.dumps(collected[0]))
  assert found["metrics"] == {TASK: {"accuracy": {"10": 75.0, "20": 50.0}}}
  assert found["steps"] == 20 and found["seed"] == 0 and found["cell"] == "L2"
  assert found["parameters"] == {"total": 56, "beside_embedding": 24}
  assert found["data"][TASK]["examples"] == 4
  assert found["protocol"] == {
    "run.dataset_split": "'validation'",
    "Bitransformer.decode.beam_size": "1",
  }
  assert set(found["predictions"][TASK]) == {"10", "20"}
  assert answers.unpack(found["predictions"][TASK]["10"]) == (
    [1, 1, 0, 1],
    [1, 1, 1, 1],
  )
  assert {"cpu", "cores", "memory_bytes"} == set(found["hardware"])
  assert {"tensorflow", "t5", "mesh-tensorflow"} <= set(found["versions"])
  of_sweeps = {"name", "flags", "wall_seconds"}
  assert docs_test.fields({**found, **dict.fromkeys(of_sweeps)}) == set()


def test_the_configuration_is_free_of_places_and_seeds(collected):
  first, second = collected
  assert first["config"] == second["config"]
  assert first["config_hash"] == second["config_hash"]
  assert first["config"]["run.batch_size"] == "('sequences_per_batch', 64)"
  vocabulary = first["config"]["use_vocabulary.name"]
  assert vocabulary.startswith("vocabulary.model (")
  changed = {**first["config"], "d_model": "128"}
  assert result.config_hash(changed) != first["config_hash"]


def test_what_is_not_a_number_is_standard_json(tmp_path):
  folder = _run(tmp_path / "run")
  scores = {"glue_stsb_v002/pearson_corrcoef": math.nan}
  event_files.write(f"{folder}/validation_eval", 2000.0, (1.0, 20, scores))
  text = result.to_text(result.collect(folder, "L2", 0))

  def refuse(word):
    raise AssertionError(f"{word} is not JSON")

  metrics = json.loads(text, parse_constant=refuse)["metrics"]
  values = metrics["glue_stsb_v002"]["pearson_corrcoef"]
  assert values == {"20": "nan"} and math.isnan(result.number(values["20"]))
  assert result.number(metrics[TASK]["accuracy"]["20"]) == 50.0
  # A file of an earlier version.
  assert math.isnan(result.number(json.loads("NaN")))
  assert result.as_json(-math.inf) == "-inf"


def test_what_is_no_run_is_said(tmp_path):
  with pytest.raises(errors.UserError, match="operative_config"):
    result.collect(str(tmp_path), "L2", 0)
  folder = tmp_path / "run"
  _run(folder)
  with pytest.raises(errors.UserError, match="of the split 'test'"):
    result.collect(str(folder), "L2", 0, "test")


def test_answers_with_odd_line_ends_are_counted_and_kept(tmp_path):
  """Only a newline ends a line of t5's files."""
  folder = pathlib.Path(_run(tmp_path / "run")) / "validation_eval"
  odd = ["a\u2028b", "c\x85", "\fd", "e\r"]
  for name in ("targets", "10_predictions", "20_predictions"):
    utils.write_lines_to_file(odd, str(folder / f"{TASK}_{name}"))
  scores = {f"{TASK}/accuracy": 100.0}
  event_files.write(folder, 2000.0, (1.0, 10, scores), (1.0, 20, scores))
  found = result.collect(str(tmp_path / "run"), "L2", 0)
  assert found["data"][TASK]["examples"] == 4
  assert answers.unpack(found["predictions"][TASK]["20"]) == (odd, odd)


@pytest.mark.parametrize(
  ("name", "text", "sentence"),
  [
    ("20_predictions", "1\n1\n", "20_predictions holds 2 lines, and .* 4"),
    ("targets", "1\n" * 3, "targets holds 3 lines, and .*_inputs beside it 4"),
    ("targets", "", "targets holds 0 lines, and .*_inputs beside it 4"),
  ],
)
def test_a_count_that_does_not_fit_is_said(tmp_path, name, text, sentence):
  folder = pathlib.Path(_run(tmp_path / "run")) / "validation_eval"
  (folder / f"{TASK}_{name}").write_text(text)
  with pytest.raises(errors.UserError, match=sentence):
    result.collect(str(tmp_path / "run"), "L2", 0)


def test_texts_of_several_lines_keep_their_scores(tmp_path, capsys):
  """t5's model API writes a newline in a text as it is."""
  folder = pathlib.Path(_run(tmp_path / "run")) / "validation_eval"
  (folder / f"{TASK}_20_outputs").write_text("1\n1\n1\nto\nbe")
  (folder / f"{TASK}_20_predictions").write_text("1\n1\n1\nto\nbe")
  found = result.collect(str(tmp_path / "run"), "L2", 0)
  assert found["metrics"][TASK]["accuracy"]["20"] == 50.0
  assert set(found["predictions"][TASK]) == {"10"}
  assert "20_predictions holds 5 lines, and" in capsys.readouterr().out


def test_steps_of_different_protocols_are_no_result(tmp_path):
  folder = pathlib.Path(_run(tmp_path / "run")) / "validation_eval"
  (folder / "config.1015.5.gin").write_text(
    "run.dataset_split = 'validation'\nBitransformer.decode.beam_size = 4\n"
  )
  with pytest.raises(errors.UserError, match="beam_size is 1 .* and 4 for"):
    result.collect(str(tmp_path / "run"), "L2", 0)


@pytest.mark.parametrize("cell", ["", " ", "single/rte"])
def test_a_cell_that_is_no_column_is_refused(tmp_path, monkeypatch, cell):
  given = types.SimpleNamespace(output=str(tmp_path / "x.json"), cell=cell)
  monkeypatch.setattr(results, "FLAGS", given)
  with pytest.raises(errors.UserError, match=f"--cell={cell} is not"):
    results.main([])


def test_a_folder_that_glob_would_misread(tmp_path):
  (tmp_path / "run[1]").mkdir()
  event_files.write(tmp_path / "run[1]", 1000.0, (0.0, 1, {}), (7.5, 2, {}))
  assert result.training_seconds(str(tmp_path / "run[1]")) == 7.5


def test_a_task_without_inputs_has_its_targets(tmp_path):
  folder = _run(tmp_path / "run")
  os.unlink(f"{folder}/validation_eval/{TASK}_inputs")
  found = result.collect(folder, "L2", 0)
  assert found["data"][TASK]["examples"] == 4
  assert set(found["predictions"][TASK]) == {"10", "20"}
