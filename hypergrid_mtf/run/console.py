"""What this project's commands print, and where all other output goes.

TensorFlow and related libraries print many warnings, and C++ code prints
directly to file descriptor 2. Our commands therefore redirect descriptor 2 to a
log file before importing TensorFlow, and keep the terminal for their own lines,
progress bar and errors. Importing the package as a library changes nothing.
"""

import atexit
import contextlib
import gc
import os
import re
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection
from typing import TextIO

import tqdm
from absl import app, flags

import hypergrid_mtf
from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files

flags.disclaim_key_flags()  # flags defined by `read_flags` are the program's

# The exit status of a process that SIGTERM killed.
SIGTERM_STATUS = 128 + signal.SIGTERM
_PACKAGES = ("hypergrid_mtf", "t5_tasks", "tools")
_NO_FILES = ("-", "bytes", "t5")  # standard input; vocabularies
# What to do if a flag's file or folder does not exist.
_RIGHT = {
  "model_dir": "give the folder of a trained model",
  "saved_model": "give what tools.export wrote",
  "t5_tfds_data_dir": "make it with python -m tools.prepare_data, or give "
  "one that TFDS wrote",
  "vocabulary": "train one with python -m tools.train_vocabulary, or give "
  "--vocabulary=bytes",
}
# Seconds between copies of the log to the cloud.
_UPLOAD_EVERY = 60.0


class _State:
  """The original descriptor 2, and the log that replaced it."""

  terminal: TextIO | None = None  # None while descriptor 2 is untouched
  log_path = ""
  temporary = False  # whether the log is removed at exit
  upload_to = ""  # cloud path of the log
  uploaded = 0  # bytes copied so far
  words: list[str] = []  # sys.argv without the flags


def is_command() -> bool:
  """Whether this process runs one of our programs."""
  argv = sys.orig_argv
  if "-m" in argv[:-1]:
    module = argv[argv.index("-m") + 1]
    return module.split(".")[0] in _PACKAGES
  return os.path.basename(sys.argv[0] if sys.argv else "") == "hypergrid_mtf"


def capture() -> None:
  """Redirects descriptor 2 to a temporary log file, once."""
  if _State.terminal is not None:
    return
  sys.stderr.flush()
  _State.terminal = os.fdopen(os.dup(2), "w", buffering=1)
  handle, _State.log_path = tempfile.mkstemp(
    prefix="hypergrid_mtf-", suffix=".log"
  )
  _State.temporary = True
  os.dup2(handle, 2)
  os.close(handle)
  sys.excepthook = _print_traceback
  atexit.register(_finish)


def log_to(directory: str) -> str:
  """Continues the log in `<directory>/hypergrid_mtf.log`.

  Args:
    directory: an existing folder. A log for the cloud (`gs://…`) is written
      locally and copied there every minute and at exit.

  Returns:
    the path to show to the user
  """
  target = os.path.join(directory, "hypergrid_mtf.log")
  if _State.terminal is None:
    return target
  if "://" in directory:
    if not _State.upload_to:
      threading.Thread(target=_keep_uploading, daemon=True).start()
    _State.upload_to = target
    return target
  sys.stderr.flush()
  try:
    with open(_State.log_path, "rb") as before, open(target, "ab") as log:
      shutil.copyfileobj(before, log)
      log.flush()
      os.dup2(log.fileno(), 2)
  except OSError as e:
    raise errors.UserError(
      f"the log {target} cannot be written ({e.strerror}): give another folder."
    ) from None
  os.unlink(_State.log_path)
  _State.log_path = target
  _State.temporary = False
  return target


def terminal():
  """The stream for progress bars and errors."""
  return _State.terminal or sys.stderr


def say(line: str) -> None:
  """Prints one of our lines."""
  print(line, flush=True)


def progress_bar(
  total: int | None, what: str, unit: str, initial: int = 0
) -> tqdm.tqdm:
  """A progress bar on the terminal; updates rarely if output goes to a file.

  Args:
    total: the total, or None if unknown.
    what: the label in front.
    unit: what is counted, e.g. "step".
    initial: how many are already done.
  """
  stream = terminal()
  return _Bar(
    total=total,
    initial=initial,
    desc=what,
    unit=f" {unit}{'es' if unit.endswith('ch') else 's'}",
    file=stream,
    mininterval=0.5 if stream.isatty() else 20.0,
    maxinterval=5.0 if stream.isatty() else 30.0,
    dynamic_ncols=True,
  )


class _Bar(tqdm.tqdm):
  """A bar whose slow rates read "s/step", not "s/ steps"."""

  @staticmethod
  def format_meter(*args, **kwargs):
    text = tqdm.tqdm.format_meter(*args, **kwargs)
    return re.sub(r"s/ (\w+?)((?<=ch)es|s)(?=[],])", r"s/\1", text)


def on_sigterm(function) -> None:
  """Makes SIGTERM call a function, as by `signal.signal`.

  Python delivers signals only to the main thread; in others this does nothing.
  """
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, function)


@contextlib.contextmanager
def sigterm_calls(function=None):
  """Within this context SIGTERM calls `function`; then it is restored."""
  before = signal.getsignal(signal.SIGTERM)
  try:
    if function:
      on_sigterm(function)
    yield
  finally:
    on_sigterm(before or signal.SIG_DFL)


def console_entry_point() -> None:
  """The console script `hypergrid_mtf`."""
  runpy.run_module("hypergrid_mtf.main", run_name="__main__", alter_sys=True)


def read_flags(
  name: str,
  define_flags: Callable[[], None] = lambda: None,
  must_exist: Collection[str] = (),
  check: Callable[[], object] = lambda: None,
  verbs: Collection[str] = (),
  uses_t5: bool = True,
) -> None:
  """Reads a program's flags before its libraries are imported.

  Called above the imports, so that --help, wrong flags and missing files are
  answered within a second. Afterwards, or if the program is only imported, the
  libraries are patched and can be imported.

  Args:
    name: `__name__` of the program.
    define_flags: called if the program is run, not imported.
    must_exist: flags whose file or folder must exist.
    check: raises a UserError for other errors visible in the flags.
    verbs: allowed first arguments.
    uses_t5: False for a program that patches later (`hypergrid_mtf.load`).
  """
  if name == "__main__":
    define_flags()
    app.define_help_flags()
    try:
      _State.words = flags.FLAGS(sys.argv)
      _check_words(_State.words[1:], verbs)
      _check_files(must_exist)
      check()
    except (flags.Error, errors.UserError) as e:
      _exit_with(errors.sentence(e))
    except OSError as e:  # of --help | head
      _end_if_explained(e)
      raise
    # Imports leave hardly any garbage, but looking for it takes a quarter of
    # their time. `run` enables the collection again.
    gc.disable()
  if uses_t5:
    hypergrid_mtf.load()


def _check_words(words: list[str], verbs: Collection[str]) -> None:
  """Refuses arguments that are neither flags nor verbs."""
  if verbs and words[:1] and words[0] in verbs:
    words = words[1:]
  elif verbs:
    raise errors.UserError(
      f"the first argument must be {' or '.join(verbs)}: see --help."
    )
  if words:
    raise errors.UserError(
      f"unexpected argument {words[0]!r}: every option begins with --, see "
      "--help."
    )


def _check_files(names: Collection[str]) -> None:
  """Refuses local files that do not exist; remote ones need TensorFlow."""
  given = flags.FLAGS.flag_values_dict()
  for name in names:
    path = given[name]
    if (
      flags.FLAGS[name].present
      and path not in ("", *_NO_FILES)
      and "://" not in path
      and not os.path.exists(os.path.expanduser(path))
    ):
      right = f": {_RIGHT[name]}" if name in _RIGHT else ""
      raise errors.UserError(f"--{name}={path} does not exist{right}.")
  gin_files.check(
    given.get("gin_file") or (), given.get("gin_location_prefix") or ()
  )


def run(main: Callable[[list[str]], int | None]) -> None:
  """Calls a program's main(argv) after `read_flags`, then exits.

  Exit status: 0, or what main returns, or 2 after one sentence for a UserError
  (including flags that absl refuses). Anything else is our bug and shows its
  traceback, with status 1.

  Args:
    main: a function of the arguments that are not flags.

  Raises:
    TypeError: if main returns anything but an exit status: sys.exit would print
      it and end with status 1.
  """

  def call(args):
    try:
      status = main(args)
      sys.stdout.flush()
    except errors.UserError as e:
      _exit_with(errors.sentence(e))
    except KeyboardInterrupt:
      terminal().write("\ninterrupted\n")
      sys.exit(130)
    except Exception as e:
      _end_if_explained(e)
      raise
    if not isinstance(status, int | None):
      raise TypeError(f"{main.__module__}.main returns {type(status)}")
    sys.exit(status)

  gc.freeze()
  gc.enable()
  app.run(call, flags_parser=lambda _: _State.words)


def _end_if_explained(error: Exception) -> None:
  """Ends a program that cannot write its output or reach the cloud.

  Silently if its reader has closed the pipe (`| head`), as other programs do;
  with a sentence if the disk is full or read-only, or a path in the cloud
  cannot be reached, whichever library failed.
  """
  if unreachable := errors.describe_unreachable(error):
    _exit_with(unreachable)
  problem = errors.describe_unwritten(error)
  is_pipe = isinstance(error, BrokenPipeError)
  if not (is_pipe or problem):
    return
  # What is still buffered would fail again at exit.
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  if is_pipe:
    sys.exit(128 + signal.SIGPIPE)
  place = getattr(error, "filename", None) or "an output"
  _exit_with(
    f"{place} cannot be written ({problem}): free some space, or give another "
    "path."
  )


def _exit_with(sentence: str):
  sys.stdout.flush()
  terminal().write(f"error: {sentence}\n")
  terminal().flush()
  sys.exit(2)


def _print_traceback(kind, value, trace) -> None:
  lines = "".join(traceback.format_exception(kind, value, trace))
  sys.stderr.write(lines)
  if _State.terminal is not None:
    _State.temporary = False  # a log that is named must be kept
    _State.terminal.write(lines)
    _State.terminal.write(f"the log of the libraries: {_State.log_path}\n")


def _keep_uploading() -> None:
  """Copies the log every minute, in case the machine is preempted."""
  while True:
    time.sleep(_UPLOAD_EVERY)
    try:
      _upload()
    except Exception as e:
      sys.stderr.write(f"the log was not copied: {e}\n")


def _upload() -> None:
  """Copies the log to the cloud, if it has grown."""
  import tensorflow as tf

  sys.stderr.flush()
  size = os.path.getsize(_State.log_path)
  if size != _State.uploaded:
    tf.io.gfile.copy(_State.log_path, _State.upload_to, overwrite=True)
    _State.uploaded = size


def _finish() -> None:
  sys.stderr.flush()
  if _State.upload_to:
    _upload()
  if _State.temporary:
    os.unlink(_State.log_path)
