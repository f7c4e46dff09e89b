"""Runs the jobs of a sweep, several at a time, each on its own cores."""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import functools
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import tensorflow.compat.v1 as tf

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import console, files
from tools import environment
from tools.experiments import result, sweep_file

TRAINED = "trained.json"  # in the folder of a model whose training is complete
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Places:
  """The paths of a sweep.

  Attributes:
    output_dir: for results and logs, local.
    models_dir: for models, local or in the cloud.
  """

  output_dir: str
  models_dir: str

  def model(self, job: sweep_file.Job) -> str:
    return os.path.join(self.models_dir, job.name, f"seed{job.seed}")

  def result(self, job: sweep_file.Job) -> str:
    return os.path.join(self.output_dir, "results", f"{job.label}.json")

  def log(self, job: sweep_file.Job) -> str:
    return os.path.join(self.output_dir, "logs", f"{job.label}.log")


def _flags_text(job: sweep_file.Job) -> str:
  """The flags of a job as recorded in its result."""
  return shlex.join((*job.flags, "--", *job.eval_flags))


def state(job: sweep_file.Job, places: Places) -> str:
  """The state of a job: "done", "trained", "begun" or "to do".

  Raises:
    UserError: for a result that was made with other flags.
  """
  path = places.result(job)
  if os.path.exists(path):
    try:
      with open(path) as f:
        made_by = json.load(f)["flags"]
    except (ValueError, KeyError, TypeError):
      raise errors.UserError(
        f"{path} is damaged: remove it, and the run is repeated."
      ) from None
    if made_by != _flags_text(job):
      raise errors.UserError(
        f"{path} was made with other flags than the sweep now has for "
        f"{job.name}: give another --output_dir, or remove it."
      )
    return "done"
  with contextlib.suppress(errors.UserError):  # its own run will report it
    if training(job, places):
      return "trained"
  return "begun" if tf.io.gfile.isdir(places.model(job)) else "to do"


def training(job: sweep_file.Job, places: Places) -> dict | None:
  """The record of a completed training.

  Returns:
    `seconds`, `cores` and `versions`; None if the model does not exist, is
    damaged, or has other flags
  """
  path = os.path.join(places.model(job), TRAINED)
  if not tf.io.gfile.exists(path):
    return None
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    same = found.pop("flags") == shlex.join(job.flags)
    whole = same and found.keys() >= {"seconds", "cores", "versions"}
  except (ValueError, KeyError, AttributeError):
    return None
  if not whole or not checkpoints.latest_checkpoint(places.model(job)):
    return None
  return found


def status(jobs: list[sweep_file.Job], places: Places) -> pd.DataFrame:
  """A table with one row per model and one column per seed."""
  states = {(j.name, f"seed {j.seed}"): state(j, places) for j in jobs}
  frame = pd.Series(states).unstack()
  names, seeds = (dict.fromkeys(key[i] for key in states) for i in (0, 1))
  return frame.reindex(index=list(names), columns=list(seeds))


def split_cores(parallel: int) -> list[list[int]]:
  """The cores for each parallel run; with fewer cores than runs, some share."""
  cores = sorted(os.sched_getaffinity(0))
  each = max(1, len(cores) // parallel)
  return [
    [cores[(i * each + k) % len(cores)] for k in range(each)]
    for i in range(parallel)
  ]


def _in_child(cores: list[int]) -> None:
  """Makes a program end with its sweep, and sets its cores."""
  _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  os.sched_setaffinity(0, cores)


def _set_aside(folder: str) -> None:
  """Renames the remains of a killed run; nothing that was saved is removed."""
  if not os.path.isdir(folder):
    return
  number = 1
  while os.path.exists(f"{folder}.killed{number}"):
    number += 1
  os.rename(folder, f"{folder}.killed{number}")


class Runner:
  """Runs the jobs without a result."""

  def __init__(
    self,
    places: Places,
    parallel: int = 1,
    resume: bool = False,
    common: tuple[str, ...] = (),
  ):
    """Creates the runner.

    Args:
      places: the paths of the sweep.
      parallel: number of parallel runs.
      resume: continue from the checkpoints of killed runs.
      common: flags for every program that do not change the result.
    """
    self._places = places
    self._resume = resume or "://" in places.models_dir
    self._common = common
    self._children: set[subprocess.Popen] = set()
    self._stopped = threading.Event()
    self._free: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for cores in split_cores(parallel):
      self._free.put(cores)

  def run(self, job: sweep_file.Job, split: str) -> None:
    """Trains, evaluates, and writes the result.

    Raises:
      UserError: if a program fails; names its log.
    """
    folder = self._places.model(job)
    flags = *self._common, f"--model_dir={folder}", f"--seed={job.seed}"
    cores = self._free.get()
    try:
      trained = training(job, self._places)
      # A complete model is evaluated again, but not trained again.
      if trained is None:
        trained = self._train(job, (*flags, *job.flags), cores)
      elif not self._resume:
        _set_aside(os.path.join(folder, f"{split}_eval"))
      start = time.time()
      self._program(job, (*flags, *job.flags, *job.eval_flags), cores)
    finally:
      self._free.put(cores)
    found = result.collect(folder, job.cell, job.seed, split)
    found["hardware"]["cores"] = trained["cores"]
    found.update(
      name=job.name,
      flags=_flags_text(job),
      versions=trained["versions"],
      wall_seconds=round(trained["seconds"] + time.time() - start, 1),
    )
    files.write(self._places.result(job), result.to_text(found))

  def _train(self, job: sweep_file.Job, flags, cores: list[int]) -> dict:
    """Trains, and records completion next to the model."""
    start = time.time()
    # The versions of the training code: the checkout may change meanwhile.
    versions = environment.versions()
    folder = self._places.model(job)
    if not self._resume:
      _set_aside(folder)
    tf.io.gfile.makedirs(folder)
    self._program(job, flags, cores)
    trained = dict(
      flags=shlex.join(job.flags),
      seconds=round(time.time() - start, 1),
      cores=len(cores),
      versions=versions,
    )
    path = os.path.join(folder, TRAINED)
    files.write_json(path, trained)
    return trained

  def _program(self, job: sweep_file.Job, arguments, cores: list[int]) -> None:
    if self._stopped.is_set():
      raise errors.UserError("the sweep was stopped.")
    command = [sys.executable, "-m", "hypergrid_mtf.main", *arguments]
    log = self._places.log(job)
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "a") as out:
      out.write(f"$ {shlex.join(command)}\n")
      out.flush()
      child = subprocess.Popen(
        command,
        env=environment.of_child(),
        stdout=out,
        stderr=out,
        preexec_fn=functools.partial(_in_child, cores),
      )
      self._children.add(child)
      code = child.wait()
      self._children.discard(child)
    if code:
      with open(log, errors="replace") as f:
        last = [line for line in f.read().split("\n") if line.strip()][-1]
      raise errors.UserError(
        f"{job.label} stopped with exit status {code}: {last[:300]} (see {log})"
      )

  def stop(self) -> None:
    """Stops what is running, and starts nothing more."""
    self._stopped.set()
    for child in list(self._children):
      child.terminate()


def check(
  jobs: list[sweep_file.Job], places: Places, common: tuple[str, ...] = ()
) -> dict[str, str]:
  """Checks each model as its training will, before any is trained.

  Returns:
    {name: evaluated split}

  Raises:
    UserError: for a model that would be refused.
  """
  asked = {}
  for job in jobs:
    flags = [*common, *job.flags]
    train = None if training(job, places) else flags
    asked[job.name] = train, [*flags, *job.eval_flags]
  splits: dict[str, str] = {}
  while todo := [name for name in asked if name not in splits]:
    done = subprocess.run(
      [
        sys.executable,
        "-m",
        "tools.experiments.sweep_check",
        places.output_dir,
      ],
      input=json.dumps([asked[name] for name in todo]),
      env=environment.of_child(),
      stdout=subprocess.PIPE,
      text=True,
      check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if not found:
      raise errors.UserError(
        f"{todo[0]}: the checks ended with exit status {done.returncode}; see "
        f"{places.output_dir}/hypergrid_mtf.log."
      )
    for name, answer in zip(todo, found, strict=False):
      if "split" in answer:
        splits[name] = answer["split"]
      elif name == todo[0]:
        raise errors.UserError(f"{name}: {answer['error']}")
      # It ran after others in one process; the next gets a new process.
  return splits


def run_all(
  jobs: list[sweep_file.Job],
  places: Places,
  parallel: int = 1,
  resume: bool = False,
  common: tuple[str, ...] = (),
) -> list[str]:
  """Runs the jobs without a result; the arguments are those of Runner.

  Returns:
    a sentence for each job that failed
  """
  todo = [job for job in jobs if state(job, places) != "done"]
  splits = check(todo, places, common) if todo else {}
  runner = Runner(places, parallel, resume, common)
  failures = []
  with (
    console.progress_bar(
      len(jobs), "sweep", "run", len(jobs) - len(todo)
    ) as bar,
    concurrent.futures.ThreadPoolExecutor(parallel) as pool,
  ):
    futures = {
      pool.submit(runner.run, job, splits[job.name]): job for job in todo
    }
    try:
      for future in concurrent.futures.as_completed(futures):
        try:
          future.result()
        except errors.UserError as e:
          failures.append(errors.sentence(e))
        bar.set_postfix_str(futures[future].label, refresh=False)
        bar.update()
    except BaseException:
      runner.stop()
      raise
  return failures
