"""One TPU as a machine: asked for, waited for, seen, deleted."""

from collections.abc import Callable, Iterable

from tools.cloud import commands, gcloud, kinds, plan_file

# Seconds to wait between attempts, where a cause passes by itself.
_DELETE_WAITS = (10, 30, 60, 120)
_CAPACITY_WAITS = (60, 120, 240, 480, 600)  # then the last one again
POLL = 30
# Of a TPU that will not come back, and one that may.
ENDED = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING")
_QUEUE_ENDED = ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING")


class Gone(Exception):
  """The TPU was taken away."""


class Stop(Exception):
  """The life cannot go on; the message is one sentence."""


class Unsaved(Stop):
  """It holds results that are nowhere else."""


class Machine:
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
    """Creates it; nothing is asked for yet.

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

  def state(self) -> str | None:
    """As the cloud has it, e.g. "READY"; None if there is none."""
    seen = self._cloud.state(commands.describe(self._plan, self.name))
    return None if seen is None else str(seen.get("state", "UNKNOWN"))

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
      if state is None or state in ENDED:
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
      self._clock.sleep(POLL)

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
      self._clock.sleep(POLL)

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
