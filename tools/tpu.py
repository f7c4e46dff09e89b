r"""Makes a Cloud TPU, trains and evaluates there, and deletes it.

  python -m tools.tpu run --name=l2 --zone=ZONE --accelerator_type=v3-8 \
    --gs_dir=gs://BUCKET/l2 --dry_run -- --gin_file=models/base.gin \
    --gin_file=hypergrid/L2.gin --gin_file=experiments/glue.gin …

The flags after -- are those of `hypergrid_mtf.main`, or, with --sweep=FILE, of
`tools.sweep`. After Ctrl-C or a crash the same command continues. A preempted
TPU is replaced, and the training resumes from its last checkpoint. `status` and
`delete` take --name, --zone and, as given to `run`, --queued and --project.
--dry_run prints every gcloud command and runs none. If a TPU is left running,
its cost and the command that deletes it are printed.

Needs gcloud and Python. It was tested with a fake gcloud, never with a real TPU
(docs/cloud_tpu.md).
"""

import argparse
import os
import re
import shlex
import signal
import tempfile
from collections.abc import Callable

from tools.cloud import command_line, commands, gcloud, lifecycle, tpu_types

# Flags that this program itself gives to the run or sweep.
_OURS = ("--model_dir", "--models_dir", "--output_dir", "--tpu", "--common")


def parser() -> argparse.ArgumentParser:
  found = command_line.Parser(prog="python -m tools.tpu", description=__doc__)
  add = found.add_argument
  add("what", choices=("run", "status", "delete"))
  add("--name", required=True, help="name of the TPU")
  add("--zone", default="", help="e.g. us-central1-a")
  add("--accelerator_type", default="", help="e.g. v3-8")
  add("--runtime_version", default="", help="the image; by default TF 2.15.0's")
  add("--project", default="", help="if not gcloud's default")
  add("--spot", action="store_true", help="cheaper, but may be preempted")
  add("--queued", action="store_true", help="wait in Google's queue")
  add("--gs_dir", default="", help="gs://… for models and results")
  add("--sweep", default="", help="a sweep instead of one run")
  add("--eval", default="", help="more flags of the evaluation, in quotes")
  add("--train_only", action="store_true", help="do not evaluate afterwards")
  add("--add", action="append", default=[], help="a module of your own")
  add("--output_dir", default="", help="of results; runs/tpu/<name>")
  add("--keep", action="store_true", help="do not delete the TPU at the end")
  add("--keep_after_error", action="store_true", help="nor after an error")
  add("--price_per_chip_hour", type=float, help="to show the TPU's cost")
  add("--restarts", type=int, default=20, help="how often it may be preempted")
  add("--retries", type=int, default=2, help="how often the job may fail")
  add("--capacity_hours", type=float, default=24.0, help="to wait for a TPU")
  add("--dry_run", action="store_true", help="print the commands, run none")
  return found


def read_plan(words: list[str]) -> commands.Plan:
  """Parses a command line; a UserError names a wrong flag."""
  plan = parser().parse_args(words)

  def check(good, sentence: str) -> None:
    if not good:
      raise command_line.UserError(sentence)

  check(
    re.fullmatch(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?", plan.name),
    f"--name={plan.name} is not a name for a TPU: give lower-case letters, "
    "digits and hyphens, a letter first.",
  )
  needed = ("zone", "accelerator_type", "gs_dir")
  for flag in needed if plan.what == "run" else needed[:1]:
    check(getattr(plan, flag), f"--{flag} is not given.")
  if plan.what != "run":
    return plan
  tpu_types.check_type(plan.accelerator_type)
  if not plan.runtime_version:
    plan.runtime_version = tpu_types.default_image(plan.accelerator_type)
  tpu_types.check_type(plan.accelerator_type, plan.runtime_version)
  check(
    re.match(r"gs://[^/]+/.", plan.gs_dir),
    f"--gs_dir={plan.gs_dir} is not a folder in the cloud: give "
    "gs://BUCKET/FOLDER, because the disk of a TPU VM is lost with it.",
  )
  plan.gs_dir = plan.gs_dir.rstrip("/")
  plan.output_dir = plan.output_dir or os.path.join("runs", "tpu", plan.name)
  check(
    not (plan.sweep and (plan.eval or plan.train_only)),
    "--eval and --train_only are for a single run: a sweep file says what to "
    "evaluate.",
  )
  try:
    evaluation = shlex.split(plan.eval)
  except ValueError as e:
    raise command_line.UserError(f"--eval={plan.eval!r}: {e}.") from None
  for word in [*plan.rest, *evaluation]:
    name = word.split("=")[0]
    check(
      name.startswith("--") and name not in _OURS,
      f"{word!r} cannot be given after -- or in --eval: give --NAME=VALUE, "
      f"but not {', '.join(_OURS)}, which this program sets.",
    )
  for path in plan.add:
    check(os.path.exists(path), f"--add={path} does not exist.")
  return plan


def _readable(line: str) -> str:
  """A shell command with as few quotes as possible, for reading."""
  words = []
  for word in shlex.split(line):
    is_plain = re.fullmatch(r"[^\s'\"$`\\]+", word)
    quote = "'" if '"' in word else '"'
    words.append(word if is_plain else f"{quote}{word}{quote}")
  return " ".join(words)


def main(words: list[str]) -> int:
  """Returns the exit status: 1 if something failed, 130 if interrupted."""
  plan = read_plan(words)
  cloud = gcloud.Gcloud(plan.project)
  if plan.dry_run:
    for command in commands.whole_life(plan):
      print(shlex.join(cloud.command(command)))
      for word in command:
        if word.startswith("--command=") and "'\"'\"'" in shlex.quote(word):
          print(f"# that is: {_readable(word.partition('=')[2])}")
    return 0
  errors: list[Exception] = []
  with tempfile.TemporaryDirectory() as folder:
    life = lifecycle.Lifecycle(plan, cloud, os.path.join(folder, "archive"))
    try:
      if plan.what == "run":
        errors = _run(life, plan)
      elif plan.what == "delete":
        life.delete()
      else:
        life.say(f"{life.state() or 'does not exist'}, {life.cost()}")
    except gcloud.Stop as e:
      errors = [e]
    except KeyboardInterrupt:
      errors = [gcloud.Stop("interrupted; the same command continues")]
      return 130
    finally:
      if life.may_exist and plan.what != "status":
        life.say(life.what_is_left())
      if errors:
        print(f"error: {plan.name}: {'; '.join(map(str, errors))}", flush=True)
  return 1 if errors else 0


def _run(life: lifecycle.Lifecycle, plan: commands.Plan) -> list[Exception]:
  """Makes the TPU, gets the results, deletes the TPU; returns the errors."""
  errors: list[Exception] = []

  def attempt(step: Callable[[], None]) -> None:
    try:
      step()
    except gcloud.Stop as e:
      errors.append(e)

  attempt(life.run_job)
  keep = plan.keep_after_error if errors else plan.keep
  if life.started:
    attempt(life.fetch)
  if life.may_exist and not (keep or life.unsaved):
    attempt(life.delete)
  return errors


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  command_line.run_program(main)
