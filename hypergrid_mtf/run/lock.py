"""Allows one writer at a time in a folder.

On a local disk this is a kernel lock (`flock`), which ends with its process,
however that ends. In a cloud folder other writers can only be guessed from
recent event files, so there is only a warning.
"""

import contextlib
import datetime
import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import console

NAME = "in_use.lock"
_RECENT = 300.0  # seconds since another host wrote events
_EVENTS = re.compile(r"events\.out\.tfevents\.\d+\.(.+?)(\.v2)?$")


@contextlib.contextmanager
def hold(folder: str, given: str, what: str = "trains") -> Iterator[None]:
  """Within this context, no other of our processes writes in a folder.

  Args:
    folder: local or in the cloud; it exists.
    given: where the folder came from, e.g. "--model_dir=runs/l2".
    what: a verb for what this process does there.

  Raises:
    UserError: with the process that holds the lock.
  """
  if "://" in folder:
    _say_other_writers(folder, given)
    yield
    return
  # Never removed: a new file of the same name would be another lock.
  try:
    file = open(os.path.join(folder, NAME), "a+")  # noqa: SIM115
  except OSError as e:
    raise errors.UserError(
      f"{given} cannot be written ({e.strerror}): give a folder that you can "
      "write to."
    ) from None
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
      if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
        file.seek(0)
        owner = file.read().strip() or "another process writes there"
        raise errors.UserError(
          f"{given} is in use: {owner}: end it first, or give another folder."
        ) from None
      console.say(
        f"{given} cannot be locked ({e.strerror}): make sure that nothing else "
        "writes there"
      )
    now = datetime.datetime.now(datetime.timezone.utc)
    owner = f"process {os.getpid()} on {socket.gethostname()} {what} there"
    with contextlib.suppress(OSError):  # on a full disk the lock still holds
      file.truncate(0)
      file.write(f"{owner} since {now:%Y-%m-%d %H:%M:%S} UTC\n")
      file.flush()
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        file.truncate(0)


def _say_other_writers(folder: str, given: str) -> None:
  """Warns if another host wrote events in a cloud folder minutes ago."""
  for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []:
    match = _EVENTS.fullmatch(name)
    if not match or match[1] == socket.gethostname():
      continue
    stat = tf.io.gfile.stat(os.path.join(folder, name))
    age = time.time() - stat.mtime_nsec / 1e9
    if age < _RECENT:
      console.say(
        f"WARNING: {given}: {match[1]} wrote {name} {age:.0f} seconds ago; "
        "make sure that only one machine trains there"
      )
      return
