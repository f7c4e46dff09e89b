"""The command that makes submissions, from a model and from files."""

import json
import re
import types

import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from hypergrid_mtf.run.checks import data as data_checks
from tests import command
from tools import submit
from tools.experiments import decoded, submissions

STEP = 20


def _decode(model_dir, examples, *tasks, step=STEP):
  """A folder as an evaluation of the test split leaves it; all answers are 0.

  Args:
    model_dir: local or ram://.
    examples: {task: test examples}.
    *tasks: that were decoded.
    step: of the checkpoint.

  Returns:
    model_dir, as text
  """
  for task in tasks:
    stem = f"{model_dir}/test_eval/{task}"
    utils.write_lines_to_file(
      [0] * len(examples[task]), f"{stem}_{step}_predictions"
    )
    utils.write_lines_to_file(
      [e["inputs_pretokenized"] for e in examples[task]], f"{stem}_inputs"
    )
  return str(model_dir)


@pytest.fixture
def run(monkeypatch, tmp_path):
  """Calls main with some flags."""

  def call(**flags):
    defaults = dict(
      benchmarks=None,
      output_dir=str(tmp_path / "out"),
      step=None,
      fill=False,
      t5_tfds_data_dir=None,
    )
    namespace = types.SimpleNamespace(**{**defaults, **flags})
    monkeypatch.setattr(submit, "FLAGS", namespace)
    submit.main(["submit"])

  return call


@pytest.fixture
def refused(run):
  """Calls main with some flags; the sentence it refuses them with."""

  def call(**flags):
    with pytest.raises(errors.UserError) as e:
      run(**flags)
    return str(e.value)

  return call


def test_a_folder_that_was_not_decoded_is_named(refused, tmp_path, examples):
  assert "--model_dir= is not a folder" in refused(model_dir="")
  assert "/nowhere is not a folder" in refused(model_dir="/nowhere")
  (tmp_path / "validation_eval").mkdir()
  says = refused(model_dir=str(tmp_path))
  assert "'test': only of validation; run hypergrid_mtf.main" in says
  (tmp_path / "test_eval").mkdir()
  says = refused(model_dir=str(tmp_path), fill=True)
  assert "no predictions of tasks of GLUE or SuperGLUE" in says
  assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_never_filled_alone(refused, tmp_path, examples):
  model_dir = _decode(tmp_path, examples, "glue_rte_v002", step=3)
  _decode(tmp_path, examples, "glue_rte_v002", step=20)
  says = refused(model_dir=model_dir, step=99, fill=True)
  assert says.startswith("--step=99: ") and "at steps 3, 20: give one" in says
  says = refused(model_dir=model_dir, benchmarks=["SuperGLUE"], fill=True)
  assert "no predictions of tasks of SuperGLUE: decode" in says
  says = refused(model_dir=model_dir, step=3)
  assert "no predictions of glue_cola_v002, glue_sst2_v002, " in says
  assert "glue_wnli" not in says and "at step 3: decode" in says
  _decode(tmp_path, examples, "glue_cola_v002", step=20)
  says = refused(model_dir=model_dir, step=3)
  assert "(glue_cola_v002: step 20): decode" in says


def test_benchmarks_are_known_by_name():
  assert submit.benchmarks(["glue", "super_glue", "GLUE", " SuperGLUE"]) == [
    "GLUE",
    "SuperGLUE",
  ]
  for names, says in ((["GLUEE"], "--benchmarks=GLUEE is unknown"),) + (
    ([], "--benchmarks= is unknown"),
  ):
    with pytest.raises(errors.UserError, match=says):
      submit.benchmarks(names)


def test_fillers_without_data_are_refused_at_once(
  refused, tmp_path, examples, tfds_dir, monkeypatch
):
  """Offline, and without waiting for a download: MultiRC needs its numbers."""
  monkeypatch.setattr(data_checks, "_online", lambda: False)
  monkeypatch.setattr(
    data_checks.tfds_data, "is_prepared", lambda name, _: "multirc" not in name
  )

  def read(task):
    raise AssertionError(f"{task} was read before all data were checked")

  monkeypatch.setattr(submissions, "test_set", read)
  model_dir = _decode(tmp_path, examples, "super_glue_cb_v102")
  says = refused(model_dir=model_dir, fill=True)
  assert says.startswith("super_glue_multirc_v102 needs data that are not on")
  says = refused(model_dir=model_dir, fill=True, t5_tfds_data_dir=str(tfds_dir))
  assert "needs data that are not in --t5_tfds_data_dir=" in says


def test_both_folders_may_be_in_the_cloud(
  run, tmp_path, examples, tfds_dir, official, capsys
):
  model_dir = _decode(f"ram://{tmp_path}/m", examples, "glue_rte_v002")
  _decode(model_dir, examples, "glue_wnli_v002")  # t5 has none in its mixture
  output_dir = f"ram://{tmp_path}/out"
  run(
    model_dir=model_dir,
    output_dir=output_dir,
    fill=True,
    t5_tfds_data_dir=str(tfds_dir),
  )
  assert sorted(tf.io.gfile.listdir(output_dir)) == [
    "GLUE.zip",
    "submission.json",
  ]
  with tf.io.gfile.GFile(f"{output_dir}/submission.json") as f:
    (records,) = json.load(f).values()
  assert {r["file"]: r["step"] for r in records if r["step"]} == {
    "RTE.tsv": STEP,
    "WNLI.tsv": STEP,
  }
  said = capsys.readouterr().out
  assert "SuperGLUE: none of its tasks was decoded" in said
  assert re.search(r"CoLA.tsv +\d+ rows  FILLER '1'", said)


@pytest.mark.slow
def test_all_tasks_and_diagnostics_from_a_model(tfds_dir, tmp_path, official):
  """From training over decoding to both zips, with nothing to fill."""
  train = [
    f"--model_dir={tmp_path}",
    "--gin_file=models/nano.gin",
    "--gin_file=hypergrid/L2.gin",
    "--gin_file=experiments/local_glue.gin",
    f"--gin_file={tfds_dir}/local_mixture.gin",
    f"--t5_tfds_data_dir={tfds_dir}",
    "--vocabulary=bytes",
    "--gin_param=run.sequence_length = {'inputs': 24, 'targets': 8}",
    "--gin_param=run.batch_size = ('sequences_per_batch', 8)",
    "--gin_param=run.train_steps = 2",
    "--gin_param=run.save_checkpoints_steps = 2",
  ]
  decode = [
    "--gin_file=experiments/local_eval.gin",
    "--gin_param=run.dataset_split = 'test'",
    "--gin_param=Bitransformer.decode.max_decode_length = 2",
  ]
  # Two steps need no more; that all of them are read to train on is in
  # prepare_data_test.
  two = "['glue_rte_v002', 'super_glue_cb_v102']"
  few = f"--gin_param=t5_tasks.mixtures.define_mixture.tasks = {two}"
  printed = command.run([*train, few], [*train, *decode])
  said = "only answers are written"
  for task in ("glue_ax_v002", "glue_mrpc_v002", "super_glue_axb_v102"):
    assert re.search(rf"^{task}: .*{said}$", printed, re.M)
  found = decoded.find(str(tmp_path), "test")
  for benchmark, filled in (("GLUE", {"WNLI.tsv"}), ("SuperGLUE", set())):
    chosen = submit.choose(benchmark, found, None)
    _, records = submit.submission(chosen)
    assert {r["file"] for r in records if r["filler"] is not None} <= filled
    assert {r["step"] for r in records if r["filler"] is None} == {2}
    assert [r["rows"] for r in records] == [e.rows for e in chosen]
