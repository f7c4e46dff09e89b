"""A training on a disk that fills up, and on the same disk with room again.

Needs the right to mount; `make resume-test` runs it.
"""

import re
import subprocess

import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints
from tests import command

STEPS = 20
TRAINING = (
  "--gin_file=models/nano.gin",
  "--gin_file=hypergrid/L2.gin",
  "--gin_file=experiments/embedded.gin",
  "--seed=1",
  f"--gin_param=run.train_steps = {STEPS}",
  "--gin_param=run.save_checkpoints_steps = 2",
)
# Room for the graph, the events and some checkpoints with their graphs.
SMALL, LARGE = "45m", "200m"


@pytest.fixture
def disk(tmp_path):
  folder = tmp_path / "disk"
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip("a small file system cannot be mounted here")
  yield folder
  subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_costs_only_the_checkpoint_that_was_written(disk):
  model_dir = disk / "run"
  flags = [f"--model_dir={model_dir}", *TRAINING]
  done = command.program("hypergrid_mtf.main", *flags)
  assert done.returncode == 2, done.stderr
  found = re.search(r"is full: the checkpoint of step (\d+) is", done.stderr)
  assert found, done.stderr
  latest = tf.train.latest_checkpoint(str(model_dir))
  assert latest.endswith(f"-{found[1]}") and 0 < int(found[1]) < STEPS
  for step in checkpoints.list_steps(str(model_dir)):
    path = checkpoints.path_of(str(model_dir), step)
    assert checkpoints.damage(path, read_values=True) is None
  again = command.program("hypergrid_mtf.main", *flags)
  assert again.returncode == 2  # it is still full
  assert re.search("disk|No space left", again.stderr), again.stderr
  assert tf.train.latest_checkpoint(str(model_dir)) == latest

  remount = ["mount", "-o", f"remount,size={LARGE}", str(disk)]
  subprocess.run(remount, check=True)
  done = command.program("hypergrid_mtf.main", *flags)
  assert done.returncode == 0, done.stderr
  latest = tf.train.latest_checkpoint(str(model_dir))
  assert latest.endswith(f"-{STEPS}")
