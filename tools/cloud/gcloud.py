"""Runs gcloud and classifies its failures."""

import dataclasses
import enum
import json
import re
import subprocess
from collections.abc import Sequence

from tools.cloud import command_line

Kind = enum.Enum("Kind", "LOGIN QUOTA CAPACITY MISSING DENIED SSH OTHER")
# The first match counts. LOGIN is from gcloud's code, CAPACITY and QUOTA are
# from public discussions; the rest are the API's status names.
_MESSAGES = {
  Kind.LOGIN: r"do not currently have an active account|gcloud auth login"
  r"|Reauthentication failed",
  Kind.QUOTA: r"[Qq]uota '?[\w./-]*'? ?(limit|exceeded)|Quota limit"
  r"|QUOTA_EXCEEDED",
  Kind.CAPACITY: r"no more capacity|Insufficient (reserved )?capacity"
  r"|RESOURCE_EXHAUSTED|ZONE_RESOURCE_POOL_EXHAUSTED",
  Kind.MISSING: r"NOT_FOUND|was not found|not found",
  Kind.DENIED: r"PERMISSION_DENIED|has not been used in project",
}
_ADVICE = {
  Kind.QUOTA: ": request quota in the console (IAM, Quotas), or use another "
  "zone, or --spot, which has its own quota",
  Kind.DENIED: ": enable the Cloud TPU API, with an account that may use it",
}
REFUSALS = (Kind.QUOTA, Kind.CAPACITY, Kind.DENIED)  # nothing was made
_SSH_FAILED = 255  # the exit status of ssh itself


class Stop(Exception):
  """The life of a TPU cannot continue; the message is one sentence."""


class Failure(Stop):
  """A gcloud command that failed."""

  def __init__(self, kind: Kind, message: str):
    super().__init__(message + _ADVICE.get(kind, ""))
    self.kind = kind


@dataclasses.dataclass
class Gcloud:
  """Calls gcloud with a project; "" for gcloud's default."""

  project: str

  def command(self, arguments: Sequence[str]) -> list[str]:
    project = [f"--project={self.project}"] if self.project else []
    return ["gcloud", *arguments, *project]

  def run(self, arguments: Sequence[str], timeout: float = 3600) -> str:
    """Runs one command and returns its standard output.

    Raises:
      Failure: if it fails, or takes longer than `timeout` seconds.
      UserError: if there is no gcloud.
    """
    try:
      done = subprocess.run(
        self.command(arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
      )
    except FileNotFoundError:
      raise command_line.UserError(
        "there is no gcloud here: install Google Cloud's command line "
        "(cloud.google.com/sdk), or use Cloud Shell, which has it."
      ) from None
    except subprocess.TimeoutExpired:
      raise Failure(Kind.SSH, f"no answer in {timeout:.0f} seconds") from None
    if done.returncode:
      raise classify(arguments, done.returncode, done.stderr or done.stdout)
    return done.stdout

  def describe(self, arguments: Sequence[str]) -> dict | None:
    """The answer of a `describe` command; None if nothing was found."""
    try:
      return json.loads(self.run([*arguments, "--format=json"], timeout=300))
    except Failure as e:
      if e.kind is Kind.MISSING:
        return None
      raise


def classify(arguments: Sequence[str], status: int, text: str) -> Failure:
  """The Failure of a command, by its exit status and output."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  errors = [n for n, line in enumerate(lines) if line.startswith("ERROR")]
  message = " ".join(lines[errors[-1] :] if errors else lines[-3:])[:600]
  kind = next(
    (k for k, p in _MESSAGES.items() if re.search(p, text)), Kind.OTHER
  )
  if {"ssh", "scp"} & set(arguments[:4]):
    # The output may be from a program on the TPU VM, not from gcloud.
    if not errors and kind is not Kind.LOGIN:
      kind = Kind.OTHER
    if status == _SSH_FAILED and kind is Kind.OTHER:
      kind = Kind.SSH
  return Failure(kind, message or "no message")
