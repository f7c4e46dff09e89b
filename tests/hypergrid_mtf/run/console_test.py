"""What a command prints, and where everything else goes."""

import sys
import textwrap

import pytest
import tensorflow as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import console
from tests import command


def _command(tmp_path, body, into=None):
  """Runs a program of ours, made up for the test, as `python -m tools.x`."""
  package = tmp_path / "tools"
  package.mkdir()
  # The real __init__ imports TensorFlow, which this test has no use for.
  (package / "__init__.py").write_text(
    textwrap.dedent(f"""
      import importlib.util, sys, types
      package = types.ModuleType("hypergrid_mtf")
      package.__path__ = [{str(command.ROOT / "hypergrid_mtf")!r}]
      sys.modules["hypergrid_mtf"] = package
      from hypergrid_mtf.run import console
      assert console.is_command()
      console.capture()
    """)
  )
  (package / "x.py").write_text(
    "import os, sys\n"
    "from hypergrid_mtf import errors\n"
    "from hypergrid_mtf.run import console\n"
    + "console.read_flags(__name__, uses_t5=False)\n"
    + textwrap.dedent(body)
    + "\nconsole.run(main)\n"
  )
  given = dict(cwd=tmp_path, TMPDIR=str(tmp_path))
  if into is None:
    return command.python("-m", "tools.x", **given)
  shell = f"{sys.executable} -m tools.x {into}; echo ${{PIPESTATUS[0]}}"
  start = "import subprocess; subprocess.run(['bash', '-c', {!r}])"
  return command.python("-c", start.format(shell), **given)


def test_noise_goes_to_the_log_and_our_lines_do_not(tmp_path):
  done = _command(
    tmp_path,
    """
    def main(argv):
      os.write(2, b"noise of a C++ library\\n")
      console.log_to(".")
      print("a warning", file=sys.stderr)
      console.say("our line")
    """,
  )
  assert done.returncode == 0
  assert done.stdout == "our line\n"
  assert done.stderr == ""
  log = (tmp_path / "hypergrid_mtf.log").read_text()
  assert log == "noise of a C++ library\na warning\n"
  assert not list(tmp_path.glob("hypergrid_mtf-*.log"))


def test_garbage_is_collected_except_while_importing(tmp_path):
  done = _command(
    tmp_path,
    """
    import gc
    importing = gc.isenabled()
    def main(argv):
      print(importing, gc.isenabled(), gc.get_freeze_count() > 1000)
    """,
  )
  assert done.stdout == "False True True\n"


def test_a_user_error_is_one_sentence_and_status_two(tmp_path):
  done = _command(
    tmp_path,
    """
    def main(argv):
      raise errors.UserError("the grid is\\n  too fine: 7.")
    """,
  )
  assert done.returncode == 2
  assert done.stderr == "error: the grid is too fine: 7.\n"


@pytest.mark.parametrize(
  ("into", "body", "status", "said"),
  [
    ("| true", "while True: print('line')", 141, ""),
    ("> /dev/full", "print('a')", 2, "an output cannot be written (No space "),
    (
      "",
      "raise OSError(30, 'Read-only file system', 'a/b')",
      2,
      "a/b cannot be written (Read-only file system): free some space, or give",
    ),
    ("", "raise OSError(5, 'x')", 1, "OSError: [Errno 5] x"),
  ],
)
def test_output_that_has_no_place(tmp_path, into, body, status, said):
  done = _command(tmp_path, f"def main(argv):\n  {body}", into)
  assert done.stdout == f"{status}\n"
  assert said in done.stderr
  assert bool(done.stderr) == bool(said)
  assert ("Traceback" in done.stderr) == (status == 1)


def test_a_bug_shows_its_traceback_and_keeps_the_log(tmp_path):
  done = _command(
    tmp_path,
    """
    def main(argv):
      console.log_to(".")
      raise RuntimeError("ours")
    """,
  )
  assert done.returncode == 1
  assert "Traceback" in done.stderr and "RuntimeError: ours" in done.stderr
  assert "hypergrid_mtf.log" in done.stderr
  assert "RuntimeError: ours" in (tmp_path / "hypergrid_mtf.log").read_text()


def test_the_status_that_main_returns(tmp_path):
  done = _command(tmp_path, "def main(argv):\n  return 3")
  assert done.returncode == 3


def test_a_main_that_returns_no_status(tmp_path):
  """It would end with status 1 and a print of that value."""
  done = _command(tmp_path, "def main(argv):\n  return [3]")
  assert done.returncode == 1
  assert "TypeError: __main__.main returns <class 'list'>" in done.stderr


def test_a_log_for_the_cloud_is_copied_as_it_grows(tmp_path, monkeypatch):
  log, cloud = tmp_path / "log", tmp_path / "cloud"
  monkeypatch.setattr(console._State, "log_path", str(log))
  monkeypatch.setattr(console._State, "upload_to", str(cloud))
  monkeypatch.setattr(console._State, "uploaded", 0)
  seen = []

  def a_minute(seconds):
    seen.append(cloud.read_text() if cloud.exists() else "")
    if len(seen) == 4:
      raise KeyboardInterrupt
    if len(seen) == 3:  # nothing new
      cloud.write_text("as it was")
    else:
      with open(log, "a") as f:
        f.write(f"{len(seen)}\n")

  monkeypatch.setattr(console.time, "sleep", a_minute)
  with pytest.raises(KeyboardInterrupt):
    console._keep_uploading()
  assert seen == ["", "1\n", "1\n2\n", "as it was"]


@pytest.mark.parametrize(
  ("unit", "fast", "slow"),
  [
    ("step", "2.00 steps/s", "2.00s/step"),
    ("batch", "2.00 batches/s", "2.00s/batch"),
    ("example", "2.00 examples/s", "2.00s/example"),
  ],
)
def test_a_slow_rate_is_of_one(unit, fast, slow):
  bar = console.progress_bar(9, "train", unit)
  for rate, text in ((2.0, fast), (0.5, slow)):
    for total in (9, None):
      found = dict(bar.format_dict, n=4, rate=rate, total=total)
      assert text in bar.format_meter(**found)
  bar.close()


def test_a_path_in_the_cloud_that_cannot_be_reached_is_one_sentence():
  def failing(details):
    return tf.errors.FailedPreconditionError(
      None,
      None,
      f"Error executing an HTTP request: {details}\n\t when reading "
      "metadata of gs://bucket/model.index",
    )

  for details, why in (
    ("error details: Could not resolve host: x", "Could not resolve host: x"),
    ("HTTP response code 401 with body 'no'", "HTTP response code 401"),
  ):
    said = errors.describe_unreachable(failing(details))
    assert said.startswith(f"gs://bucket/model.index cannot be reached ({why})")
  assert errors.describe_unreachable(OSError("gs://bucket is odd")) is None
