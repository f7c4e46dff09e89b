"""One writer at a time in a folder."""

import multiprocessing
import os
import signal
import time

import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import lock


def _hold(folder, ready):
  with lock.hold(folder, "--model_dir=x"):
    ready.set()
    time.sleep(600)


def _holder(folder):
  """Another process that holds the lock of a folder."""
  context = multiprocessing.get_context("fork")
  ready = context.Event()
  child = context.Process(target=_hold, args=(str(folder), ready))
  child.start()
  assert ready.wait(60)
  return child


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_second_is_refused_until_the_first_is_gone(tmp_path):
  child = _holder(tmp_path)
  with (
    pytest.raises(errors.UserError) as e,
    lock.hold(str(tmp_path), "--model_dir=x"),
  ):
    pass
  assert f"--model_dir=x is in use: process {child.pid} on " in str(e.value)
  os.kill(child.pid, signal.SIGKILL)
  child.join()
  with lock.hold(str(tmp_path), "--model_dir=x", "sweeps"):
    owner = (tmp_path / lock.NAME).read_text()
    assert f"process {os.getpid()} on " in owner and " sweeps there" in owner
  with lock.hold(str(tmp_path), "--model_dir=x"):
    pass  # it was released


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch, capsys):
  def flock(file, how):
    raise OSError(37, "No lock available")

  monkeypatch.setattr(lock.fcntl, "flock", flock)
  with lock.hold(str(tmp_path), "--model_dir=x"):
    pass
  said = "--model_dir=x cannot be locked (No lock available)"
  assert said in capsys.readouterr().out


def test_another_host_that_wrote_minutes_ago_is_said(tmp_path, capsys):
  here = lock.socket.gethostname()
  for name in (f"1700000000.{here}", "1700000001.other", "1700000002.old.v2"):
    (tmp_path / f"events.out.tfevents.{name}").touch()
  os.utime(tmp_path / "events.out.tfevents.1700000002.old.v2", (1, 1))
  lock._say_other_writers(str(tmp_path), "--model_dir=gs://x")
  said = capsys.readouterr().out
  assert said.startswith("WARNING: --model_dir=gs://x: other wrote events.out")
  assert len(said.splitlines()) == 1
  lock._say_other_writers(str(tmp_path / "none"), "--model_dir=gs://x")
  assert not capsys.readouterr().out
