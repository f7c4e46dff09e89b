"""The commands of one TPU, as lists of words after `gcloud`.

The flags were read in the help of gcloud 528.
"""

import os
import shlex

from tools.cloud import kinds, plan_file

TPU = ["compute", "tpus", "tpu-vm"]
QUEUE = ["compute", "tpus", "queued-resources"]
# In the home folder of a TPU VM.
FOLDER = "hypergrid_mtf"
ARCHIVE = "hypergrid_mtf.tar.gz"
_PYTHON = ".venv/bin/python"
_SWEEP = "runs/sweep"  # on the TPU VM
_SWEPT = ("results", "logs")


def queue_of(name: str) -> str:
  """The queued resource of a TPU."""
  return f"{name}-queue"


def create(plan: plan_file.Plan, name: str) -> list[str]:
  """Asks for a TPU, at once or by the queue."""
  zone = f"--zone={plan.zone}"
  kind = f"--accelerator-type={plan.accelerator_type}"
  spot = ["--spot"] if plan.spot else []
  if not plan.queued:
    image = f"--version={plan.image}"
    return [*TPU, "create", name, zone, kind, image, *spot, "--quiet"]
  until = plan.valid_until_duration
  return [
    *(*QUEUE, "create", queue_of(name), f"--node-id={name}", zone, kind),
    f"--runtime-version={plan.image}",
    *spot,
    *([f"--valid-until-duration={until}"] if until else []),
    "--quiet",
  ]


def describe(plan: plan_file.Plan, name: str) -> list[str]:
  return [*TPU, "describe", name, f"--zone={plan.zone}"]


def describe_queue(plan: plan_file.Plan, name: str) -> list[str]:
  return [*QUEUE, "describe", queue_of(name), f"--zone={plan.zone}"]


def delete(plan: plan_file.Plan, name: str) -> list[str]:
  """Deletes a TPU; of a queued one the queue with it."""
  zone = f"--zone={plan.zone}"
  if plan.queued:
    return [*QUEUE, "delete", queue_of(name), zone, "--force", "--quiet"]
  return [*TPU, "delete", name, zone, "--quiet"]


def upload(plan: plan_file.Plan, name: str, archive: str, worker) -> list[str]:
  place = f"{name}:{ARCHIVE}"
  zone = f"--zone={plan.zone}"
  return [*TPU, "scp", archive, place, zone, f"--worker={worker}", "--quiet"]


def ssh(plan: plan_file.Plan, name: str, worker, command: str) -> list[str]:
  """Runs a command on one worker, or on "all" of them."""
  return [
    *(*TPU, "ssh", name, f"--zone={plan.zone}", f"--worker={worker}"),
    "--quiet",
    f"--command={command}",
  ]


def install(plan: plan_file.Plan) -> str:
  """On the TPU VM: unpacks the project and makes its environment."""
  return (
    f"mkdir -p {FOLDER} && tar -xzf {ARCHIVE} -C {FOLDER} && cd {FOLDER} && "
    "python3 -m tools.cloud.install_tpu "
    f"--accelerator_type={plan.accelerator_type} --runtime_version={plan.image}"
  )


def start(plan: plan_file.Plan, name: str, job: int) -> str:
  """On the TPU VM: starts the job, which outlives the connection."""
  pod = kinds.is_pod(plan.accelerator_type)
  # JAX is here because seqio asks for it, and must not take the TPU.
  env = ["JAX_PLATFORMS=cpu"]
  env += [f"TPU_NAME={name}", "TPU_LOAD_LIBRARY=0"] if pod else []
  words = [f"--id={job}", *(f"--env={pair}" for pair in env)]
  if plan.sweep:
    pairs = [f"{_SWEEP}/{part}={plan.gs_dir}/{part}" for part in _SWEPT]
    words += [f"--restore={pair}" for pair in pairs]
    words += [f"--save={pair}" for pair in pairs]
  line = shlex.join([*words, "--"])
  jobs = " '&&' ".join(shlex.join(job) for job in programs(plan, name))
  return f"cd {FOLDER} && python3 -m tools.cloud.on_tpu start {line} {jobs}"


def report(offset: int) -> str:
  """On the TPU VM: how the job stands."""
  return (
    f"cd {FOLDER} && python3 -m tools.cloud.on_tpu report --offset={offset}"
  )


def programs(plan: plan_file.Plan, name: str) -> list[list[str]]:
  """The programs of a job, one after the other.

  Args:
    plan: what is asked for.
    name: of the TPU.

  Returns:
    their words
  """
  where = tpu_flags(plan, name)
  if plan.sweep:
    sweep = [_PYTHON, "-m", "tools.sweep", *plan.arguments]
    sweep += [f"--models_dir={plan.gs_dir}/models", f"--output_dir={_SWEEP}"]
    if plan.tpus > 1:
      sweep.append(f"--share={plan.names.index(name) + 1}/{plan.tpus}")
    return [[*sweep, f"--common={shlex.join(where)}"]]
  run = [_PYTHON, "-m", "hypergrid_mtf.main", f"--model_dir={plan.gs_dir}"]
  # What the user gives comes later, so that it counts.
  run += [*where, *plan.arguments]
  return [run, *([*run, *shlex.split(more)] for more in plan.then)]


def tpu_flags(plan: plan_file.Plan, name: str) -> list[str]:
  """The flags of a run that only say where it is."""
  topology, cores = kinds.topology(plan.accelerator_type)
  flags = ["--tpu=local"]
  if kinds.is_pod(plan.accelerator_type):
    flags = [f"--tpu={name}", f"--tpu_zone={plan.zone}"]
    flags += [f"--gcp_project={plan.project}"] if plan.project else []
  if cores != 2:
    flags.append(f"--logical_cores_per_chip={cores}")
  flags.append(f'--gin_param=tpu_mesh_shape.tpu_topology="{topology}"')
  return flags


def fetch(
  plan: plan_file.Plan, output_dir: str, checkpoints: bool
) -> list[list[str]]:
  """Copies the results from the cloud to this machine.

  Args:
    plan: what is asked for.
    output_dir: a local folder.
    checkpoints: also the weights, which may be many gigabytes.
  """
  rsync = ["storage", "rsync", "--recursive"]
  if plan.sweep:
    return [
      [*rsync, f"{plan.gs_dir}/{part}", os.path.join(output_dir, part)]
      for part in _SWEPT
    ]
  left_out = [] if checkpoints else [r"--exclude=.*model\.ckpt-.*"]
  return [[*rsync, *left_out, plan.gs_dir, output_dir]]
