"""The life of one TPU: create, install, start, follow, delete.

Every step first asks gcloud and the TPU VM for the current state, so the same
command continues after this program was killed.
"""

import datetime
import itertools
import json
import os
import shlex
import time

from tools.cloud import command_line, commands, gcloud, job, tpu_types

_POLL = 30  # seconds
# Seconds between attempts, for causes that pass by themselves.
_SSH_WAITS = (10, 20, 40, 80, 160, 300)
_FEW_WAITS = (10, 20, 40)
_DELETE_WAITS = (10, 30, 60, 120)
_CAPACITY_WAITS = (60, 120, 240, 480, 600)  # then repeat the last one
# States of a TPU or its request that never become READY again.
_ENDED = (
  *("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING"),
  *("SUSPENDING", "SUSPENDED"),
)


class Gone(Exception):
  """The TPU was preempted."""


class Lifecycle:
  """One TPU and the job on it."""

  def __init__(self, plan: commands.Plan, cloud: gcloud.Gcloud, archive: str):
    """Sets up; `archive` is the path of the packed project."""
    self.may_exist = False  # the TPU, or its request in the queue
    self.started = False  # whether its job was ever started
    self.unsaved = False  # whether it has results that are nowhere else
    self._plan = plan
    self._cloud = cloud
    self._archive = archive
    self._since: float | None = None  # when billing began
    self._hours = 0.0  # hours of earlier TPUs
    self._chips = 0
    self._offset = 0  # bytes of the job's log already shown

  def say(self, line: str) -> None:
    print(f"{self._plan.name}: {line}", flush=True)

  def cost(self) -> str:
    """Hours so far, and the cost if the price is known."""
    hours = self._hours
    if self._since is not None:
      hours += (time.time() - self._since) / 3600
    price = self._plan.price_per_chip_hour
    if price is None:
      return f"{hours:.2f} h (give --price_per_chip_hour for the cost)"
    paid = hours * price * self._chips
    return f"{hours:.2f} h, {paid:.2f} at {price:g} per chip and hour"

  def what_is_left(self) -> str:
    """Says which TPU may be left, its cost, and how to delete it."""
    when = datetime.datetime.fromtimestamp(
      self._since or time.time(), datetime.timezone.utc
    )
    delete = self._cloud.command(commands.delete(self._plan))
    return (
      f"a TPU in {self._plan.zone} may still exist and has cost money since "
      f"{when:%Y-%m-%d %H:%M} UTC, {self.cost()}: {shlex.join(delete)}"
    )

  def state(self) -> str | None:
    """The state reported by gcloud, such as "READY", or None."""
    plan = self._plan
    seen = self._cloud.describe(commands.describe(plan))
    if seen is None:
      if self._since is not None:
        self._hours += (time.time() - self._since) / 3600
        self._since = None
      if plan.queued:
        seen = self._cloud.describe(commands.describe_queue(plan))
      self.may_exist = seen is not None
      return str(seen["state"]["state"]) if seen else None
    found, labels = seen["acceleratorType"], seen.get("labels", {})
    wanted = plan.accelerator_type or found
    if (labels.get(commands.LABEL), found) != (plan.name, wanted):
      raise command_line.UserError(
        f"there is a {found} {plan.name} in {plan.zone} that was not made with "
        "these flags: delete it first, or give another --name."
      )
    self.may_exist = True
    self._chips = tpu_types.num_cores(found) // 2
    created = seen["createTime"][:19] + "+00:00"
    self._since = datetime.datetime.fromisoformat(created).timestamp()
    return str(seen.get("state", "UNKNOWN"))

  def run_job(self) -> None:
    """Creates the TPU and runs the job to its end, on new TPUs if necessary."""
    for times in itertools.count(1):
      try:
        self.create()
        if not self._is_started():
          self.install()
          self.start()
        self.follow()
        return
      except Gone:
        if times > self._plan.restarts:
          raise gcloud.Stop(
            f"it was preempted {times} times, and --restarts="
            f"{self._plan.restarts}"
          ) from None
        self.say(f"was preempted ({times}); requesting a new one")
        self.delete()

  def create(self) -> None:
    """Creates the TPU, unless it exists, and waits until it is READY."""
    plan = self._plan
    deadline = time.time() + plan.capacity_hours * 3600
    last, refusals = None, 0
    while (state := self.state()) != "READY":
      if state in _ENDED:
        raise Gone()
      if state == "FAILED":
        raise gcloud.Stop(
          "the request in Google's queue FAILED: try another zone"
        )
      wait = _POLL
      if state is None and not self._ask():
        wait = _CAPACITY_WAITS[min(refusals, 4)]
        refusals += 1
        state = f"waiting for capacity in {plan.zone}; trying again in {wait} s"
      if time.time() + wait > deadline:
        raise gcloud.Stop(
          f"there was no {plan.accelerator_type} in {plan.zone} for "
          f"{plan.capacity_hours:g} hours: try another zone, --queued, or more "
          "--capacity_hours"
        )
      if state and state != last:
        self.say(f"{state}")
      last = state
      time.sleep(wait)

  def _ask(self) -> bool:
    """Requests a TPU; returns False if there is no capacity."""
    kind = self._plan.accelerator_type
    self.say(f"requesting a {'spot ' * self._plan.spot}{kind}")
    self.may_exist = True  # until gcloud refuses
    try:
      self._cloud.run(commands.create(self._plan))
    except gcloud.Failure as e:
      self.may_exist = e.kind not in gcloud.REFUSALS
      if e.kind is not gcloud.Kind.CAPACITY:
        raise
      return False
    return True

  def _is_started(self) -> bool:
    """Whether the job runs or has succeeded; raises if another one runs."""
    self._offset = -4000  # the last lines
    seen = self._ask_job(commands.report(self._plan, self._offset))
    if seen.get("id") == commands.job_id(self._plan):
      self.started = seen["running"] or (seen["status"] == 0 and seen["saved"])
      return self.started
    if seen.get("running"):
      self.unsaved = True
      raise gcloud.Stop(
        "another job is running on it: give the flags of that job to follow "
        "it, or delete the TPU first"
      )
    return False

  def install(self) -> None:
    """Copies the project to all workers and installs it there."""
    plan = self._plan
    self.say("installing")
    commands.write_archive(self._archive, plan.add)
    for wait in (*_FEW_WAITS, None):
      try:
        self._reach(commands.upload(plan, self._archive))
        printed = self._reach(commands.install(plan))
        break
      except gcloud.Failure as e:
        if wait is None:
          raise gcloud.Stop(f"the installation failed: {e}") from None
        self.say(f"the installation failed ({e}); again in {wait} s")
        time.sleep(wait)
    for line in printed.splitlines():
      if " is ready: " in line:
        self.say(line)

  def _reach(self, arguments: list[str]) -> str:
    """Runs a command over ssh, and repeats it if the connection is lost."""
    for wait in (*_SSH_WAITS, None):
      try:
        return self._cloud.run(arguments)
      except gcloud.Failure as e:
        try:
          state = self.state()
        except gcloud.Failure:  # this machine may be offline
          state = "unknown"
        if state is None or state in _ENDED:
          raise Gone() from None
        if e.kind is not gcloud.Kind.SSH and state != "unknown":
          raise
        if wait is None or e.kind is gcloud.Kind.LOGIN:
          raise gcloud.Stop(
            f"it is {state} and cannot be reached: {e}"
          ) from None
        self.say(f"cannot be reached ({str(e)[:120]}); again in {wait} s")
        time.sleep(wait)
    raise AssertionError  # the loop returns or raises

  def _ask_job(self, arguments: list[str]) -> dict:
    """Runs tools.cloud.job on worker 0; returns its report, or {}."""
    for line in self._reach(arguments).splitlines():
      if line.startswith(job.MARK):
        return json.loads(line[len(job.MARK) :])
    return {}

  def start(self) -> None:
    """Starts the job, unless it is running."""
    self.say("starting the job")
    self._offset = 0
    self._ask_job(commands.start(self._plan))
    self.started = True

  def follow(self) -> None:
    """Shows the job's log until it ends; restarts it if that may help."""
    failures, tail = 0, ""
    while True:
      seen = self._ask_job(commands.report(self._plan, self._offset))
      if not seen:
        raise gcloud.Stop("there is no job on worker 0")
      for line in seen["text"].splitlines():
        if line.strip():
          self.say(f"| {line}")
      tail = (tail + seen["text"])[-2000:]
      self._offset = seen["offset"]
      if seen["running"]:
        time.sleep(_POLL)
        continue
      status = seen["status"]
      if status == 0 and not seen["saved"]:
        self.unsaved = True
        raise gcloud.Stop(
          "the job succeeded, but its last results could not be copied to "
          f"{self._plan.gs_dir}; the same command tries again"
        )
      if status == 0:
        return
      failures += 1
      if status == 2 or failures > self._plan.retries:
        last = [line for line in tail.splitlines() if line.strip()][-1:]
        raise gcloud.Stop(
          f"the job ended with exit status {status}: {' '.join(last)[:300]}"
        )
      self.say(f"the job ended with exit status {status}; restarting it")
      tail = ""
      self.start()

  def fetch(self) -> None:
    """Copies the results from the cloud to this machine."""
    for command in commands.fetch(self._plan):
      os.makedirs(command[-1], exist_ok=True)
      try:
        self._cloud.run(command)
      except gcloud.Failure as e:
        raise gcloud.Stop(
          f"the results in {self._plan.gs_dir} were not copied ({e}): "
          f"{shlex.join(self._cloud.command(command))}"
        ) from None
    self.say(f"results are in {self._plan.output_dir}")

  def delete(self) -> None:
    """Deletes the TPU, and checks that it no longer exists."""
    existed = False
    for wait in (*_DELETE_WAITS, None):
      try:
        if self.state() is not None:
          existed = True
          self._cloud.run(commands.delete(self._plan))
        if self.state() is None:
          if existed:
            self.say(f"deleted, after {self.cost()}")
          return
        message = "it still exists"
      except gcloud.Failure as e:
        message = str(e)
        if e.kind is gcloud.Kind.LOGIN:
          wait = None
      if wait is None:
        raise gcloud.Stop(f"it was not deleted: {message}")
      self.say(f"was not deleted ({message[:200]}); again in {wait} s")
      time.sleep(wait)
