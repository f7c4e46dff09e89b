r"""Makes Cloud TPUs, trains on them, brings back the results, deletes them.

  python -m tools.tpu run --name=l2 --zone=ZONE --accelerator_type=v3-8 \
    --gs_dir=gs://BUCKET/l2 --dry_run -- --gin_file=models/base.gin \
    --gin_file=hypergrid/L2.gin --gin_file=experiments/glue.gin …

`run` is the whole life; create, install, start, follow, fetch, delete and
status are its parts. What stands after -- are flags of `hypergrid_mtf.main`,
or, with --sweep=FILE, of `tools.sweep`; with --tpus=3 each of three TPUs takes
a third of the sweep's models. How far it is stands in <state_dir>/<name>.json:
after Ctrl-C or a crash the same command goes on. A TPU that is taken away is
made anew, and the training goes on from its last checkpoint.

--dry_run prints every gcloud command and runs none. Where a TPU is left behind,
that is said, with its cost. Needs gcloud and Python; it was tested against a
stand-in for gcloud and has not met a real TPU (docs/cloud_tpu.md).
"""

import argparse
import concurrent.futures
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable

from tools.cloud import (
  arguments,
  bundle,
  dry,
  gcloud,
  kinds,
  life,
  machine,
  plan_file,
)

_PARTS = ("create", "install", "start", "follow", "fetch", "delete", "status")
# What this program gives itself.
_OURS = ("model_dir", "models_dir", "output_dir", "tpu", "share", "common")


def parser() -> argparse.ArgumentParser:
  """The flags."""
  found = arguments.Parser(prog="python -m tools.tpu", description=__doc__)
  add = found.add_argument
  add("what", choices=("run", *_PARTS))
  add("--name", required=True, help="of the TPU, or of all of them")
  add("--zone", default="", help="e.g. us-central1-a")
  add("--accelerator_type", default="", help="e.g. v3-8")
  add("--runtime_version", default="", help="the image; by default TF 2.15.0's")
  add("--project", default="", help="if not gcloud's own")
  add("--spot", action="store_true", help="cheaper, and may be taken away")
  add("--queued", action="store_true", help="wait in Google's queue")
  add("--valid_until_duration", default="", help="of the queue, e.g. 6h")
  add("--gs_dir", default="", help="gs://… where models and results are kept")
  add("--sweep", default="", help="a sweep instead of one run")
  add("--tpus", type=int, default=1, help="how many share the sweep")
  add("--then", action="append", default=[], help="flags of a further run")
  add("--add", action="append", default=[], help="a module of your own")
  add("--output_dir", default="", help="of the results; runs/tpu/<name>")
  add("--fetch_checkpoints", action="store_true", help="bring weights too")
  add("--keep", action="store_true", help="delete no TPU at the end")
  add("--keep_after_error", action="store_true", help="nor after an error")
  add("--price_per_hour", type=float, help="of one TPU, to say what it costs")
  add("--restarts", type=int, default=20, help="times it may be taken away")
  add("--retries", type=int, default=2, help="times the job may fail")
  add("--capacity_hours", type=float, default=24.0, help="to wait for a TPU")
  add("--state_dir", default="runs/tpu", help="where it is kept how far it is")
  add("--gcloud", default="gcloud", help="its path")
  add("--dry_run", action="store_true", help="print the commands, run none")
  return found


def plan_of(given: argparse.Namespace) -> plan_file.Plan:
  """What the flags ask for.

  Args:
    given: parsed.

  Raises:
    UserError: naming the flag and what would be right.
  """
  if not re.fullmatch(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?", given.name):
    raise kinds.UserError(
      f"--name={given.name} cannot be a TPU's: give lower-case letters, digits "
      "and hyphens, a letter first."
    )
  for flag in ("zone", "accelerator_type", "gs_dir"):
    if not getattr(given, flag):
      raise kinds.UserError(f"--{flag} is not given.")
  kind = given.accelerator_type
  image = given.runtime_version or kinds.image_of(kind)
  kinds.check(kind, image)
  if not re.match(r"gs://[^/]+/.", given.gs_dir):
    raise kinds.UserError(
      f"--gs_dir={given.gs_dir} is not a folder in the cloud: give "
      "gs://BUCKET/FOLDER, because what is on a TPU VM is lost with it."
    )
  if given.tpus < 1 or (given.tpus > 1 and not given.sweep):
    raise kinds.UserError(
      f"--tpus={given.tpus} shares a sweep: give --sweep, or a larger "
      "--accelerator_type for one run."
    )
  if given.then and given.sweep:
    raise kinds.UserError("--then is for one run: a sweep evaluates its own.")
  if given.valid_until_duration and not given.queued:
    raise kinds.UserError("--valid_until_duration is of the queue: --queued.")
  further = [word for more in given.then for word in _split(more)]
  for word in [*given.rest, *further]:
    name = word.lstrip("-").split("=")[0]
    if not word.startswith("--") or name in _OURS:
      raise kinds.UserError(
        f"{word!r} cannot be given after --: "
        + (
          "this program gives it."
          if word.startswith("--")
          else "every option begins with -- and has its value behind a =."
        )
      )
  return plan_file.Plan(
    name=given.name,
    zone=given.zone,
    accelerator_type=kind,
    image=image,
    gs_dir=given.gs_dir.rstrip("/"),
    arguments=[f"--sweep={given.sweep}"] * bool(given.sweep) + given.rest,
    project=given.project,
    spot=given.spot,
    queued=given.queued,
    valid_until_duration=given.valid_until_duration,
    sweep=bool(given.sweep),
    tpus=given.tpus,
    then=given.then,
    add=given.add,
  )


def _split(text: str) -> list[str]:
  try:
    return shlex.split(text)
  except ValueError as e:
    raise kinds.UserError(f"--then={text!r}: {e}.") from None


def record_of(given: argparse.Namespace) -> plan_file.Record:
  """The record of a name: as it was left, or begun.

  Args:
    given: parsed.

  Raises:
    UserError: if TPUs of another plan are there, or none was begun.
  """
  path = plan_file.path_of(given.state_dir, given.name)
  old = plan_file.read(path)
  if given.what not in ("run", "create"):
    if old is None:
      raise kinds.UserError(
        f"nothing is known of --name={given.name} ({path} is not there): begin "
        "with run or create, or give its --state_dir."
      )
    return old
  plan = plan_of(given)
  nodes = {name: plan_file.Node() for name in plan.names}
  if old:
    there = [name for name, node in old.nodes.items() if node.asked]
    other = [f for f in vars(plan) if vars(plan)[f] != vars(old.plan)[f]]
    if there and other:
      raise kinds.UserError(
        f"--{other[0]} is another than {given.name} was begun with, and "
        f"{', '.join(there)} may be there: python -m tools.tpu delete "
        f"--name={given.name} first, or give another --name."
      )
    if not other:
      nodes = old.nodes
    else:
      for name in nodes.keys() & old.nodes.keys():
        nodes[name].hours = old.nodes[name].hours
  return plan_file.Record("" if given.dry_run else path, plan, nodes)


class Clock:
  """Time, which ends early for a program that is ending."""

  def __init__(self, stopped: threading.Event):
    self._stopped = stopped

  def now(self) -> float:
    return time.time()

  def sleep(self, seconds: float) -> None:
    if self._stopped.wait(seconds):
      raise gcloud.Interrupted()


def main(words: list[str], clock=None, say=None) -> int:
  """Does what the command line says.

  Args:
    words: of the command line.
    clock: instead of a Clock, for tests.
    say: instead of print.

  Returns:
    the exit status: 0; 1 if something failed; 130 if it was interrupted

  Raises:
    UserError: for what is wrong before anything begins.
  """
  given = parser().parse_args(words)
  say = say or (lambda line: print(line, flush=True))
  record = record_of(given)
  stopped = threading.Event()
  clock = clock or Clock(stopped)
  cloud = gcloud.Gcloud(
    given.gcloud,
    say,
    record.plan.project,
    given.dry_run,
    dry.Answers(),
    stopped,
  )
  archive = os.path.join(given.state_dir, f"{given.name}.tar.gz")
  if given.what in ("run", "install") and not given.dry_run:
    os.makedirs(given.state_dir, exist_ok=True)
    bundle.write(archive, record.plan.add)
  lives = [
    life.Life(
      name,
      record,
      cloud,
      clock,
      (lambda line: None) if given.dry_run else say,
      archive,
      given.price_per_hour,
      given.restarts,
      given.retries,
      given.capacity_hours,
    )
    for name in record.plan.names
  ]
  output_dir = given.output_dir or os.path.join(given.state_dir, given.name)

  def whole(one: life.Life) -> None:
    _whole(one, given, output_dir)

  parts: dict[str, Callable[[life.Life], None]] = dict(
    run=whole,
    create=life.Life.create,
    install=life.Life.install,
    start=life.Life.start,
    follow=life.Life.follow,
    fetch=lambda one: one.fetch(output_dir, given.fetch_checkpoints),
    delete=life.Life.delete,
    status=lambda one: one.say(f"{one.state() or 'not there'}, {one.cost()}"),
  )
  if given.what in ("run", "start"):
    for one in lives:
      one.begin_again()
  record.save()
  if given.what == "delete":
    lives = [one for one in lives if one.is_there] or lives
  if given.dry_run:
    for one in lives:
      parts[given.what](one)
    if given.what == "run":
      say("# where a TPU is taken away: deleted, then again from create")
    return 0
  failures = _all(lives, parts[given.what], stopped)
  if failures or given.what not in ("status", "create", "install", "start"):
    _say_what_is_left(lives, record, given, say)
  for name, sentence in failures.items():
    say(f"error: {name}: {sentence}")
  return 130 if stopped.is_set() else int(bool(failures))


def _whole(one: life.Life, given, output_dir: str) -> None:
  """From nothing to results, and to no TPU."""
  error: Exception | None = None
  try:
    one.live()
  except (machine.Stop, gcloud.Failure, kinds.UserError) as e:
    error = e
  more = []
  if one.began:
    try:
      one.fetch(output_dir, given.fetch_checkpoints)
    except machine.Stop as e:
      more.append(str(e))
  keep = given.keep_after_error if error else given.keep
  if one.is_there and not keep and not isinstance(error, machine.Unsaved):
    try:
      one.delete()
    except (machine.Stop, gcloud.Failure) as e:
      more.append(str(e))
  if error or more:
    said = [_sentence(error)] if error else []
    raise machine.Stop("; ".join([*said, *more]))


def _sentence(error: Exception) -> str:
  if isinstance(error, gcloud.Failure):
    return machine.refusal(error)
  return str(error)


def _all(lives, part, stopped: threading.Event) -> dict[str, str]:
  """Does a part for all TPUs at the same time.

  Args:
    lives: of all.
    part: a function of one.
    stopped: set where this program is interrupted.

  Returns:
    {name: what is wrong}
  """
  failures: dict[str, str] = {}

  def one(which: life.Life) -> None:
    try:
      part(which)
    except gcloud.Interrupted:
      pass
    except machine.Gone:
      failures[which.name] = (
        "the TPU was taken away: run goes on with a new one"
      )
    except (machine.Stop, gcloud.Failure, kinds.UserError) as e:
      failures[which.name] = _sentence(e)

  with concurrent.futures.ThreadPoolExecutor(len(lives)) as pool:
    futures = [pool.submit(one, which) for which in lives]
    try:
      for future in futures:
        future.result()
    except KeyboardInterrupt:
      stopped.set()
  return failures


def _say_what_is_left(lives, record, given, say) -> None:
  for one in lives:
    if not one.is_there:
      continue
    plan = record.plan
    what = f"{plan.accelerator_type}, {plan.zone}"
    if given.price_per_hour is not None:
      what += f", {given.price_per_hour:g} an hour"
    command = f"python -m tools.tpu delete --name={plan.name}"
    if given.state_dir != "runs/tpu":
      command += f" --state_dir={given.state_dir}"
    say(
      f"TPU {one.name} ({what}) may still be there and cost money, "
      f"{one.cost()} so far: {command}"
    )


def run(words: list[str]) -> int:
  """The command: one sentence for what the user can put right.

  Args:
    words: of the command line.

  Returns:
    the exit status
  """

  def stop(number, frame):
    raise KeyboardInterrupt

  signal.signal(signal.SIGTERM, stop)
  try:
    return main(words)
  except kinds.UserError as e:
    print(f"error: {e}", file=sys.stderr)
    return 2


if __name__ == "__main__":
  sys.exit(run(sys.argv[1:]))
