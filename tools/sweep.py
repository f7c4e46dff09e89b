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

The flags of `train` go to every training and evaluation, those of `eval`, after
them, to every evaluation. The part of a name before `/` is the cell of a table:
the runs of a cell and a seed are one model per task. A `$WORD` without `for`
comes from --set=WORD=TEXT, or else from a line `set: WORD=TEXT …`.

Before the first training, every model is checked as by `tools.check`.

A run has
a folder `<models_dir>/<name>/seed<n>`, a log in `<output_dir>/logs` and, after
its evaluation, `<output_dir>/results/<name>-seed<n>.json`; runs with such a
result are not repeated, so a sweep can be stopped, or killed, and restarted.
The remains of a killed training are moved away and the run starts over, with
the same result; with --resume, and always in the cloud, it continues from its
last checkpoint. On SIGTERM running trainings save first; a second sweep on the
same folders is refused. A completed training is never repeated: if its
evaluation failed, or another split is asked for (--split, with another
--output_dir and the same --models_dir), only the evaluation runs.

--share=2/3 runs the second third of the models, for several machines that share
a sweep; each has its own --output_dir.

--models_dir may be `gs://…`; --common has flags
that say where to run, not what, such as a TPU's name:

  python -m tools.sweep --sweep=glue.sweep --models_dir=gs://BUCKET/glue \
    --common="--tpu=local --gin_param=\"tpu_mesh_shape.tpu_topology = 'v3-8'\""

Parallel runs (--parallel) divide the cores among them.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator

from absl import flags

from hypergrid_mtf.run import console
from tools.experiments import sweep_file

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flags.DEFINE_string("sweep", None, "A sweep's path, or its name.")
  flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, one run of each model.")
  flags.DEFINE_list("cells", [], "Only these cells; by default all.")
  flags.DEFINE_string(
    "share",
    "",
    "N/M: the N-th of M shares of the models, for several machines.",
  )
  flags.DEFINE_multi_string("set", [], "WORD=TEXT for $WORD in the sweep.")
  flags.DEFINE_string("output_dir", "runs/sweep", "For results and logs.")
  flags.DEFINE_string(
    "models_dir", None, "Where to write models, if not in <output_dir>/runs."
  )
  flags.DEFINE_string(
    "common", "", "Flags for every run that say where to run, not what."
  )
  flags.DEFINE_integer("parallel", 1, "Number of parallel runs.", lower_bound=1)
  flags.DEFINE_bool(
    "resume", False, "Continue from the checkpoints of killed runs."
  )
  flags.DEFINE_bool("status", False, "Only print the status of the sweep.")
  flags.DEFINE_string(
    "split", None, "The split to evaluate on, if not the sweep's."
  )
  flags.mark_flag_as_required("sweep")


console.read_flags(
  __name__, define_flags, check=lambda: sweep_file.find(FLAGS.sweep)
)

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files, lock
from tools.experiments import sweep_runner


def main(argv) -> int:
  """Runs a sweep, or prints its status.

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
      f"--seeds={','.join(FLAGS.seeds)} are not seeds: give different "
      "integers, separated by commas."
    )
  if "://" in FLAGS.output_dir:
    raise errors.UserError(
      f"--output_dir={FLAGS.output_dir} is for results and logs and must be "
      "local: give the cloud folder as --models_dir."
    )
  path = sweep_file.find(FLAGS.sweep)
  files.check_output_dir(FLAGS.output_dir)
  jobs = sweep_file.parse(sweep_file.read(path), path, seeds, given)
  jobs = sweep_file.select(jobs, FLAGS.cells, FLAGS.share)
  common = tuple(sweep_file.split_flags(FLAGS.common, "--common"))
  if FLAGS.split:
    split = f"--gin_param=run.dataset_split = {FLAGS.split!r}"
    jobs = [
      dataclasses.replace(job, eval_flags=(*job.eval_flags, split))
      for job in jobs
    ]
  models_dir = FLAGS.models_dir or os.path.join(FLAGS.output_dir, "runs")
  places = sweep_runner.Places(FLAGS.output_dir, models_dir)
  failures: list[str] = []
  if not FLAGS.status:
    with _alone():
      console.log_to(FLAGS.output_dir)
      tf.logging.set_verbosity(tf.logging.WARN)
      failures = sweep_runner.run_all(
        jobs, places, FLAGS.parallel, FLAGS.resume, common
      )
  console.say(sweep_runner.status(jobs, places).to_string())
  for sentence in failures:
    console.terminal().write(f"error: {sentence}\n")
  return 1 if failures else 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
  """Locks the folders against other sweeps; SIGTERM stops the runs in order."""
  with (
    console.sigterm_calls(lambda *_: sys.exit(console.SIGTERM_STATUS)),
    contextlib.ExitStack() as stack,
  ):
    for name in ("output_dir", "models_dir"):
      folder = FLAGS[name].value
      if name == "models_dir" and FLAGS.share:
        continue  # other machines write there too, in other folders
      if folder and (name == "output_dir" or folder != FLAGS.output_dir):
        tf.io.gfile.makedirs(folder)
        given = f"--{name}={folder}"
        stack.enter_context(lock.hold(folder, given, "runs a sweep"))
    yield


if __name__ == "__main__":
  console.run(main)
