"""Models that step strictly in turn, each in a worker process of its own."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time

from hypergrid_mtf import errors
from tools import environment
from tools.cost import benchmark_cases as cases
from tools.cost import benchmark_report as report
from tools.cost import benchmark_worker

_SETTLE_SECONDS = 0.05  # the threads of a worker spin on for a moment


class WorkerError(Exception):
  """A worker ended by no fault of the user; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Group:
  """Models that step in turn, vanilla first.

  Attributes:
    case: what they step on.
    jobs: one for each model.
  """

  case: cases.Case
  jobs: tuple[benchmark_worker.Job, ...]


class Worker:
  """The parent's end of a worker process; a context manager that ends it."""

  def __init__(self, job: benchmark_worker.Job, log: str):
    """Starts the process and lets it build its model.

    Args:
      job: the model.
      log: the file that takes what its libraries print.
    """
    self._job, self._log = job, log
    with open(log, "w") as log_file:
      self._process = subprocess.Popen(
        # Not -m: a command of ours would take the log away for itself.
        [
          sys.executable,
          "-c",
          "from tools.cost import benchmark_worker; "
          f"benchmark_worker.serve({os.getpid()})",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
        env=environment.of_child(),
        start_new_session=True,  # an interrupt is the parent's to handle
      )

  def __enter__(self):
    return self

  def __exit__(self, *unused_exception):
    self._process.kill()
    self._process.communicate()

  def build(self) -> dict:
    """Waits for the model: `ops`, `parameters`, `build_seconds`."""
    return self._ask(self._job.to_json())

  def step(self) -> dict:
    """One step: its `seconds`, and `peak_bytes` so far."""
    time.sleep(_SETTLE_SECONDS)
    return self._ask("step")

  def profile(self) -> list[dict]:
    """One traced step, see `benchmark_worker.Model.profile`."""
    return self._ask("profile")["profile"]

  def _ask(self, request: str) -> dict:
    name = f"{self._job.setting.name} of {self._job.case.name}"
    line = ""
    assert self._process.stdin and self._process.stdout
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write(request + "\n")
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    if not line:
      status = self._process.wait()
      cause = f"ended with exit status {status}"
      if status == -9:
        cause = "was killed, probably for lack of memory"
      raise WorkerError(f"the worker of {name} {cause}: see {self._log}")
    answer = json.loads(line)
    if "user_error" in answer:
      raise errors.UserError(answer["user_error"])
    if "failure" in answer:
      raise WorkerError(
        f"the worker of {name} failed ({answer['failure']}): see {self._log}"
      )
    return answer


def measure(
  group: Group,
  log_dir: str,
  bar,
  warmup: int,
  runs: int,
  profile: bool = False,
) -> dict:
  """Measures one group.

  Args:
    group: models of one case.
    log_dir: an existing folder for the workers' logs.
    bar: a tqdm bar, moved once for each start and each step.
    warmup: steps of each model before its times count, 1 or more.
    runs: rounds, in each of which every model steps once.
    profile: also trace a step of each model, after the rounds.

  Returns:
    the measurement, as `benchmark_report` takes it

  Raises:
    WorkerError: for a worker that failed.
    UserError: for what the user can correct, from a worker, or too little
      memory.
  """
  case = group.case
  models: list[dict] = []
  workers = []
  load = os.getloadavg()[0]
  with contextlib.ExitStack() as stack:
    for job in group.jobs:
      bar.set_postfix_str(f"{case.label} {job.setting.name}")
      if models:
        _check_memory(models[0]["peak_bytes"], job.setting.name)
      log = os.path.join(log_dir, f"{case.label}-{job.setting.name}.log")
      worker = stack.enter_context(Worker(job, log))
      model = dict(
        name=job.setting.name,
        setting=dataclasses.asdict(job.setting),
        seconds=[],
        **worker.build(),
      )
      bar.update()
      first = []
      for _ in range(warmup):
        answer = worker.step()
        first.append(answer["seconds"])
        bar.update()
      model.update(warmup_seconds=first, peak_bytes=answer["peak_bytes"])
      workers.append(worker)
      models.append(model)
    order = list(range(len(workers)))
    for _ in range(runs):
      for i in order:
        answer = workers[i].step()
        models[i]["seconds"].append(answer["seconds"])
        models[i]["peak_bytes"] = answer["peak_bytes"]
        bar.update()
      order = order[1:] + order[:1]
    if profile:  # last: a trace takes memory
      for worker, model in zip(workers, models, strict=True):
        model["profile"] = worker.profile()
        bar.update()
  report.summarize(models, case.examples)
  return dict(
    label=case.label,
    case=dataclasses.asdict(case),
    examples=case.examples,
    load_before=load,
    models=models,
  )


def _check_memory(needed: int, name: str) -> None:
  """Refuses to start a model beside vanilla that would end both."""
  available = environment.meminfo("MemAvailable")
  if available < needed:
    raise errors.UserError(
      f"vanilla T5 took {needed / 1e9:.1f} GB at its peak and "
      f"{available / 1e9:.1f} GB are left for {name} beside it: give a smaller "
      "--size, --batch or --inputs, or --together=1."
    )
