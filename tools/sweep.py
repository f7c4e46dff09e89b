r"""Runs an experiment: several models, settings and seeds, one result each.

  python -m tools.sweep --sweep=embedded.sweep --seeds=0,1,2 \
    --output_dir=runs/embedded
  python -m tools.sweep … --status

A sweep is a text file (operative_configs/sweeps/ has the paper's). Each line is
a name and flags of `hypergrid_mtf.main`:

  train: --gin_file=models/micro.gin --gin_file=experiments/embedded.gin
  eval: --gin_file=experiments/local_eval.gin
  vanilla: --gin_file=hypergrid/vanilla.gin
  L2-$N for N in 4 8: --gin_file=hypergrid/L2.gin --gin_param=grid_rows=$N
  single/$TASK for TASK in a b: --gin_param="MIXTURE_NAME='$TASK'"

`train` is given to every training and evaluation, `eval` to the evaluations
after it. What stands before a `/` is the cell of a table: the runs of a cell
and a seed are one model a task. `$WORD` that no `for` names comes from
--set=WORD=TEXT, or else from a line `set: WORD=TEXT …`.

A run has a folder `<models_dir>/<name>/seed<n>`, a log in `<output_dir>/logs`
and, once it is evaluated, `<output_dir>/results/<name>-seed<n>.json`; runs that
have this are not run again, so a sweep can be stopped, or killed, and started
again. What a killed training left is set aside and the run begins anew, which
gives the same result; with --resume, and always in the cloud, it goes on from
its last checkpoint. A model whose training came to its end is never trained
again: where its evaluation failed, or another split is asked for (--split, with
another --output_dir and the same --models_dir), it is evaluated alone.
--models_dir may be `gs://…`; --common holds flags that say where and not what,
such as a TPU's name:

  python -m tools.sweep --sweep=glue.sweep --models_dir=gs://BUCKET/glue \
    --common="--tpu=NAME --gin_param=\"tpu_mesh_shape.tpu_topology = 'v3-8'\""

Runs at the same time (--parallel) share the cores, each with its own.
"""

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
from absl import flags

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.launch import console, files, progress
from tools import results
from tools.dev import environment
from tools.experiments import sweep_file

FLAGS = flags.FLAGS

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_TRAINED = "trained.json"  # in the folder of a model whose training ended
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclasses.dataclass(frozen=True)
class Places:
  """Where the parts of a sweep are.

  Attributes:
    output_dir: of results and logs, local.
    models_dir: of the models, local or in the cloud.
  """

  output_dir: str
  models_dir: str

  @property
  def in_the_cloud(self) -> bool:
    return "://" in self.models_dir

  def model(self, run: sweep_file.Run) -> str:
    return os.path.join(self.models_dir, run.name, f"seed{run.seed}")

  def result(self, run: sweep_file.Run) -> str:
    return os.path.join(self.output_dir, "results", f"{run.label}.json")

  def log(self, run: sweep_file.Run) -> str:
    return os.path.join(self.output_dir, "logs", f"{run.label}.log")


def state(run: sweep_file.Run, places: Places) -> str:
  """Where a run stands: "done", "trained", "begun" or "to do".

  Args:
    run: one of a sweep.
    places: of the sweep.

  Returns:
    one of the four

  Raises:
    UserError: for a result that was made by other flags.
  """
  path = places.result(run)
  if os.path.exists(path):
    try:
      with open(path) as f:
        made_by = json.load(f)["flags"]
    except (ValueError, KeyError, TypeError):
      raise errors.UserError(
        f"{path} is damaged: remove it, and the run is done again."
      ) from None
    if made_by != flags_text(run):
      raise errors.UserError(
        f"{path} was made by other flags than the sweep has now for "
        f"{run.name}: give another --output_dir, or remove it."
      )
    return "done"
  with contextlib.suppress(errors.UserError):  # its own run will say it
    if training(run, places):
      return "trained"
  return "begun" if tf.io.gfile.isdir(places.model(run)) else "to do"


def training(run: sweep_file.Run, places: Places) -> dict | None:
  """What is kept of a training that came to its end.

  Args:
    run: one of a sweep.
    places: of the sweep.

  Returns:
    `seconds`, `cores` and `versions`; None if its model is not there,
    not whole, or of other flags
  """
  path = os.path.join(places.model(run), _TRAINED)
  if not tf.io.gfile.exists(path):
    return None
  try:
    with tf.io.gfile.GFile(path) as f:
      found = json.load(f)
    same = found["flags"] == shlex.join(run.flags)
    seconds, cores, versions = (
      found[key] for key in ("seconds", "cores", "versions")
    )
  except (ValueError, KeyError, TypeError):
    return None
  if not same or not checkpoints.latest_checkpoint(places.model(run)):
    return None
  return dict(seconds=seconds, cores=cores, versions=versions)


def flags_text(run: sweep_file.Run) -> str:
  """The flags of a run as its result keeps them."""
  return shlex.join(run.flags + ("--",) + run.eval_flags)


def status(runs: list[sweep_file.Run], places: Places) -> pd.DataFrame:
  """One row a model, one column a seed."""
  frame = {}
  for run in runs:
    frame.setdefault(f"seed {run.seed}", {})[run.name] = state(run, places)
  return pd.DataFrame(frame).reindex(dict.fromkeys(r.name for r in runs))


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


def _python_path() -> str:
  """This project, before whatever the user has there (tasks of their own)."""
  given = os.environ.get("PYTHONPATH")
  return os.pathsep.join([_ROOT, given] if given else [_ROOT])


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
    places: Places,
    parallel: int = 1,
    resume: bool = False,
    common: tuple[str, ...] = (),
  ):
    """Creates the runner.

    Args:
      places: of the sweep.
      parallel: runs at the same time.
      resume: go on from the checkpoints of killed runs.
      common: flags of every program that are no part of what a run is.
    """
    self._places = places
    self._resume = resume or places.in_the_cloud
    self._common = common
    self._children = set()
    self._stopped = threading.Event()
    self._free = queue.SimpleQueue()
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
      trained = training(run, self._places)
      # A model that is whole is evaluated again, and not trained again.
      if trained is None:
        trained = self._train(run, flags_, cores)
      elif not self._resume:
        _set_aside(os.path.join(folder, f"{split}_eval"))
      start = time.time()
      self._program(run, flags_ + run.eval_flags, cores)
    finally:
      self._free.put(cores)
    result = results.collect(folder, run.cell, run.seed, split)
    result["hardware"]["cores"] = trained["cores"]
    result.update(
      name=run.name,
      flags=flags_text(run),
      versions=trained["versions"],
      wall_seconds=round(trained["seconds"] + time.time() - start, 1),
    )
    files.write(self._places.result(run), results.to_text(result))

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
    path = os.path.join(folder, _TRAINED)
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
        env={**os.environ, "PYTHONPATH": _python_path()},
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
  places: Places,
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
  todo = [r for r in runs if state(r, places) != "done"]
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


def main(argv) -> int:
  """Runs a sweep, or says where it stands.

  Args:
    argv: unused.

  Returns:
    the exit status: 1 if a run failed
  """
  del argv
  given = dict(sweep_file.word_and_text(pair, "--set") for pair in FLAGS.set)
  try:
    seeds = [int(s) for s in FLAGS.seeds]
  except ValueError:
    seeds = []
  if not seeds or len(set(seeds)) != len(seeds):
    raise errors.UserError(
      f"--seeds={','.join(FLAGS.seeds)} are no seeds: give different integers, "
      "separated by commas."
    )
  if "://" in FLAGS.output_dir:
    raise errors.UserError(
      f"--output_dir={FLAGS.output_dir} holds results and logs and is local: "
      "give the folder in the cloud as --models_dir."
    )
  path = sweep_file.find(FLAGS.sweep)
  files.check_output(
    os.path.join(FLAGS.output_dir, "results", "x.json"), "--output_dir"
  )
  runs = sweep_file.parse(sweep_file.read(path), path, seeds, given)
  runs = sweep_file.of_cells(runs, FLAGS.cells)
  common = tuple(sweep_file.split_flags(FLAGS.common, "--common"))
  if FLAGS.split:
    runs = [sweep_file.with_split(run, FLAGS.split, common) for run in runs]
  places = Places(
    FLAGS.output_dir,
    FLAGS.models_dir or os.path.join(FLAGS.output_dir, "runs"),
  )
  if FLAGS.status:
    console.say(status(runs, places).to_string())
    return 0
  console.log_to(FLAGS.output_dir)
  tf.logging.set_verbosity(tf.logging.WARN)
  failures = run_all(
    runs,
    places,
    FLAGS.parallel,
    FLAGS.resume,
    common,
  )
  console.say(status(runs, places).to_string())
  for sentence in failures:
    console.terminal().write(f"error: {sentence}\n")
  return 1 if failures else 0


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("sweep", None, "A sweep's path, or its name.")
  flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, one run of each model.")
  flags.DEFINE_list("cells", [], "Only these cells of the sweep; usually all.")
  flags.DEFINE_multi_string("set", [], "WORD=TEXT for $WORD in the sweep.")
  flags.DEFINE_string("output_dir", "runs/sweep", "Where results and logs go.")
  flags.DEFINE_string(
    "models_dir", None, "Where models go, if not <output_dir>/runs."
  )
  flags.DEFINE_string("common", "", "Flags of every run that say where only.")
  flags.DEFINE_integer("parallel", 1, "Runs at a time.", lower_bound=1)
  flags.DEFINE_bool("resume", False, "Go on from checkpoints of killed runs.")
  flags.DEFINE_bool("status", False, "Only say where the sweep stands.")
  flags.DEFINE_string(
    "split",
    None,
    "The split to evaluate on, if not the one that the sweep says.",
  )
  flags.mark_flag_as_required("sweep")


if __name__ == "__main__":
  define_flags()
  console.run(main)
