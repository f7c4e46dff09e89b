"""The life of one TPU: made, installed, started, followed, taken away, deleted.

Every step first looks at what is there, so that any of them can be done again
after this program was killed.
"""

import json
import os
import shlex
from collections.abc import Callable, Iterable

from tools.cloud import commands, gcloud, kinds, on_tpu, plan_file

# Seconds to wait between attempts, where a cause passes by itself.
_SSH_WAITS = (10, 20, 40, 80, 160, 300)
_DELETE_WAITS = (10, 30, 60, 120)
_CAPACITY_WAITS = (60, 120, 240, 480, 600)  # then the last one again
_LEASE = 200  # until a lost machine's hold on a folder in the cloud is old
_POLL = 30
# Of a TPU that will not come back, and one that may.
_ENDED = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING")
_QUEUE_ENDED = ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING")


class Gone(Exception):
  """The TPU was taken away."""


class Stop(Exception):
  """The life cannot go on; the message is one sentence."""


class Unsaved(Stop):
  """It holds results that are nowhere else."""


class Life:
  """One TPU."""

  def __init__(
    self,
    name: str,
    record: plan_file.Record,
    cloud: gcloud.Gcloud,
    clock,
    say: Callable[[str], None],
    archive: str = commands.ARCHIVE,
    price: float | None = None,
    most_restarts: int = 20,
    most_failures: int = 2,
    capacity_hours: float = 24.0,
  ):
    """Creates the life.

    Args:
      name: of the TPU.
      record: that it is one of.
      cloud: runs the commands.
      clock: `now()` in seconds of the epoch, and `sleep(seconds)`, which raises
        gcloud.Interrupted.
      say: prints a line.
      archive: path of the bundle.
      price: of one TPU and hour, in whatever currency, or None.
      most_restarts: how often it may be taken away.
      most_failures: how often the job may fail and be started again.
      capacity_hours: how long to wait for a TPU.
    """
    self.name = name
    self._record = record
    self._plan = record.plan
    self._node = record.nodes[name]
    self._cloud = cloud
    self._clock = clock
    self._say_line = say
    self._archive = archive
    self._price = price
    self._most_restarts = most_restarts
    self._most_failures = most_failures
    self._capacity_hours = capacity_hours

  def say(self, line: str) -> None:
    self._say_line(f"{self.name}: {line}")

  def cost(self) -> str:
    """Hours up to now, and money where a price is known."""
    hours = plan_file.hours(self._node, self._clock.now())
    return plan_file.cost(hours, self._price)

  def live(self) -> None:
    """Everything up to the end of the job.

    Raises:
      Stop: if it cannot go on.
    """
    while self._node.ended is None:
      try:
        self.create()
        self.install()
        self.start()
        self.follow()
      except Gone:
        self._node.taken += 1
        self._node.installed = self._node.running = False
        self._record.save()
        if self._node.taken > self._most_restarts:
          raise Stop(
            f"it was taken away {self._node.taken} times, and --restarts="
            f"{self._most_restarts}"
          ) from None
        self.say(f"was taken away ({self._node.taken}); a new one is asked for")
        self.delete()
    if self._node.ended:
      raise Stop(f"the job ended with exit status {self._node.ended}")

  def begin_again(self) -> None:
    """A job that failed may be started again."""
    node = self._node
    if node.ended is None:
      return
    node.ended, node.running = None, False
    node.job += 1
    node.offset = 0

  @property
  def began(self) -> bool:
    """Whether a job of it was ever started."""
    return self._node.job > 0

  # Making it.

  def state(self) -> str | None:
    """As the cloud has it, e.g. "READY"; None if there is none."""
    seen = self._cloud.state(commands.describe(self._plan, self.name))
    return seen and seen.get("state", "UNKNOWN")

  def create(self) -> None:
    """Makes the TPU, unless it is there.

    Raises:
      Gone: it was there and was taken away.
      Stop: quota, or no capacity for too long.
      UserError: there is one of this name that this program did not make.
    """
    if not self._node.asked and self.state() is not None:
      raise kinds.UserError(
        f"there is a TPU {self.name} in {self._plan.zone} that this program "
        "did not make: delete it, or give another --name."
      )
    if self._plan.queued:
      self._queue()
    elif self.state() is None:
      if self._node.installed or self._node.running:
        raise Gone()
      self._ask(self._ask_once)
    for state in self._states():
      if state == "READY":
        return
      if state is None or state in _ENDED:
        raise Gone()

  def _states(self) -> Iterable[str | None]:
    """The state, again and again, with a line where it changes."""
    last = None
    while True:
      state = self.state()
      if state != last and state != "READY":
        self.say(f"is {state}")
      last = state
      yield state
      self._clock.sleep(_POLL)

  def _ask(self, once: Callable[[], bool]) -> None:
    """Asks until there is capacity."""
    began = self._clock.now()
    attempt = 0
    while not once():
      wait = _CAPACITY_WAITS[min(attempt, len(_CAPACITY_WAITS) - 1)]
      attempt += 1
      waited = (self._clock.now() + wait - began) / 3600
      if waited > self._capacity_hours:
        raise Stop(
          f"there was no capacity for {self._plan.accelerator_type} in "
          f"{self._plan.zone} in {self._capacity_hours:g} hours: try another "
          "zone, --queued, or more --capacity_hours"
        )
      self.say(f"no capacity in {self._plan.zone}; again in {wait} s")
      self._clock.sleep(wait)

  def _ask_once(self) -> bool:
    """Asks for a TPU; False if there is no capacity."""
    what = self._plan.accelerator_type
    self.say(f"asking for a {'spot ' * self._plan.spot}{what}")
    self._node.asked = True
    if not self._plan.queued:
      self._node.since = self._node.since or self._clock.now()
    self._record.save()  # before it may be there
    try:
      self._cloud.run(commands.create(self._plan, self.name))
    except gcloud.Failure as e:
      if e.kind == gcloud.EXISTS:
        return True
      if e.kind not in (gcloud.CAPACITY, gcloud.QUOTA, gcloud.DENIED):
        raise  # it may be there
      self._forget()
      if e.kind == gcloud.CAPACITY:
        return False
      raise Stop(refusal(e)) from None
    return True

  def _queue(self) -> None:
    """Waits in the queue until the TPU is made."""
    describe = commands.describe_queue(self._plan, self.name)
    began, last = self._clock.now(), ""
    while True:
      seen = self._cloud.state(describe)
      if seen is None:
        if self._node.running or self._node.installed:
          raise Gone()
        self._ask(self._ask_once)
        continue
      state = (seen.get("state") or {}).get("state", "UNKNOWN")
      if state == "ACTIVE":
        self._node.since = self._node.since or self._clock.now()
        self._record.save()
        return
      if state != last:
        self.say(f"in the queue: {state}")
      last = state
      if state in _QUEUE_ENDED:
        if self._node.installed:
          raise Gone()
        self.delete()  # a queue that was suspended is not served again
        state = ""
      if (self._clock.now() - began) / 3600 > self._capacity_hours:
        raise Stop(
          f"it waited in the queue for {self._capacity_hours:g} hours: try "
          "another zone, or more --capacity_hours"
        )
      self._clock.sleep(_POLL)

  # On it.

  def install(self) -> None:
    """Brings the project to all workers, and makes its environment there.

    Raises:
      Gone: it was taken away.
      Stop: a worker fails again and again.
    """
    if self._node.installed:
      return
    self.say("installing")
    self._connect(
      lambda worker: commands.upload(
        self._plan, self.name, self._archive, worker
      )
    )
    text = self._connect(
      lambda worker: commands.ssh(
        self._plan, self.name, worker, commands.install(self._plan)
      )
    )
    for line in text.splitlines():
      if " is ready: " in line:
        self.say(line)
    self._node.installed = True
    self._record.save()

  def _connect(self, command: Callable[[object], list[str]]) -> str:
    """Runs a command on all workers; on those that failed again, alone.

    Args:
      command: of a worker's number, or "all".

    Returns:
      what it printed
    """
    workers: tuple = ("all",)
    printed = ""
    for wait in (*_SSH_WAITS[:3], None):
      failed = []
      for worker in workers:
        try:
          printed += self._reach(command(worker))
        except gcloud.Failure as e:
          failed += list(e.workers or [worker])
          last = e
      if not failed:
        return printed
      workers = tuple(dict.fromkeys(failed))
      named = ", ".join(map(str, workers))
      if wait is None:
        raise Stop(f"on worker {named} it failed: {last.message}")
      self.say(f"failed on worker {named}: {last.message[:200]}")
      self._clock.sleep(wait)
    raise AssertionError  # the loop returns or raises

  def _reach(self, arguments: list[str]) -> str:
    """Runs a command over ssh, again where the connection is lost."""
    for wait in (*_SSH_WAITS, None):
      try:
        return self._cloud.run(arguments)
      except gcloud.Failure as e:
        if e.kind == gcloud.LOGIN:
          raise Stop(refusal(e)) from None
        state = self.state()
        if state is None or state in _ENDED or e.kind == gcloud.GONE:
          raise Gone() from None
        if e.kind not in (gcloud.SSH, gcloud.MISSING):
          raise
        if wait is None:
          raise Stop(
            f"it is {state} and cannot be reached: {e.message}"
          ) from None
        self.say(f"cannot be reached ({e.message[:120]}); again in {wait} s")
        self._clock.sleep(wait)
    raise AssertionError

  def _on_worker_0(self, command: str) -> dict:
    """Runs `on_tpu`, and reads what it reports."""
    arguments = commands.ssh(self._plan, self.name, 0, command)
    try:
      text = self._reach(arguments)
    except gcloud.Failure as e:
      raise Stop(f"the job cannot be started or seen: {e.message}") from None
    for line in text.splitlines():
      if line.startswith(on_tpu.MARK):
        return json.loads(line[len(on_tpu.MARK) :])
    raise Stop(f"worker 0 answered {text[-200:]!r} instead of a report")

  def start(self) -> None:
    """Starts the job, unless it runs."""
    if self._node.running:
      return
    if self._node.job == 0 or self._node.offset:  # its log is of another TPU
      self._node.job += 1
      self._node.offset = 0
    self._record.save()  # the same number starts nothing twice
    self.say(f"starting job {self._node.job}")
    self._on_worker_0(commands.start(self._plan, self.name, self._node.job))
    self._node.running = True
    self._record.save()

  def follow(self) -> None:
    """Shows the job's log until it ends; starts it again where that helps.

    Raises:
      Gone: the TPU was taken away.
      Stop: the job failed.
    """
    failures, tail = 0, ""
    while True:
      seen = self._on_worker_0(commands.report(self._node.offset))
      for line in seen["text"].splitlines():
        if line.strip():
          self.say(f"| {line}")
      tail = (tail + seen["text"])[-2000:]
      self._node.offset = seen["offset"]
      self._record.save()
      if seen["running"]:
        self._clock.sleep(_POLL)
        continue
      status = seen["status"]
      if status == 0:
        if not seen["saved"]:
          raise Unsaved(
            "the job ended well, and its last results could not be copied to "
            f"{self._plan.gs_dir}"
          )
        self._node.ended = 0
        self._record.save()
        return
      lease = status == 2 and "try again in" in tail
      failures += 1
      if (status == 2 and not lease) or failures > self._most_failures:
        self._node.ended = 1 if status is None else status
        self._record.save()
        last = [ln for ln in tail.splitlines() if ln.strip()][-1:]
        raise Stop(
          f"the job ended with exit status {status}: {' '.join(last)[:300]}"
        )
      self.say(
        f"the job ended with exit status {status}; it is started again, from "
        "its last checkpoint"
      )
      if lease:
        self._clock.sleep(_LEASE)
      tail = ""
      self._node.running = False
      self._node.job += 1
      self._node.offset = 0
      self.start()

  # Its end.

  def fetch(self, output_dir: str, checkpoints: bool) -> None:
    """Copies the results to this machine.

    Args:
      output_dir: where to.
      checkpoints: also the weights.

    Raises:
      Stop: if they cannot be copied; they are in the cloud.
    """
    for command in commands.fetch(self._plan, output_dir, checkpoints):
      if not self._cloud.dry:
        os.makedirs(command[-1], exist_ok=True)
      for wait in (*_SSH_WAITS[:3], None):
        try:
          self._cloud.run(command)
          break
        except gcloud.Failure as e:
          if wait is None or e.kind == gcloud.LOGIN:
            raise Stop(
              f"the results in {self._plan.gs_dir} were not copied "
              f"({e.message}): gcloud {shlex.join(command)}"
            ) from None
          self._clock.sleep(wait)
    self._node.fetched = True
    self._record.save()
    self.say(f"results are in {output_dir}")

  def delete(self) -> None:
    """Deletes the TPU, and sees that it is gone.

    Raises:
      Stop: if it is still there.
    """
    for wait in (*_DELETE_WAITS, None):
      try:
        if not self._plan.queued and self.state() is None:
          break
        self._cloud.run(commands.delete(self._plan, self.name))
        if self._cloud.dry or self.state() is None:
          break
        message = "it is still there"
      except gcloud.Failure as e:
        if e.kind == gcloud.MISSING and self.state() is None:
          break
        message = e.message
        if e.kind == gcloud.LOGIN:
          wait = None
      if wait is None:
        raise Stop(f"it was not deleted: {message}")
      self.say(f"was not deleted ({message[:200]}); again in {wait} s")
      self._clock.sleep(wait)
    self._forget(billed=True)

  def _forget(self, billed: bool = False) -> None:
    node = self._node
    if billed and node.since is not None:
      node.hours = plan_file.hours(node, self._clock.now())
      node.since = None
      self.say(f"deleted, after {self.cost()}")
    node.since = None
    node.asked = node.installed = node.running = False
    self._record.save()

  @property
  def is_there(self) -> bool:
    """Whether a TPU of this life may be there and cost something."""
    return self._node.asked


def refusal(failure: gcloud.Failure) -> str:
  """What to do about a failure that does not pass by itself."""
  more = {
    gcloud.QUOTA: "ask for quota in the console (IAM, Quotas), or take another "
    "zone or --spot, which has its own",
    gcloud.LOGIN: "run gcloud auth login, then the same command again",
    gcloud.DENIED: "enable the Cloud TPU API in the project, and see that this "
    "account may use it",
  }.get(failure.kind, "")
  return f"{failure.message}{': ' * bool(more)}{more}"
