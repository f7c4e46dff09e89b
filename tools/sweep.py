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

Before the first training, every model is checked as `tools.check` would.
A run has a folder `<models_dir>/<name>/seed<n>`, a log in `<output_dir>/logs`
and, once it is evaluated, `<output_dir>/results/<name>-seed<n>.json`; runs that
have this are not run again, so a sweep can be stopped, or killed, and started
again. What a killed training left is set aside and the run starts again, which
gives the same result; with --resume, and always in the cloud, it continues from
its last checkpoint. SIGTERM lets what trains save before it ends; a second
sweep on the same folders is refused. A model whose training ended is never
trained again: where its evaluation failed, or another split is asked for
(--split, with another --output_dir and the same --models_dir), it is evaluated
alone.
--share=2/3 takes the second third of the models, for machines that share a
sweep; each has an --output_dir of its own.
--models_dir may be `gs://…`; --common holds flags that say where and not what,
such as a TPU's name:

  python -m tools.sweep --sweep=glue.sweep --models_dir=gs://BUCKET/glue \
    --common="--tpu=local --gin_param=\"tpu_mesh_shape.tpu_topology = 'v3-8'\""

Runs at the same time (--parallel) share the cores, each with its own.
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
  """Not at import: other programs have flags too."""
  flags.DEFINE_string("sweep", None, "A sweep's path, or its name.")
  flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, one run of each model.")
  flags.DEFINE_list("cells", [], "Only these cells of the sweep; usually all.")
  flags.DEFINE_string(
    "share",
    "",
    "N/M: the N-th of M shares of the models, for several machines.",
  )
  flags.DEFINE_multi_string("set", [], "WORD=TEXT for $WORD in the sweep.")
  flags.DEFINE_string("output_dir", "runs/sweep", "Where results and logs go.")
  flags.DEFINE_string(
    "models_dir", None, "Where models go, if not <output_dir>/runs."
  )
  flags.DEFINE_string(
    "common", "", "Flags of every run that only say where it is."
  )
  flags.DEFINE_integer("parallel", 1, "Runs at a time.", lower_bound=1)
  flags.DEFINE_bool(
    "resume", False, "Continue from the checkpoints of killed runs."
  )
  flags.DEFINE_bool("status", False, "Only say where the sweep stands.")
  flags.DEFINE_string(
    "split",
    None,
    "The split to evaluate on, if not the one that the sweep says.",
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
  """Runs a sweep, or says where it stands.

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
      f"--output_dir={FLAGS.output_dir} holds results and logs and is local: "
      "give the folder in the cloud as --models_dir."
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
  """No other sweep writes in the same folders; SIGTERM ends the runs well."""
  with (
    console.sigterm_calls(lambda *_: sys.exit(console.SIGTERM_STATUS)),
    contextlib.ExitStack() as stack,
  ):
    for name in ("output_dir", "models_dir"):
      folder = FLAGS[name].value
      if name == "models_dir" and FLAGS.share:
        continue  # others write there too, each in folders of its own models
      if folder and (name == "output_dir" or folder != FLAGS.output_dir):
        tf.io.gfile.makedirs(folder)
        given = f"--{name}={folder}"
        stack.enter_context(lock.hold(folder, given, "runs a sweep"))
    yield


if __name__ == "__main__":
  console.run(main)
