"""Runs `gcloud`, and knows its failures by what they call for."""

import dataclasses
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence

from tools.cloud import kinds

# What a message says, and what it calls for. The first that matches counts.
# "login", "ssh" and "workers" were read in gcloud's own code, "capacity" and
# "quota" in public threads; the rest are the API's status names.
LOGIN = "login"
QUOTA = "quota"
CAPACITY = "capacity"
MISSING = "missing"
EXISTS = "exists"
DENIED = "denied"
GONE = "gone"
SSH = "ssh"
OTHER = "other"
_MESSAGES = (
  (
    LOGIN,
    r"do not currently have an active account|gcloud auth login"
    r"|Reauthentication failed",
  ),
  (
    QUOTA,
    r"[Qq]uota '?[\w./-]*'? ?(limit|exceeded)|Quota limit|QUOTA_EXCEEDED",
  ),
  (
    CAPACITY,
    r"no more capacity|Insufficient (reserved )?capacity"
    r"|RESOURCE_EXHAUSTED|ZONE_RESOURCE_POOL_EXHAUSTED",
  ),
  (GONE, r"terminal state|in state \"?(PREEMPTED|TERMINATED)"),
  (MISSING, r"NOT_FOUND|was not found|not found"),
  (EXISTS, r"ALREADY_EXISTS|already exists"),
  (DENIED, r"PERMISSION_DENIED|has not been used in project"),
)
_FAILED_WORKER = re.compile(r"Command execution on worker (\d+) failed")
_SSH_FAILED = 255  # what ssh itself ends with


class Failure(Exception):
  """A `gcloud` that did not do it.

  Attributes:
    kind: one of this module's.
    command: what was run.
    message: of gcloud, on one line.
    workers: those on which a command failed, of several.
    status: its exit status.
  """

  def __init__(self, kind, command, message, workers=(), status=1):
    super().__init__(f"{shlex.join(command)[:200]}: {message}")
    self.kind = kind
    self.command = command
    self.message = message
    self.workers = tuple(workers)
    self.status = status


class Interrupted(Exception):
  """The user ends this program; what is there stays."""


@dataclasses.dataclass
class Gcloud:
  """The command and how it is called.

  Attributes:
    program: its path or name.
    say: prints a line.
    project: given to every command that takes it; "" leaves gcloud's own.
    dry: print the commands and run none; answers come from `answers`.
    answers: what a dry run takes for the output of a command.
    stopped: set when nothing new may begin.
  """

  program: str
  say: Callable[[str], None]
  project: str = ""
  dry: bool = False
  answers: Callable[[Sequence[str]], str] = lambda arguments: ""
  stopped: threading.Event = dataclasses.field(default_factory=threading.Event)

  def __post_init__(self):
    self._seen: set[str] = set()
    self._lock = threading.Lock()

  def run(self, arguments: Sequence[str], timeout: float = 3600) -> str:
    """Runs one command.

    Args:
      arguments: after "gcloud".
      timeout: seconds after which it is taken to hang.

    Returns:
      its standard output

    Raises:
      Failure: if it failed.
      Interrupted: if this program is ending.
      UserError: if there is no gcloud.
    """
    if self.stopped.is_set():
      raise Interrupted()
    command = [self.program, *arguments]
    if self.project:
      command.append(f"--project={self.project}")
    if self.dry:
      with self._lock:  # a poll is printed once
        text = shlex.join(command)
        if text not in self._seen:
          self._seen.add(text)
          self.say(text)
      return self.answers(arguments)
    try:
      done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
      )
    except (FileNotFoundError, PermissionError):
      raise kinds.UserError(
        f"{self.program} is not installed: install Google Cloud's command line "
        "(cloud.google.com/sdk), or use Cloud Shell, which has it."
      ) from None
    except subprocess.TimeoutExpired:
      raise Failure(
        SSH, command, f"did not end in {timeout:.0f} seconds", status=255
      ) from None
    if done.returncode:
      raise failure(command, done.returncode, done.stderr or done.stdout)
    return done.stdout

  def state(self, arguments: Sequence[str]) -> dict | None:
    """What `describe` says.

    Args:
      arguments: of the description.

    Returns:
      it; None if there is no such thing

    Raises:
      Failure: if it failed in another way.
    """
    try:
      text = self.run([*arguments, "--format=json"], timeout=300)
    except Failure as e:
      if e.kind == MISSING:
        return None
      raise
    try:
      return json.loads(text)
    except ValueError:
      raise Failure(
        OTHER, list(arguments), f"is not JSON: {text[:200]!r}"
      ) from None


def failure(command: Sequence[str], status: int, text: str) -> Failure:
  """What a failed command calls for.

  Args:
    command: as it was run.
    status: its exit status.
    text: what it said.
  """
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  errors = [n for n, line in enumerate(lines) if line.startswith("ERROR")]
  message = " ".join(lines[errors[-1] :] if errors else lines[-3:])[:600]
  workers = [int(n) for n in _FAILED_WORKER.findall(text)]
  kind = next((k for k, p in _MESSAGES if re.search(p, text)), OTHER)
  if _is_ssh(command):
    # The words of a program on the machine are not gcloud's own.
    if not errors and kind not in (LOGIN, GONE):
      kind = OTHER
    if status == _SSH_FAILED and kind == OTHER:
      kind = SSH
  return Failure(kind, list(command), message or "no message", workers, status)


def _is_ssh(command: Sequence[str]) -> bool:
  return "ssh" in command[:6] or "scp" in command[:6]
