r"""t5's `t5_mesh_transformer` with HyperGrid, its tasks and its gin files.

Same flags, same gin files, all modes. Example:

  python -m hypergrid_mtf.main --model_dir=runs/l2 --gin_file=models/tiny.gin \
    --gin_file=hypergrid/L2.gin --gin_file=experiments/embedded.gin

It adds: operative_configs/ on the gin search path; the tasks of `t5_tasks`;
--vocabulary; without --tpu, a mesh of all GPUs or one CPU; checks before the
graph is built; progress while it runs; and the libraries' output in
`<model_dir>/hypergrid_mtf.log`.
"""

import contextlib

from absl import flags
from absl import logging as absl_logging

from hypergrid_mtf.run import console, run_flags

run_flags.define()  # at import too: others call `main`
console.read_flags(__name__, must_exist=["vocabulary", "t5_tfds_data_dir"])

import tensorflow.compat.v1 as tf

from hypergrid_mtf.run import (
  best,
  checks,
  config,
  dry_run,
  estimator,
  eval_config,
  evaluation,
  files,
  lock,
  records,
  repair,
  request,
  settle,
  t5_main,
)
from hypergrid_mtf.run.checks import checkpoint

FLAGS = flags.FLAGS


def _start(run: request.Run, keeps_results: bool) -> estimator.Progress:
  """Runs the requested mode in t5's own main."""
  repeats = config.value("decode_from_file.repeats", 1)
  lines = max(map(len, run.input_lines.values()), default=0)
  progress = estimator.Progress(seed=FLAGS.seed, examples=lines * repeats)
  if run.trains:
    records.write_start(run)
  if run.mode in ("eval", "score_eval"):
    eval_config.write(run.results)
  if run.mode in ("eval", "score_eval") or run.flags.evaluate:
    evaluation.bind_metrics(run, progress)
  if run.flags.evaluate:
    progress.listeners.append(best.EvaluateListener(run, progress))
  with estimator.install(progress):
    while True:
      try:
        t5_main.run()
        break
      except (tf.errors.OpError, OSError, ValueError) as e:
        if settle.settle_removed(run, progress.checkpoint):
          continue
        repair.explain_full_disk(e, FLAGS.model_dir)
        checkpoint.explain_failed_restore(e, run)
        raise
  if progress.stopped_at is not None:
    console.say(
      f"{run.mode}: stopped by SIGTERM and saved at step "
      f"{progress.stopped_at}: the same command resumes there"
    )
  else:
    where = progress.where(run.results) if keeps_results else ""
    console.say(f"{run.mode}: done{where}")
  return progress


def main(argv, only_check: bool = False) -> int | None:
  """The command line: `execute`, with the libraries' logging on.

  Returns:
    the exit status of a training that SIGTERM stopped before its last step
  """
  del argv
  tf.logging.set_verbosity(tf.logging.INFO)
  absl_logging.set_verbosity(absl_logging.INFO)
  progress = execute(only_check)
  stopped = progress is not None and progress.stopped_at is not None
  return console.SIGTERM_STATUS if stopped else None


def execute(
  only_check: bool = False, keeps_results: bool = True
) -> estimator.Progress | None:
  """Reads the configuration from FLAGS, checks it, and runs it.

  Args:
    only_check: stop before a graph is built, and leave the folder as it is.
    keeps_results: whether the files of its results stay: the last line names
      them.

  Returns:
    the run's progress; None if it was only checked
  """
  tf.disable_v2_behavior()
  checkpoint.check_model_dir(FLAGS.model_dir)
  files.check_output_dir(FLAGS.model_dir, "--model_dir")
  dry = only_check or FLAGS.dry_run
  log = "" if dry else console.log_to(FLAGS.model_dir)
  t5_main.parse(FLAGS)
  run = request.Run(FLAGS)
  with contextlib.ExitStack() as stack:
    if run.trains:  # no other training can write in the folder
      given = f"--model_dir={FLAGS.model_dir}"
      stack.enter_context(lock.hold(FLAGS.model_dir, given))
      if not dry:
        repair.repair_model_dir(FLAGS.model_dir)
    settle.settle(run)
    checks.check_run(run)
    for line in checks.list_notes(run):
      console.say(line)
    if dry:
      console.say(f"{run.mode}: all checks passed")
      if not only_check:
        dry_run.one_step(run, FLAGS)
      return None
    console.say(f"{run.mode}: {FLAGS.model_dir} (log: {log})")
    return _start(run, keeps_results)


if __name__ == "__main__":
  console.run(main)
