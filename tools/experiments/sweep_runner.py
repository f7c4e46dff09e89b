"""Runs the programs of a sweep, several at a time, each on its own cores."""

import concurrent.futures
import ctypes
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

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files, progress
from tools import environment
from tools.experiments import result, sweep_file, sweep_state

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def shares(parallel: int) -> list[list[int]]:
  """The cores of each of some runs at the same time.

  Args:
    parallel: how many.

  Returns:
    core numbers; with fewer cores than runs, some share one
  """
  cores = sorted(os.sched_getaffinity(0))
  each = max(1, len(cores) // parallel)
  return [
    [cores[(i * each + k) % len(cores)] for k in range(each)]
    for i in range(parallel)
  ]


def _in_child(cores: list[int]) -> None:
  """A sweep that is killed leaves nobody writing in its folders."""
  _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  os.sched_setaffinity(0, cores)


def _set_aside(folder: str) -> None:
  """Renames what a killed run left: nothing that was saved is removed."""
  if not os.path.isdir(folder):
    return
  number = 1
  while os.path.exists(f"{folder}.killed{number}"):
    number += 1
  os.rename(folder, f"{folder}.killed{number}")


class Runner:
  """Runs what has no result yet."""

  def __init__(
    self,
    places: sweep_state.Places,
    parallel: int = 1,
    resume: bool = False,
    common: tuple[str, ...] = (),
  ):
    """Creates the runner.

    Args:
      places: of the sweep.
      parallel: runs at the same time.
      resume: continue from the checkpoints of killed runs.
      common: flags of every program that do not change what a run is.
    """
    self._places = places
    self._resume = resume or places.in_the_cloud
    self._common = common
    self._children: set[subprocess.Popen] = set()
    self._stopped = threading.Event()
    self._free: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for cores in shares(parallel):
      self._free.put(cores)

  def run(self, run: sweep_file.Run, split: str) -> None:
    """Trains, evaluates, and writes the result.

    Args:
      run: one of the sweep.
      split: that its flags evaluate.

    Raises:
      UserError: if one of the programs failed; its log is named.
    """
    folder = self._places.model(run)
    flags_ = (
      *self._common,
      f"--model_dir={folder}",
      f"--seed={run.seed}",
      *run.flags,
    )
    cores = self._free.get()
    try:
      trained = sweep_state.training(run, self._places)
      # A model that is whole is evaluated again, and not trained again.
      if trained is None:
        trained = self._train(run, flags_, cores)
      elif not self._resume:
        _set_aside(os.path.join(folder, f"{split}_eval"))
      start = time.time()
      self._program(run, flags_ + run.eval_flags, cores)
    finally:
      self._free.put(cores)
    found = result.collect(folder, run.cell, run.seed, split)
    found["hardware"]["cores"] = trained["cores"]
    found.update(
      name=run.name,
      flags=sweep_state.flags_text(run),
      versions=trained["versions"],
      wall_seconds=round(trained["seconds"] + time.time() - start, 1),
    )
    files.write(self._places.result(run), result.to_text(found))

  def _train(self, run: sweep_file.Run, flags_, cores: list[int]) -> dict:
    """Trains, and keeps beside the model that it came to its end."""
    start = time.time()
    # Of the code that trains: a checkout may move on while it does.
    versions = environment.versions()
    folder = self._places.model(run)
    if not self._resume:
      _set_aside(folder)
    tf.io.gfile.makedirs(folder)
    self._program(run, flags_, cores)
    trained = dict(
      flags=shlex.join(run.flags),
      seconds=round(time.time() - start, 1),
      cores=len(cores),
      versions=versions,
    )
    path = os.path.join(folder, sweep_state.TRAINED)
    files.write(path, json.dumps(trained, indent=1) + "\n")
    return trained

  def _program(self, run: sweep_file.Run, arguments, cores: list[int]) -> None:
    if self._stopped.is_set():
      raise errors.UserError("the sweep was stopped.")
    command = [sys.executable, "-m", "hypergrid_mtf.main", *arguments]
    log = self._places.log(run)
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
        f"{run.label} stopped with exit status {code}: {last[:300]} (all of "
        f"it: {log})"
      )

  def stop(self) -> None:
    """Ends what is running, and lets nothing begin."""
    self._stopped.set()
    for child in list(self._children):
      child.terminate()


def splits(
  runs: list[sweep_file.Run], common: tuple[str, ...] = ()
) -> dict[sweep_file.Run, str]:
  """The split that each run will be evaluated on.

  Args:
    runs: of a sweep.
    common: flags of every program.

  Returns:
    {run: split}

  Raises:
    UserError: for flags that gin cannot read, before anything is trained.
  """
  found = {}
  for run in runs:
    try:
      found[run] = sweep_file.evaluated_split(
        (*common, *run.flags, *run.eval_flags)
      )
    except errors.UserError as e:
      raise errors.UserError(f"{run.name}: {e}") from None
  return found


def run_all(
  runs: list[sweep_file.Run],
  places: sweep_state.Places,
  parallel: int = 1,
  resume: bool = False,
  common: tuple[str, ...] = (),
) -> list[str]:
  """Runs what has no result yet.

  Args:
    runs: of a sweep.
    places: of the sweep.
    parallel: how many at a time.
    resume: as in Runner.
    common: as in Runner.

  Returns:
    a sentence for each run that failed
  """
  todo = [r for r in runs if sweep_state.state(r, places) != "done"]
  split_of = splits(todo, common)
  runner = Runner(places, parallel, resume, common)
  failures = []
  with (
    progress.bar(len(runs), "sweep", "run", len(runs) - len(todo)) as bar,
    concurrent.futures.ThreadPoolExecutor(parallel) as pool,
  ):
    futures = {pool.submit(runner.run, run, split_of[run]): run for run in todo}
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
