"""One writer at a time in a folder."""

import io
import json
import multiprocessing
import os
import signal
import time

import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, locks


def _hold(folder, ready):
  with locks.hold(folder, "--model_dir=x"):
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
    locks.hold(str(tmp_path), "--model_dir=x"),
  ):
    pass
  assert f"--model_dir=x is in use: process {child.pid} on " in str(e.value)
  os.kill(child.pid, signal.SIGKILL)
  child.join()
  with locks.hold(str(tmp_path), "--model_dir=x", "sweeps"):
    owner = json.loads((tmp_path / locks.NAME).read_text())
    assert (owner["pid"], owner["does"]) == (os.getpid(), "sweeps")
  with locks.hold(str(tmp_path), "--model_dir=x"):
    pass  # it was released


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch, capsys):
  def flock(file, how):
    raise OSError(37, "No locks available")

  monkeypatch.setattr(locks.fcntl, "flock", flock)
  with locks.hold(str(tmp_path), "--model_dir=x"):
    pass
  said = "--model_dir=x cannot be locked (No locks available)"
  assert said in capsys.readouterr().out


@pytest.fixture
def path(tmp_path, monkeypatch):
  """The file of a lease: what works in the cloud works on a disk."""
  monkeypatch.setattr(locks, "_SETTLED", 0.0)
  return tmp_path / "lease"


def _lease(path):
  return locks.lease(str(path), "--model_dir=gs://x", "trains")


def test_a_lease_is_refused_to_others_and_given_back(path):
  with _lease(path):
    with (
      pytest.raises(errors.UserError, match="gs://x is in use: process"),
      _lease(path),
    ):
      pass
    assert json.loads(path.read_text())["pid"] == os.getpid()
  assert not path.exists()


@pytest.mark.parametrize(
  ("change", "taken"),
  [
    ({}, False),
    ({"renewed": 0.0}, True),  # old
    ({"pid": 2**22 + 1, "host": locks.socket.gethostname()}, True),  # ended
    ({"pid": 2**22 + 1}, False),  # nobody can know
  ],
)
def test_a_lease_of_one_that_is_gone_is_taken(path, change, taken):
  owner = dict(pid=1, host="another", renewed=time.time(), id="theirs")
  path.write_text(json.dumps({**owner, **change}))
  if taken:
    with _lease(path):
      assert json.loads(path.read_text())["id"] != "theirs"
    return
  with pytest.raises(errors.UserError, match="try again in 180"), _lease(path):
    pass


def test_of_two_that_write_at_once_one_gives_way(path, monkeypatch):
  other = dict(pid=1, host="another", renewed=time.time(), id="theirs")
  monkeypatch.setattr(
    locks.time, "sleep", lambda _: path.write_text(json.dumps(other))
  )
  with (
    pytest.raises(errors.UserError, match="process 1 on another"),
    _lease(path),
  ):
    pass
  assert json.loads(path.read_text()) == other


def test_a_lease_is_renewed_and_its_loss_ends_the_process(path, monkeypatch):
  me, renewed = dict(pid=os.getpid(), host="here", id="mine"), []

  def wait(seconds):
    """As many renewals as the test wants, without waiting."""
    del seconds
    if len(renewed) == 2:
      path.write_text(json.dumps(dict(pid=1, host="another", id="theirs")))
    elif path.exists():
      renewed.append(json.loads(path.read_text())["renewed"])
    return False

  def leave(status):
    raise SystemExit(status)

  monkeypatch.setattr(locks.os, "_exit", leave)
  said = io.StringIO()
  monkeypatch.setattr(console, "terminal", lambda: said)
  with pytest.raises(SystemExit) as e:
    locks._keep_renewing(str(path), me, "--model_dir=gs://x", wait)
  assert e.value.code == 2
  assert renewed[0] < renewed[1]
  assert "error: --model_dir=gs://x is in use: process 1" in said.getvalue()
