"""One writer at a time in a folder.

On a local disk the lock is the kernel's (`flock`), so it ends with its process,
however that ends. A cloud folder has no such thing: there a file is a lease
that its owner renews, and that another may take once it is old.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import console

NAME = "in_use.lock"
_RENEWED_EVERY = 30.0  # seconds
_OLD = 180.0  # seconds without renewal after which a lease is nobody's
_SETTLED = 2.0  # seconds after which two writers of a lease see the same one


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
  holding = lease if "://" in folder else _flock
  with holding(os.path.join(folder, NAME), given, what):
    yield


def _me(what: str) -> dict:
  now = datetime.datetime.now(datetime.timezone.utc)
  return dict(
    pid=os.getpid(),
    host=socket.gethostname(),
    since=now.strftime("%Y-%m-%d %H:%M:%S UTC"),
    does=what,
  )


def _refusal(given: str, owner: dict, more: str = "") -> errors.UserError:
  return errors.UserError(
    f"{given} is in use: process {owner.get('pid', '?')} on "
    f"{owner.get('host', '?')} {owner.get('does', 'writes')} there since "
    f"{owner.get('since', '?')}: end it first, or give another folder{more}."
  )


def _parsed(text: str) -> dict:
  try:
    found = json.loads(text)
  except ValueError:
    return {}
  return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _flock(path: str, given: str, what: str) -> Iterator[None]:
  # Never removed: a new file of the name would be another lock.
  try:
    file = open(path, "a+")  # noqa: SIM115  (open as long as it is held)
  except OSError as e:
    raise errors.UserError(
      f"{given} cannot be written ({e.strerror}): give a folder that you own."
    ) from None
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
      if e.errno not in (errno.EWOULDBLOCK, errno.EACCES):
        console.say(
          f"{given} cannot be locked ({e.strerror}): see to it that nothing "
          "else writes there"
        )
        yield
        return
      file.seek(0)
      raise _refusal(given, _parsed(file.read())) from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds anyway
      file.truncate(0)
      file.write(json.dumps(_me(what)) + "\n")
      file.flush()
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        file.truncate(0)


@contextlib.contextmanager
def lease(path: str, given: str, what: str) -> Iterator[None]:
  """Holds a file that says who writes, and renews it.

  Two that come in the same second may both find nobody there: each writes,
  waits, and the one whose text was overwritten gives way.

  Args:
    path: of the file.
    given: where its folder came from, for messages.
    what: the verb of what is done there.

  Raises:
    UserError: if another holds it.
  """
  me = {**_me(what), "id": uuid.uuid4().hex}
  there = _owner(path)
  if there and not _is_gone(there):
    raise _refusal(
      given,
      there,
      f"; if it was lost with its machine, try again in {_OLD:.0f} seconds",
    )
  _renew(path, me)
  time.sleep(_SETTLED)
  there = _owner(path)
  if there.get("id") != me["id"]:
    raise _refusal(given, there)
  ended = threading.Event()
  thread = threading.Thread(
    target=_keep_renewing, args=(path, me, given, ended.wait), daemon=True
  )
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    with contextlib.suppress(tf.errors.OpError):
      if _owner(path).get("id") == me["id"]:
        tf.io.gfile.remove(path)


def _owner(path: str) -> dict:
  try:
    with tf.io.gfile.GFile(path) as f:
      return _parsed(f.read())
  except tf.errors.NotFoundError:
    return {}


def _renew(path: str, me: dict) -> None:
  with tf.io.gfile.GFile(path, "w") as f:
    f.write(json.dumps({**me, "renewed": time.time()}))


def _keep_renewing(path: str, me: dict, given: str, wait) -> None:
  """Renews a lease until `wait(seconds)` is true."""
  while not wait(_RENEWED_EVERY):
    try:
      owner = _owner(path)
      if owner and owner.get("id") != me["id"]:
        # This process slept so long that it was taken for dead.
        console.terminal().write(f"error: {_refusal(given, owner)}\n")
        os._exit(2)
      _renew(path, me)
    except tf.errors.OpError as e:
      tf.logging.warning("%s is not renewed: %s", path, e)


def _is_gone(owner: dict) -> bool:
  """Whether the owner of a lease can be known to live no more."""
  if time.time() - owner.get("renewed", 0) > _OLD:
    return True
  if owner.get("host") != socket.gethostname():
    return False
  try:
    os.kill(owner["pid"], 0)
  except ProcessLookupError:
    return True
  except (KeyError, TypeError, OSError):
    return False
  return False
