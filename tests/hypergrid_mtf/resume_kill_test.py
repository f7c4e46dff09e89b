"""Training on real GLUE that is killed 30 times, and stopped 10 times.

It must end with the weights of an uninterrupted training, bit for bit. An hour
of two cores and less: `make resume-test`. $HYPERGRID_RESUME_MODEL is a model of
operative_configs/models; what was seen is kept in $HYPERGRID_RESUME_DIR, if
that is set, and continued there.

Each start is a process of its own, forked where TensorFlow was imported and not
used yet, because the import is most of a short training.
"""

import json
import multiprocessing
import os
import pathlib
import random
import re
import shlex
import signal
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import checkpoints, main
from tests import command

MODEL = os.environ.get("HYPERGRID_RESUME_MODEL", "tiny")
STEPS = 240
INTERVAL = 5  # steps from one checkpoint to the next
ENDS = [signal.SIGKILL] * 30 + [signal.SIGTERM] * 10
PATIENCE = 900  # seconds
TRAINING = shlex.split(
  f"--gin_file=models/{MODEL}.gin --gin_file=hypergrid/L2.gin"
  " --gin_file=experiments/local_glue.gin --seed=1"
  ' --gin_param="dropout_rate = 0.1"'
  " --gin_param=\"run.batch_size = ('sequences_per_batch', 8)\""
  f' --gin_param="run.train_steps = {STEPS}"'
  f' --gin_param="run.save_checkpoints_steps = {INTERVAL}"'
  ' --gin_param="run.keep_checkpoint_max = 3"'
)
_STEP = re.compile(rb"step, tf_loss\[[^]]*\]\[(\d+)\]")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  kept = os.environ.get("HYPERGRID_RESUME_DIR")
  folder = pathlib.Path(kept) if kept else tmp_path_factory.mktemp("resume")
  folder.mkdir(exist_ok=True, parents=True)
  return folder


@pytest.fixture(scope="module")
def given(place, shared_data):
  """The flags of the training, except its folder."""
  data, vocabulary = place / "data", place / "vocabulary"
  of_data = [
    f"--gin_file={data}/local_mixture.gin",
    f"--t5_tfds_data_dir={data}",
  ]
  if not (data / "local_mixture.gin").exists():
    made = command.tool(
      "prepare_data", f"--glue_dir={shared_data}/glue", f"--tfds_dir={data}"
    )
    assert made.returncode == 0, made.stderr
  if not (vocabulary / "sentencepiece.model").exists():
    made = command.tool(
      "train_vocabulary",
      "--mixture=local_v1",
      "--size=4000",
      f"--output={vocabulary}",
      *of_data,
    )
    assert made.returncode == 0, made.stderr
  model = f"--vocabulary={vocabulary}/sentencepiece.model"
  return [*TRAINING, *of_data, model]


def _train(arguments, out):
  """What a process of hypergrid_mtf.main does after its imports."""
  file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  for descriptor in (1, 2):
    os.dup2(file, descriptor)
  sys.stdout, sys.stderr = (os.fdopen(d, "w", buffering=1) for d in (1, 2))
  flags.FLAGS(["main", *arguments])
  sys.exit(main.main(["main"]))


def _start(folder, given):
  child = multiprocessing.get_context("fork").Process(
    target=_train, args=([f"--model_dir={folder}", *given], f"{folder}.out")
  )
  child.start()
  return child


def _status(child):
  child.join(PATIENCE)
  return child.exitcode


def _steps_done(folder, since=0):
  """The last step that was computed, as TensorFlow prints it."""
  out = pathlib.Path(f"{folder}.out")
  if not out.exists():
    return None
  with open(out, "rb") as f:
    f.seek(since)
    found = _STEP.findall(f.read())
  return int(found[-1]) + 1 if found else None


def _size_of_output(folder):
  out = pathlib.Path(f"{folder}.out")
  return out.stat().st_size if out.exists() else 0


def _latest(folder):
  latest = tf.train.latest_checkpoint(str(folder))
  if latest is None:
    return 0
  assert checkpoints.damage(latest, read_values=True) is None
  return int(latest.rsplit("-", 1)[1])


def _weights(folder):
  reader = tf.train.load_checkpoint(str(folder / f"model.ckpt-{STEPS}"))
  return {
    name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
  }


def _disturb(folder, given, number, end, draw):
  """Starts a training and stops it at a random step and moment."""
  before, since = _latest(folder), _size_of_output(folder)
  wanted = before + draw.randint(1, 2 * INTERVAL)
  start, moment = time.time(), draw.random()
  child = _start(folder, given)
  first = None
  while True:
    assert time.time() < start + PATIENCE, "nothing was trained"
    done = _steps_done(folder, since)
    if done is not None and first is None:
      first = time.time()
    if done is not None and done >= wanted:
      break
    assert child.is_alive(), f"it ended by itself: {child.exitcode}"
    time.sleep(0.02)
  time.sleep(moment)  # up to some steps, or into a save
  os.kill(child.pid, end)
  status = _status(child)
  done, after = _steps_done(folder, since), _latest(folder)
  return dict(
    number=number,
    signal=end.name,
    began_at=before,
    step=done,
    checkpoint=after,
    lost=done - after,
    status=status,
    seconds_to_first_step=round(first - start, 1),
  )


@pytest.mark.slow
def test_a_training_that_is_killed_ends_at_the_same_weights(place, given):
  unharmed, killed = place / "unharmed", place / "killed"
  if not (unharmed / f"model.ckpt-{STEPS}.index").exists():
    assert _status(_start(unharmed, given)) == 0

  draw = random.Random(1)
  ends = draw.sample(ENDS, len(ENDS))
  kept = place / "ends.jsonl"
  seen = []
  if kept.exists():
    seen = [json.loads(line) for line in kept.read_text().splitlines()]
  draw = random.Random(len(seen))
  for number, end in list(enumerate(ends))[len(seen) :]:
    if _latest(killed) > STEPS - 3 * INTERVAL:
      pytest.fail("too few steps for so many ends")
    seen.append(_disturb(killed, given, number, end, draw))
    with open(kept, "a") as f:
      f.write(json.dumps(seen[-1]) + "\n")
  assert _status(_start(killed, given)) == 0

  for found in seen:
    if found["signal"] == "SIGTERM":
      assert (found["lost"], found["status"]) == (0, 128 + signal.SIGTERM)
    else:
      assert found["lost"] <= INTERVAL
      assert found["status"] == -signal.SIGKILL
  assert len(seen) == len(ENDS)
  assert not (killed / "damaged").exists()
  once, again = _weights(unharmed), _weights(killed)
  assert once.keys() == again.keys()
  for name, value in once.items():
    np.testing.assert_array_equal(value, again[name], err_msg=name)
