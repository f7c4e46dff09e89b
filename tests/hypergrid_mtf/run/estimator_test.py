"""An Estimator as Mesh TensorFlow makes it, while a run is under way."""

import os
import signal

import gin
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils
from tensorflow_estimator.python.estimator.tpu import tpu_config

from hypergrid_mtf import checkpoints
from hypergrid_mtf.run import estimator, settle
from tests.hypergrid_mtf.run import configuration

STEPS = 8
_PATH = "/runs/l2/model.ckpt-40"
_LIMIT = "Bitransformer.decode.max_decode_length"


class _Terminate(tf.train.SessionRunHook):
  """Sends SIGTERM to this process during a step."""

  def __init__(self, run):
    self._run = run
    self._runs = 0

  def before_run(self, run_context):
    self._runs += 1
    if self._runs == self._run:
      os.kill(os.getpid(), signal.SIGTERM)


def _train_dataset(sequence_length, vocabulary, dataset_split):
  del sequence_length, vocabulary, dataset_split
  return tf.data.Dataset.range(100).shuffle(100, seed=1)


def _model_fn(features, labels, mode, params):
  """Keeps what it was fed: the sum of batch times step; and a random weight."""
  del labels, params
  if mode == tf.estimator.ModeKeys.PREDICT:
    return tf.estimator.EstimatorSpec(mode, predictions={"of": features})
  step = tf.train.get_global_step()
  tf.get_variable("random", [], initializer=tf.random_normal_initializer())
  seen = tf.get_variable("seen", initializer=tf.zeros([], tf.int64))
  value = (tf.identity(step) + 1) * features[0]
  with tf.control_dependencies([value]):
    train = tf.group(tf.assign_add(seen, value), tf.assign_add(step, 1))
  return tf.estimator.EstimatorSpec(mode, loss=tf.constant(0.0), train_op=train)


def _make(folder):
  return utils.tpu_estimator.TPUEstimator(
    model_fn=_model_fn,
    config=tpu_config.RunConfig(model_dir=str(folder)),
    train_batch_size=1,
    predict_batch_size=1,
    use_tpu=False,
  )


def _train(folder, more=(), seed=None, given=()):
  """One start of a training, as `utils.run` makes it."""
  progress = estimator.Progress(seed=seed)
  settle.settle(configuration.make_run(*given, model_dir=folder))
  with estimator.install(progress):
    made = _make(folder)
    train = made.train
    made.train = lambda hooks, **kwargs: train(hooks=[*hooks, *more], **kwargs)
    names = ("skip_seen_data", "seen_data_init_step")
    bound = {name: gin.query_parameter(f"run.{name}") for name in names}
    utils.train_model(made, None, None, 1, _train_dataset, STEPS, None, **bound)
  latest = checkpoints.latest_checkpoint(str(folder))
  reader = tf.train.load_checkpoint(latest)
  found = [reader.get_tensor(name) for name in ("seen", "random")]
  return checkpoints.step_of(latest), *found, progress


@pytest.fixture(autouse=True)
def no_bindings_left_behind():
  yield
  gin.clear_config()


def test_a_training_ends_at_sigterm_and_resumes_where_it_was(tmp_path, capsys):
  before = signal.getsignal(signal.SIGTERM)
  step, *_, progress = _train(tmp_path / "run", [_Terminate(3)], seed=5)
  assert (step, progress.stop_asked, progress.stopped_at) == (3, True, 3)
  assert signal.getsignal(signal.SIGTERM) == before
  assert "skipping" not in capsys.readouterr().out
  step, seen, random, progress = _train(tmp_path / "run", seed=5)
  assert (step, progress.stop_asked, progress.stopped_at) == (
    STEPS,
    False,
    None,
  )
  said = capsys.readouterr().out
  assert "skipping the 3 batches" in said
  # "seen" and "random", besides the step.
  assert f"trained {STEPS - 3} steps in " in said and ", 2 parameters" in said
  header, *rows = (tmp_path / "run/train.csv").read_text().splitlines()
  steps = [int(row.split(",")[0]) for row in rows]
  assert header == "step,loss" and rows[-1] == f"{STEPS},0"
  # A step is read before or after its own increment, the last one after it.
  assert steps == sorted(set(steps)) and 3 in steps
  *once, progress = _train(tmp_path / "once", [_Terminate(STEPS)], seed=5)
  np.testing.assert_equal(once, [STEPS, seen, random])
  assert (
    progress.stop_asked and progress.stopped_at is None
  )  # it was at its end
  *_, other, _ = _train(tmp_path / "other", seed=6)
  assert other != random
  # Where the data began at step 2, one batch was seen at step 3.
  _train(tmp_path / "warm", [_Terminate(3)])
  capsys.readouterr()
  _train(tmp_path / "warm", given=["run.seen_data_init_step = 2"])
  assert "skipping the 1 batches" in capsys.readouterr().out


def test_sigterm_ends_an_evaluation_within_a_training(tmp_path):
  """It leaves its own graph before that of the training is left."""
  _train(tmp_path / "run")
  with (
    estimator.install(estimator.Progress(stop_asked=True)),
    tf.Graph().as_default(),
    pytest.raises(estimator.Stopped) as e,
  ):
    rows = _make(tmp_path / "run").predict(
      lambda params: tf.data.Dataset.range(4).batch(params["batch_size"])
    )
    for _ in rows:
      raise AssertionError("an answer after SIGTERM")
  assert e.traceback  # which keeps what is not closed


@pytest.mark.parametrize(
  ("given", "skips", "says"),
  [
    ([], (True, 7), "skipping the 2 batches"),
    (["run.seen_data_init_step = 3"], (True, 3), "skipping the 6 batches"),
    (["run.skip_seen_data = False"], (False, None), ""),
    (["run.checkpoint_input_pipeline = True"], (None, None), ""),
  ],
)
def test_where_the_data_resume(tmp_path, capsys, given, skips, says):
  for name in ("model.ckpt-9.index", "model.ckpt-9.data-00000-of-00001"):
    (tmp_path / name).touch()
  state = 'model_checkpoint_path: "model.ckpt-9"'
  (tmp_path / "checkpoint").write_text(state)
  (tmp_path / "warm_start.json").write_text('{"step": 7}')
  settle.settle(configuration.make_run(*given, model_dir=tmp_path))
  bound = gin.get_bindings("run")
  names = ("skip_seen_data", "seen_data_init_step")
  assert tuple(map(bound.get, names)) == skips
  said = capsys.readouterr().out
  assert says in said and (says or "skipping" not in said)


def test_the_record_of_another_training_says_not_where_data_resume(tmp_path):
  record = tmp_path / "operative_config.gin"
  record.write_text(
    f"# Parameters for run:\n# {'=' * 78}\nrun.skip_seen_data = False\n"
    "run.seen_data_init_step = 5\n"
  )
  files = (*configuration.EMBEDDED, record)
  run = configuration.make_run(files=files, model_dir=tmp_path / "new")
  settle.settle(run)
  bound = gin.get_bindings("run")
  assert (bound["skip_seen_data"], bound["seen_data_init_step"]) == (True, 0)


@pytest.fixture
def cut():
  """A hook that saw two batches of two answers of three tokens."""
  with tf.Graph().as_default() as graph:
    batch = tf.placeholder(tf.int32, [2, 3])
    hook = estimator.CutAnswers({graph: batch.name})
    with tf.train.MonitoredSession(hooks=[hook]) as session:
      session.run(batch, {batch: [[5, 1, 0], [5, 6, 7]]})
      session.run(batch, {batch: [[5, 6, 1], [8, 8, 8]]})
  return hook


def test_answers_that_were_cut_are_counted_and_padding_is_not(cut):
  from mesh_tensorflow.transformer import transformer  # noqa: F401  (for gin)

  assert cut.cut == [False, True, False, True]
  gin.parse_config(f"{_LIMIT} = 3")
  assert cut.to_text(4, _PATH) == (
    f"2 of 4 answers of step 40 were cut at 3 tokens ({_LIMIT})"
  )
  gin.clear_config()
  assert cut.to_text(3, None) == (  # the fourth fills the batch
    f"1 of 3 answers were cut at 3 tokens (the length of the inputs; {_LIMIT} "
    "sets another limit)"
  )
  assert cut.to_text(1, _PATH) is None


def test_a_graph_that_decodes_elsewhere_is_not_counted():
  hook = estimator.CutAnswers({})
  with tf.Graph().as_default():
    one = tf.constant(1)
    with tf.train.MonitoredSession(hooks=[hook]) as session:
      session.run(one)
  assert hook.to_text(None, _PATH) is None
