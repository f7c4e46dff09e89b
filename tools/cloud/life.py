"""The life of one TPU: made, installed, started, followed, taken away, deleted.

Every step first looks at what is there, so that any of them can be done again
after this program was killed.
"""

import json
import os
import shlex
from collections.abc import Callable

from tools.cloud import commands, gcloud, machine, on_tpu

# Seconds to wait between attempts, where the connection is lost.
_SSH_WAITS = (10, 20, 40, 80, 160, 300)
_LEASE = 200  # until a lost machine's hold on a folder in the cloud is old


class Life(machine.Machine):
  """A machine, and the job on it."""

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
      except machine.Gone:
        self._node.taken += 1
        self._node.installed = self._node.running = False
        self._record.save()
        if self._node.taken > self._most_restarts:
          raise machine.Stop(
            f"it was taken away {self._node.taken} times, and --restarts="
            f"{self._most_restarts}"
          ) from None
        self.say(f"was taken away ({self._node.taken}); a new one is asked for")
        self.delete()
    if self._node.ended:
      raise machine.Stop(f"the job ended with exit status {self._node.ended}")

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
        raise machine.Stop(f"on worker {named} it failed: {last.message}")
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
          raise machine.Stop(machine.refusal(e)) from None
        state = self.state()
        if state is None or state in machine.ENDED or e.kind == gcloud.GONE:
          raise machine.Gone() from None
        if e.kind not in (gcloud.SSH, gcloud.MISSING):
          raise
        if wait is None:
          raise machine.Stop(
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
      raise machine.Stop(
        f"the job cannot be started or seen: {e.message}"
      ) from None
    for line in text.splitlines():
      if line.startswith(on_tpu.MARK):
        return json.loads(line[len(on_tpu.MARK) :])
    raise machine.Stop(f"worker 0 answered {text[-200:]!r} instead of a report")

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
        self._clock.sleep(machine.POLL)
        continue
      status = seen["status"]
      if status == 0:
        if not seen["saved"]:
          raise machine.Unsaved(
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
        raise machine.Stop(
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
            raise machine.Stop(
              f"the results in {self._plan.gs_dir} were not copied "
              f"({e.message}): gcloud {shlex.join(command)}"
            ) from None
          self._clock.sleep(wait)
    self._node.fetched = True
    self._record.save()
    self.say(f"results are in {output_dir}")
