"""Builds the gcloud commands for one TPU, with the flags of gcloud 528."""

import argparse
import hashlib
import os
import shlex
import tarfile

from tools.cloud import tpu_types

_TPU = ["compute", "tpus", "tpu-vm"]
_QUEUE = ["compute", "tpus", "queued-resources"]
LABEL = "hypergrid-mtf"  # on the TPUs that this program made
_FOLDER = "hypergrid_mtf"  # in the home folder of a TPU VM
_ARCHIVE = "hypergrid_mtf.tar.gz"
_SWEEP = "runs/sweep"  # on the TPU VM
_SWEEP_PARTS = ("results", "logs")
_EVAL = ["--gin_file=eval.gin", "--gin_param=run.dataset_split = 'validation'"]
ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
# The files that a run needs.
PARTS = [
  *("Makefile", "README.md", "LICENSE", "pyproject.toml", "requirements.txt"),
  *("requirements-tpu-pod.txt", "hypergrid_mtf", "operative_configs"),
  *("t5_tasks", "tools"),
]
# The flags of `tools.tpu`; `rest` has those of the run.
Plan = argparse.Namespace


def create(plan: Plan) -> list[str]:
  """Requests a TPU, directly or through Google's queue."""
  words = [f"--zone={plan.zone}", f"--accelerator-type={plan.accelerator_type}"]
  words += [f"--labels={LABEL}={plan.name}", *["--spot"] * plan.spot, "--quiet"]
  if not plan.queued:
    image = f"--version={plan.runtime_version}"
    return [*_TPU, "create", plan.name, image, *words]
  return [
    *(*_QUEUE, "create", f"{plan.name}-queue", f"--node-id={plan.name}"),
    f"--runtime-version={plan.runtime_version}",
    # So that no TPU is made after this program has stopped waiting.
    f"--valid-until-duration={max(1, round(plan.capacity_hours))}h",
    *words,
  ]


def describe(plan: Plan) -> list[str]:
  return [*_TPU, "describe", plan.name, f"--zone={plan.zone}"]


def describe_queue(plan: Plan) -> list[str]:
  return [*_QUEUE, "describe", f"{plan.name}-queue", f"--zone={plan.zone}"]


def delete(plan: Plan) -> list[str]:
  """Deletes a TPU; for a queued one also its request."""
  zone = f"--zone={plan.zone}"
  if plan.queued:
    return [*_QUEUE, "delete", f"{plan.name}-queue", zone, "--force", "--quiet"]
  return [*_TPU, "delete", plan.name, zone, "--quiet"]


def upload(plan: Plan, archive: str) -> list[str]:
  """Copies the archive to all workers."""
  where = [f"--zone={plan.zone}", "--worker=all", "--quiet"]
  return [*_TPU, "scp", archive, f"{plan.name}:{_ARCHIVE}", *where]


def ssh(plan: Plan, worker, command: str) -> list[str]:
  """Runs a command on one worker, or on "all" of them."""
  where = [f"--zone={plan.zone}", f"--worker={worker}", "--quiet"]
  return [*_TPU, "ssh", plan.name, *where, f"--command={command}"]


def install(plan: Plan) -> list[str]:
  """Unpacks the project on all workers, and installs it if necessary."""
  pod = " --pod" * tpu_types.is_pod(plan.accelerator_type)
  program = f"python3 -m tools.cloud.install_tpu{pod}"
  return ssh(
    *(plan, "all"),
    f"mkdir -p {_FOLDER} && tar -xzf {_ARCHIVE} -C {_FOLDER} && cd {_FOLDER} "
    f"&& ([ -e .venv/installed ] || {program})",
  )


def start(plan: Plan) -> list[str]:
  """Starts the job on worker 0; it outlives the connection."""
  parts = _SWEEP_PARTS if plan.sweep else ()
  save = [f"--save={_SWEEP}/{part}={plan.gs_dir}/{part}" for part in parts]
  line = shlex.join([f"--id={job_id(plan)}", *save, "--"])
  jobs = " '&&' ".join(shlex.join(words) for words in programs(plan))
  command = f"python3 -m tools.cloud.job start {line} {jobs}"
  return ssh(plan, 0, f"cd {_FOLDER} && {command}")


def report(plan: Plan, offset: int) -> list[str]:
  """Reports on the job of worker 0; prints nothing if none was started."""
  command = f"python3 -m tools.cloud.job report --offset={offset}"
  return ssh(
    *(plan, 0),
    f"[ ! -d {_FOLDER}/tpu_job ] || (cd {_FOLDER} && {command})",
  )


def job_id(plan: Plan) -> str:
  """An id that is the same for the same programs, so none is started twice."""
  text = "\n".join(shlex.join(words) for words in programs(plan))
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def programs(plan: Plan) -> list[list[str]]:
  """The programs of a job, to run one after the other."""
  pod = tpu_types.is_pod(plan.accelerator_type)
  # JAX is installed because seqio needs it, and must not use the TPU.
  prefix = ["env", "JAX_PLATFORMS=cpu"]
  prefix += [f"TPU_NAME={plan.name}", "TPU_LOAD_LIBRARY=0"] if pod else []
  prefix += [".venv/bin/python", "-m"]
  where = _tpu_flags(plan)
  if plan.sweep:
    sweep = [*prefix, "tools.sweep", f"--sweep={plan.sweep}", *plan.rest]
    sweep += [f"--models_dir={plan.gs_dir}/models", f"--output_dir={_SWEEP}"]
    return [[*sweep, f"--common={shlex.join(where)}"]]
  run = [*prefix, "hypergrid_mtf.main", f"--model_dir={plan.gs_dir}"]
  run += [*where, *plan.rest]  # the user's flags come last, so that they win
  evaluation = [*run, *_EVAL, *shlex.split(plan.eval)]
  return [run] if plan.train_only else [run, evaluation]


def _tpu_flags(plan: Plan) -> list[str]:
  """The flags of a run that describe the TPU."""
  topology, cores = tpu_types.topology(plan.accelerator_type)
  flags = ["--tpu=local"]
  if tpu_types.is_pod(plan.accelerator_type):
    flags = [f"--tpu={plan.name}", f"--tpu_zone={plan.zone}"]
    flags += [f"--gcp_project={plan.project}"] if plan.project else []
  if cores != 2:
    flags.append(f"--logical_cores_per_chip={cores}")
  return [*flags, f'--gin_param=tpu_mesh_shape.tpu_topology="{topology}"']


def fetch(plan: Plan) -> list[list[str]]:
  """Copies the results to this machine, without checkpoints."""
  rsync = ["storage", "rsync", "--recursive"]
  if plan.sweep:
    return [
      [*rsync, f"{plan.gs_dir}/{part}", os.path.join(plan.output_dir, part)]
      for part in _SWEEP_PARTS
    ]
  checkpoints = r"--exclude=.*model\.ckpt-.*"
  return [[*rsync, checkpoints, plan.gs_dir, plan.output_dir]]


def whole_life(plan: Plan) -> list[list[str]]:
  """All commands of `tools.tpu`, in order, if nothing fails."""
  looks = [describe(plan)]
  looks += [describe_queue(plan)] if plan.queued else []
  if plan.what != "run":
    return [*looks, delete(plan)] if plan.what == "delete" else looks
  return [
    *looks,
    create(plan),
    upload(plan, _ARCHIVE),
    install(plan),
    start(plan),
    report(plan, 0),
    *fetch(plan),
    *([] if plan.keep else [delete(plan)]),
  ]


def write_archive(path: str, more: list[str]) -> None:
  """Writes this checkout, and the paths in `more`, to a .tar.gz."""
  paths = [os.path.join(ROOT, part) for part in PARTS]
  with tarfile.open(path, "w:gz") as archive:
    for source in [*paths, *map(os.path.normpath, more)]:
      archive.add(
        source,
        os.path.basename(source),
        filter=lambda m: None if m.name.endswith("__pycache__") else m,
      )
