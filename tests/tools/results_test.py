"""Results collected from the files that a run leaves."""

import json
import math
import pathlib

import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from tools import results
from tools.experiments import answers

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


def _event(folder, step, **values):
  with tf.Graph().as_default():
    writer = tf.summary.FileWriter(str(folder), filename_suffix=f".{step}")
    summary = tf.Summary(
      value=[
        tf.Summary.Value(tag=tag.replace("__", "/"), simple_value=value)
        for tag, value in values.items()
      ]
    )
    writer.add_summary(summary, step)
    writer.close()


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
    _event(eval_folder, step, **{f"eval__{TASK}__accuracy": value})
    (eval_folder / f"{TASK}_{step}_predictions").write_text("\n".join(lines))
  (eval_folder / f"{TASK}_targets").write_text("1\n1\n1\n1\n")
  (eval_folder / f"{TASK}_inputs").write_text("a\nb\nc\nd\n")
  return str(folder)


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  return [
    results.collect(_run(root / f"s{seed}", seed), "L2", seed)
    for seed in (0, 1)
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


def test_the_configuration_is_free_of_places_and_seeds(collected):
  first, second = collected
  assert first["config"] == second["config"]
  assert first["config_hash"] == second["config_hash"]
  assert first["config"]["run.batch_size"] == "('sequences_per_batch', 64)"
  vocabulary = first["config"]["use_vocabulary.name"]
  assert vocabulary.startswith("vocabulary.model (")
  changed = {**first["config"], "d_model": "128"}
  assert results.config_hash(changed) != first["config_hash"]


def test_what_is_not_a_number_is_standard_json(tmp_path):
  folder = _run(tmp_path / "run")
  _event(
    f"{folder}/validation_eval",
    20,
    eval__glue_stsb_v002__pearson_corrcoef=math.nan,
  )
  text = results.to_text(results.collect(folder, "L2", 0))

  def refuse(word):
    raise AssertionError(f"{word} is not JSON")

  metrics = json.loads(text, parse_constant=refuse)["metrics"]
  values = metrics["glue_stsb_v002"]["pearson_corrcoef"]
  assert values == {"20": "nan"} and math.isnan(results.number(values["20"]))
  assert results.number(metrics[TASK]["accuracy"]["20"]) == 50.0
  # A file of before.
  assert math.isnan(results.number(json.loads("NaN")))
  assert results.as_json(-math.inf) == "-inf"


def test_what_is_no_run_is_said(tmp_path):
  with pytest.raises(errors.UserError, match="operative_config"):
    results.collect(str(tmp_path), "L2", 0)
  folder = tmp_path / "run"
  _run(folder)
  with pytest.raises(errors.UserError, match="no evaluation of the test split"):
    results.collect(str(folder), "L2", 0, "test")
