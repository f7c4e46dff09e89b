"""Runs commands on the TPU VM that outlive the connection, and reports.

  python3 -m tools.cloud.job start --id=1 -- COMMAND … '&&' COMMAND …
  python3 -m tools.cloud.job report --offset=0

`start` returns at once; it does nothing if a job with the same --id is running
or has succeeded. The commands run one after the other until one fails.
--save=FOLDER=gs://… restores the folder from there, and copies it there every
minute and at the end.
"""

import fcntl
import itertools
import json
import os
import shlex
import subprocess
import sys

from tools.cloud import command_line

MARK = "job report: "  # before the JSON of a report
_FOLDER = "tpu_job"
_SAVE_SECONDS = 60.0
_MAX_LOG = 60_000  # bytes of one report


def main(words: list[str]) -> int:
  parser = command_line.Parser(
    prog="python3 -m tools.cloud.job", description=__doc__
  )
  parser.add_argument("what", choices=("start", "report", "supervise"))
  parser.add_argument("--id", default="")
  parser.add_argument("--offset", type=int, default=0)
  parser.add_argument("--save", action="append", default=[])
  given = parser.parse_args(words)
  os.makedirs(_FOLDER, exist_ok=True)
  if given.what == "supervise":
    run_commands(given.rest, given.save)
    return 0
  if given.what == "start":
    start(given.id, words)
  print(MARK + json.dumps(report(given.offset)))
  return 0


def _path(name: str) -> str:
  return os.path.join(_FOLDER, name)


def _read(name: str) -> dict:
  try:
    with open(_path(name), encoding="utf-8") as f:
      return json.load(f)
  except (OSError, ValueError):
    return {}


def _write(name: str, **content) -> None:
  with open(_path(f"{name}.part"), "w", encoding="utf-8") as f:
    json.dump(content, f)
  os.replace(_path(f"{name}.part"), _path(name))


def _lock():
  """The lock file, now locked; None if a job is running."""
  f = open(_path("lock"), "a")  # noqa: SIM115 (it is returned open)
  try:
    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    f.close()
    return None
  return f


def start(job_id: str, words: list[str]) -> None:
  """Starts a job, unless it is running or has succeeded.

  Raises:
    UserError: if another job is running.
  """
  job, end, lock = _read("job.json"), _read("status.json"), _lock()
  same = job.get("id") == job_id
  if not lock and not same:
    raise command_line.UserError(
      f"job {job.get('id')} is still running on this machine: delete the TPU, "
      f"or end the job there with kill -- -{job.get('pid')}."
    )
  if not lock or (same and end == dict(status=0, saved=True)):
    return
  if end:
    os.unlink(_path("status.json"))
  _write("job.json", id=job_id)
  with lock, open(_path("log"), "w") as log:
    child = subprocess.Popen(
      [sys.executable, "-m", "tools.cloud.job", "supervise", *words[1:]],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      start_new_session=True,  # it outlives the connection
      pass_fds=[lock.fileno()],  # it holds the lock
    )
  _write("job.json", id=job_id, pid=child.pid)


def run_commands(words: list[str], save: list[str]) -> None:
  """Runs the commands separated by "&&", and records their exit status."""
  for pair in save:
    local, remote = pair.split("=", 1)
    os.makedirs(local, exist_ok=True)
    _copy(remote, local)  # at the first start nothing is there yet
  status: int | None = 0
  for separator, group in itertools.groupby(words, "&&".__eq__):
    command = list(group)
    if separator or status:
      continue
    print(f"$ {shlex.join(command)}", flush=True)
    child, status = subprocess.Popen(command, stdin=subprocess.DEVNULL), None
    while status is None:
      try:
        status = child.wait(_SAVE_SECONDS)
      except subprocess.TimeoutExpired:
        _save(save)
  _write("status.json", status=status, saved=_save(save))


def _save(pairs: list[str]) -> bool:
  copied = [_copy(*pair.split("=", 1)) for pair in pairs]
  return all(copied)


def _copy(source: str, target: str) -> bool:
  """Copies a folder from or to the cloud; logs a failure."""
  command = ["gcloud", "storage", "rsync", "--recursive", source, target]
  try:
    subprocess.run(
      command,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=600,
      check=True,
    )
  except (OSError, subprocess.SubprocessError) as e:
    said = (getattr(e, "stderr", None) or str(e)).strip().splitlines()
    print(f"{source} was not copied to {target}: {said[-1]}", flush=True)
    return False
  return True


def report(offset: int) -> dict:
  """Returns `id`, `running`, `status`, `saved`, `text` and `offset` of the job.

  `status` is None while the job runs, or if it ended without one; `text` is the
  log from the given offset (negative: from the end), `offset` its new end.
  """
  lock = _lock()
  if lock:
    lock.close()
  end = _read("status.json") if lock else {}
  text = b""
  if os.path.exists(_path("log")):
    with open(_path("log"), "rb") as f:
      size = f.seek(0, os.SEEK_END)
      f.seek(offset if offset >= 0 else max(0, size + offset))
      text = f.read(_MAX_LOG)
      offset = f.tell()
  return dict(
    id=_read("job.json").get("id"),
    running=not lock,
    status=end.get("status"),
    saved=end.get("saved", True),
    text=text.decode(errors="replace"),
    offset=max(0, offset),
  )


if __name__ == "__main__":
  command_line.run_program(main)
