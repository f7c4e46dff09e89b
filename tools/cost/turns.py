"""Models that step strictly in turn, each in its own worker process."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time

import pandas as pd

from hypergrid_mtf import errors
from tools import environment
from tools.cost import steps, worker

_SETTLE_SECONDS = 0.05  # a worker's threads keep spinning for a moment
_LEFT = ("case", "rows", "inputs", "model")


class WorkerError(Exception):
  """A worker failed, not by the user's fault; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Group:
  """Models that step in turn, vanilla first.

  Attributes:
    case: what they step on.
    requests: {model name: request to its worker}.
  """

  case: steps.Case
  requests: dict[str, dict]


class Worker:
  """The parent's end of a worker process; a context manager that ends it."""

  def __init__(self, name: str, request: dict, log: str):
    """Starts the process and waits for its model.

    Args:
      name: of the model.
      request: as in `worker`.
      log: the file for its libraries' output.

    Raises:
      WorkerError: if it fails.
    """
    self._name, self._log = name, log
    # Not -m: as one of our commands it would redirect the log.
    path = worker.__file__
    code = f"import runpy; runpy.run_path({path!r}, run_name='__main__')"
    with open(log, "w") as log_file:
      self._process = subprocess.Popen(
        [sys.executable, "-c", code, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
        cwd=os.path.dirname(log),
        env=environment.of_child(),
        start_new_session=True,  # the parent handles interrupts
      )
    try:
      self.facts = self.ask(request)
    except WorkerError:
      self.__exit__()
      raise

  def __enter__(self):
    return self

  def __exit__(self, *unused_exception):
    self._process.kill()
    self._process.communicate()

  def step(self) -> dict:
    """One step: its `seconds`, and `peak_bytes` so far."""
    time.sleep(_SETTLE_SECONDS)
    answer = self.ask("step")
    return answer | {"peak_bytes": environment.peak_memory(self._process.pid)}

  def ask(self, request) -> dict:
    """The answer to a request; WorkerError if there is none."""
    line = ""
    assert self._process.stdin and self._process.stdout
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write(json.dumps(request) + "\n")
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    if not line:
      status = self._process.wait()
      cause = f"ended with exit status {status}"
      if status == -9:
        cause = "was killed, probably for lack of memory"
      raise WorkerError(f"the worker of {self._name} {cause}: see {self._log}")
    answer = json.loads(line)
    if "failure" in answer:
      raise WorkerError(
        f"the worker of {self._name} failed ({answer['failure']}): see "
        f"{self._log}"
      )
    return answer


def measure(
  group: Group, output_dir: str, bar, warmup: int, runs: int, trace: bool
) -> dict:
  """Measures one group.

  Args:
    group: models of one case.
    output_dir: for traces, and `logs/` of the workers.
    bar: a tqdm bar, advanced once for each start and each step.
    warmup: uncounted steps of each model, 1 or more.
    runs: rounds; every model steps once in each.
    trace: also trace a step of each model, after the rounds.

  Returns:
    {"case", "models"}; each model has `name`, `build_seconds`, `peak_bytes`,
    `seconds` of the rounds, what `summarize` adds, and facts of its kind

  Raises:
    WorkerError: for a worker that failed.
    UserError: for too little memory.
  """
  logs = os.path.join(output_dir, "logs")
  os.makedirs(logs, exist_ok=True)
  models: list[dict] = []
  workers: list[Worker] = []
  with contextlib.ExitStack() as stack:
    for name, request in group.requests.items():
      bar.set_postfix_str(f"{group.case.label} {name}")
      if models:
        _check_memory(models[0]["peak_bytes"], name)
      log = os.path.join(logs, f"{group.case.label}-{name}.log")
      workers.append(stack.enter_context(Worker(name, request, log)))
      bar.update()
      for _ in range(warmup):
        peak = workers[-1].step()["peak_bytes"]
        bar.update()
      models.append(
        dict(name=name, seconds=[], peak_bytes=peak, **workers[-1].facts)
      )
    order = list(range(len(workers)))
    for _ in range(runs):
      for i in order:
        answer = workers[i].step()
        models[i]["seconds"].append(answer["seconds"])
        models[i]["peak_bytes"] = answer["peak_bytes"]
        bar.update()
      order = order[1:] + order[:1]
    if trace and group.case.name in steps.MODES:  # last: it needs memory
      for one, model in zip(workers, models, strict=True):
        name = f"{group.case.label}-{model['name']}.trace.json"
        one.ask(os.path.join(output_dir, name))
  summarize(models)
  return dict(case=dataclasses.asdict(group.case), models=models)


def _check_memory(needed: int, name: str) -> None:
  """Refuses to start a model if it and vanilla would run out of memory."""
  available = environment.meminfo("MemAvailable")
  if available < needed:
    raise errors.UserError(
      f"vanilla T5 needed {needed / 1e9:.1f} GB at its peak, and only "
      f"{available / 1e9:.1f} GB are left for {name}: give a smaller --size, "
      "--batch or --inputs."
    )


def summarize(models: list[dict]) -> None:
  """Adds the statistics of a group's times to its models, vanilla first."""
  vanilla = models[0]
  for model in models:
    seconds = model["seconds"]
    # Both times of a ratio are from the same round, so that other load affects
    # both.
    ratios = [a / b for a, b in zip(seconds, vanilla["seconds"], strict=True)]
    model.update(
      median_seconds=statistics.median(seconds),
      ratio=statistics.median(ratios),
      ratio_range=[min(ratios), max(ratios)],
      memory_ratio=model["peak_bytes"] / vanilla["peak_bytes"],
    )


def table_of(groups: list[dict]) -> str:
  """A Markdown table with one row per model of each group; GB are 1e9 bytes."""
  rows = []
  for group in groups:
    case = group["case"]
    for i, model in enumerate(group["models"]):
      seconds, (low, high) = model["seconds"], model["ratio_range"]
      rows.append(
        {
          "case": case["name"],
          "rows": str(case["batch"]),
          "inputs": str(case["inputs"]),
          "model": model["name"],
          "step (s)": f"{model['median_seconds']:.3f}",
          "min–max (s)": f"{min(seconds):.3f}–{max(seconds):.3f}",
          "ratio": f"{model['ratio']:.3f}" if i else "",
          "ratio min–max": f"{low:.3f}–{high:.3f}" if i else "",
          "peak (GB)": f"{model['peak_bytes'] / 1e9:.2f}",
          "memory ratio": f"{model['memory_ratio']:.3f}" if i else "",
          "graph ops": f"{model['ops']:,}" if "ops" in model else "",
          "build (s)": f"{model['build_seconds']:.1f}",
        }
      )
  frame = pd.DataFrame(rows)
  aligned = ["left" if c in _LEFT else "right" for c in frame.columns]
  return frame.to_markdown(index=False, colalign=aligned, disable_numparse=True)
