"""On the TPU VM: runs commands that outlive the connection, and reports.

  python3 -m tools.cloud.on_tpu start --id=1 -- COMMAND … '&&' COMMAND …
  python3 -m tools.cloud.on_tpu report --offset=0

`start` returns at once; the same --id again starts nothing. The commands run
one after the other, until one fails. --save=FOLDER=gs://… copies a folder there
every minute and at the end; --restore=FOLDER=gs://… brings back what was saved.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

from tools.cloud import arguments, kinds

MARK = "on_tpu: "  # before the line that `report` is read by
_FOLDER = "tpu_job"
_EVERY = 60.0  # seconds between two copies
_MOST = 60_000  # bytes of log of one report
_STOPPED = 143


def main(words: list[str]) -> int:
  """One of start, supervise (internal) and report.

  Args:
    words: of the command line.

  Returns:
    the exit status
  """
  given = _parser().parse_args(words)
  os.makedirs(_FOLDER, exist_ok=True)
  if given.what == "start":
    start(given)
    print(MARK + json.dumps(report(0)))
  elif given.what == "supervise":
    supervise()
  else:
    print(MARK + json.dumps(report(given.offset)))
  return 0


def _parser() -> argparse.ArgumentParser:
  found = arguments.Parser(prog="python3 -m tools.cloud.on_tpu")
  found.add_argument("what", choices=("start", "report", "supervise"))
  found.add_argument("--id", default="")
  found.add_argument("--offset", type=int, default=0)
  found.add_argument("--save", action="append", default=[])
  found.add_argument("--restore", action="append", default=[])
  found.add_argument("--env", action="append", default=[])
  return found


def _path(name: str) -> str:
  return os.path.join(_FOLDER, name)


def _read(name: str) -> dict:
  try:
    with open(_path(name), encoding="utf-8") as f:
      return json.load(f)
  except (OSError, ValueError):
    return {}


def _write(name: str, content: dict) -> None:
  part = _path(f"{name}.part")
  with open(part, "w", encoding="utf-8") as f:
    json.dump(content, f)
  os.replace(part, _path(name))


def start(given) -> None:
  """Starts the commands, unless this job was started before.

  Args:
    given: parsed arguments.

  Raises:
    UserError: if another job still runs.
  """
  job = _read("job.json")
  if job.get("id") == given.id:
    return
  if job and _alive(job.get("pid")):
    raise kinds.UserError(
      f"job {job['id']} still runs on this machine: end it first (kill "
      f"{job['pid']})."
    )
  for name in ("status.json", "log"):
    if os.path.exists(_path(name)):
      os.unlink(_path(name))
  commands: list[list[str]] = [[]]
  for word in given.rest:
    if word == "&&":
      commands.append([])
    else:
      commands[-1].append(word)
  job = dict(
    id=given.id,
    commands=commands,
    save=given.save,
    restore=given.restore,
    env=dict(pair.split("=", 1) for pair in given.env),
  )
  _write("job.json", job)
  with open(_path("log"), "a") as log:
    child = subprocess.Popen(
      [sys.executable, "-m", "tools.cloud.on_tpu", "supervise"],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      start_new_session=True,  # it outlives the connection
    )
  _write("job.json", {**job, "pid": child.pid})


def supervise() -> None:
  """Runs the commands of the job, and keeps how they ended."""
  job = _read("job.json")
  stopped = []
  child: list[subprocess.Popen] = []

  def stop(number, frame):
    stopped.append(number)
    for running in child:
      running.send_signal(signal.SIGTERM)

  signal.signal(signal.SIGTERM, stop)
  for pair in job["restore"]:
    local, remote = pair.split("=", 1)
    os.makedirs(local, exist_ok=True)
    _copy(remote, local)  # there is nothing yet at the first start
  status = 0
  for command in job["commands"]:
    if stopped:
      break
    print(f"$ {' '.join(command)}", flush=True)
    try:
      running = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env={**os.environ, **job["env"]}
      )
    except OSError as e:
      print(f"error: {command[0]} cannot be run: {e.strerror}", flush=True)
      status = 2
      break
    child[:] = [running]
    while True:
      try:
        status = running.wait(_EVERY)
        break
      except subprocess.TimeoutExpired:
        _save(job["save"])
    if status:
      break
  saved = _save(job["save"])
  _write(
    "status.json",
    dict(status=_STOPPED if stopped and not status else status, saved=saved),
  )


def _save(pairs: list[str]) -> bool:
  good = True
  for pair in pairs:
    local, remote = pair.split("=", 1)
    if os.path.isdir(local):
      good = _copy(local, remote) and good
  return good


def _copy(source: str, target: str) -> bool:
  """Copies a folder from or to the cloud; says on the log if it could not."""
  command = ["gcloud", "storage", "rsync", "--recursive", source, target]
  try:
    done = subprocess.run(
      command,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=600,
      check=False,
    )
  except (OSError, subprocess.TimeoutExpired) as e:
    print(f"{source} was not copied to {target}: {e}", flush=True)
    return False
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    print(f"{source} was not copied to {target}: {last}", flush=True)
  return done.returncode == 0


def _alive(pid) -> bool:
  """Whether a process is there, as something else than a zombie."""
  try:
    with open(f"/proc/{int(pid)}/stat") as f:
      return f.read().rpartition(")")[2].split()[0] != "Z"
  except (OSError, ValueError, TypeError, IndexError):
    return False


def report(offset: int) -> dict:
  """How the job stands.

  Args:
    offset: bytes of its log that are known already.

  Returns:
    `id`; `running`; `status` (None while it runs, or where it ended without
    one); `saved`; `text` from the offset and the `offset` after it
  """
  job, end = _read("job.json"), _read("status.json")
  running = not end and (
    _alive(job.get("pid")) or ("pid" not in job and _is_new("job.json"))
  )
  if not running:
    end = _read("status.json")  # it may have ended between the two looks
  text = b""
  try:
    with open(_path("log"), "rb") as f:
      f.seek(offset)
      text = f.read(_MOST)
  except OSError:
    pass
  return dict(
    id=job.get("id"),
    running=bool(running),
    status=end.get("status"),
    saved=end.get("saved", True),
    text=text.decode(errors="replace"),
    offset=offset + len(text),
  )


def _is_new(name: str) -> bool:
  return time.time() - os.path.getmtime(_path(name)) < 60


if __name__ == "__main__":
  try:
    sys.exit(main(sys.argv[1:]))
  except kinds.UserError as e:
    print(f"error: {e}", file=sys.stderr)
    sys.exit(2)
