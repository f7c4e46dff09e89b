"""One writer at a time in a folder.

On a local disk the lock is the kernel's (`flock`), so it ends with its process,
however that ends. A cloud folder has no such thing: who else writes there can
only be guessed from its event files, and is said.
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
  """Within this context, no other process of ours writes in a folder.

  Args:
    folder: local or in the cloud; it exists.
    given: where it came from, e.g. "--model_dir=runs/l2".
    what: the verb of what is done there.

  Raises:
    UserError: naming the process that holds it.
  """
  if "://" in folder:
    _say_other_writers(folder, given)
    yield
    return
  # Never removed: a new file of the name would be another lock.
  try:
    file = open(os.path.join(folder, NAME), "a+")  # noqa: SIM115
  except OSError as e:
    raise errors.UserError(
      f"{given} cannot be written ({e.strerror}): give a folder that you own."
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
        f"{given} cannot be locked ({e.strerror}): see to it that nothing "
        "else writes there"
      )
    now = datetime.datetime.now(datetime.timezone.utc)
    owner = f"process {os.getpid()} on {socket.gethostname()} {what} there"
    with contextlib.suppress(OSError):  # a full disk: the lock holds anyway
      file.truncate(0)
      file.write(f"{owner} since {now:%Y-%m-%d %H:%M:%S} UTC\n")
      file.flush()
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        file.truncate(0)


def _say_other_writers(folder: str, given: str) -> None:
  """Says which other host wrote events in a cloud folder minutes ago."""
  for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []:
    match = _EVENTS.fullmatch(name)
    if not match or match[1] == socket.gethostname():
      continue
    stat = tf.io.gfile.stat(os.path.join(folder, name))
    age = time.time() - stat.mtime_nsec / 1e9
    if age < _RECENT:
      console.say(
        f"WARNING: {given}: {match[1]} wrote {name} {age:.0f} seconds ago; see "
        "to it that one machine alone trains there"
      )
      return
