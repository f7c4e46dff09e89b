"""A fake gcloud: its TPU VMs are folders, and fail in known ways.

`$FAKE_GCLOUD` is a folder: `faults.json` holds what goes wrong, a list of
{"when": a part of the command line, "say": …, "status": …, "times": …,
"preempt": a TPU}; `broken.json` says on which workers the installation fails
how often; `nodes/NAME.json` is what describes a TPU, `nodes/NAME/worker-N` are
the homes of its VMs; `bucket/` is the cloud; `calls` is what was called.
Commands over ssh run for real in those folders, apart from the installation,
for which `install` here stands.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(os.environ.get("FAKE_GCLOUD", "/nowhere"))
# Stands for .venv/bin/python on a TPU VM: trains in $FAKE_GCLOUD/bucket.
STUB = """#!/bin/sh
exec {python} -S {trainer} "$@"
"""


def fail(message, status=1):
  sys.stderr.write(f"{message}\n")
  sys.exit(status)


def value(arguments, flag, default=None):
  for argument in arguments:
    if argument.startswith(f"--{flag}="):
      return argument.split("=", 1)[1]
  return default


def path_of_node(name):
  return ROOT / "nodes" / name


def describe(name):
  path = path_of_node(f"{name}.json")
  return json.loads(path.read_text()) if path.exists() else {}


def write(name, **fields):
  path_of_node(f"{name}.json").write_text(json.dumps(describe(name) | fields))


def preempt(name, state="PREEMPTED"):
  """Preempts a TPU: its processes end, its disks are lost."""
  node = path_of_node(name)
  for job in node.glob("worker-*/hypergrid_mtf/tpu_job/job.json"):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(json.loads(job.read_text())["pid"], signal.SIGKILL)
  shutil.rmtree(node, ignore_errors=True)
  write(name, state=state)


def delete(name):
  preempt(name)
  path_of_node(f"{name}.json").unlink()


def take_fault(arguments):
  """The first fault that is left for this command, if there is one."""
  path = ROOT / "faults.json"
  if not path.exists():
    return None
  line = " ".join(arguments)
  with open(path, "r+") as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    faults = json.load(f)
    for fault in faults:
      if fault["when"] in line and fault.get("times", 1) > 0:
        fault["times"] = fault.get("times", 1) - 1
        f.seek(0)
        f.truncate()
        json.dump(faults, f)
        return fault
  return None


def main(arguments):
  with open(ROOT / "calls", "a") as f:
    f.write(json.dumps(arguments) + "\n")
  fault = take_fault(arguments)
  if fault:
    if "preempt" in fault:
      preempt(fault["preempt"])
    if "say" in fault:
      fail(fault["say"], fault.get("status", 1))
  if arguments[0] == "storage":
    return storage(arguments[1:])
  kind, what = arguments[2:4]
  if what in ("ssh", "scp"):
    return reach(what, arguments[4:])
  return (queue if kind == "queued-resources" else node)(what, arguments[4:])


def new_node(name, arguments=("--accelerator-type=v3-8",)):
  accelerator_type = value(arguments, "accelerator-type")
  for worker in range(max(1, int(accelerator_type.split("-")[1]) // 8)):
    (path_of_node(name) / f"worker-{worker}").mkdir(parents=True)
  now = datetime.datetime.fromtimestamp(
    float((ROOT / "now").read_text()), datetime.timezone.utc
  )
  label = value(arguments, "labels")
  write(
    name,
    state="READY",
    acceleratorType=accelerator_type,
    createTime=f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z",
    **({"labels": dict([label.split("=")])} if label else {}),
  )


def node(what, arguments):
  name = arguments[0]
  if what == "create":
    assert not describe(name), f"{name} exists"
    new_node(name, arguments)
  elif not describe(name):
    fail(f"ERROR: NOT_FOUND: Resource 'nodes/{name}' was not found")
  elif what == "describe":
    print(json.dumps(describe(name)))
  else:
    delete(name)


def queue(what, arguments):
  path = ROOT / "queues" / arguments[0]
  if what == "create":
    path.parent.mkdir(exist_ok=True)
    states = ["WAITING_FOR_RESOURCES", "PROVISIONING"]
    path.write_text(json.dumps([states, arguments]))
    return
  if not path.exists():
    fail(f"ERROR: NOT_FOUND: Resource '{path.name}' was not found")
  states, asked = json.loads(path.read_text())
  owned = value(asked, "node-id")
  if what == "describe":
    if states:
      state = states.pop(0)
      path.write_text(json.dumps([states, asked]))
      if not states:
        new_node(owned, asked)
    else:
      ready = describe(owned).get("state") == "READY"
      state = "ACTIVE" if ready else "SUSPENDED"
    print(json.dumps({"state": {"state": state}}))
  else:
    if describe(owned):
      delete(owned)
    path.unlink()


def reach(what, arguments):
  target = arguments[1].split(":")[0] if what == "scp" else arguments[0]
  state = describe(target).get("state")
  if not state:
    fail(f"ERROR: NOT_FOUND: Resource 'nodes/{target}' was not found")
  if state != "READY":
    fail(
      f"ERROR: (gcloud.compute.tpus.tpu-vm.{what}) This TPU has terminal state "
      f'"{state}", so it cannot be used anymore.'
    )
  worker = value(arguments, "worker", "0")
  homes = sorted(path_of_node(target).glob("worker-*"))
  if worker != "all":
    homes = [homes[int(worker)]]
  status = 0
  for home in homes:
    if what == "scp":
      shutil.copy(arguments[0], home / arguments[1].split(":")[1])
      continue
    one = run(home, value(arguments, "command"))
    if one and len(homes) > 1:
      number = home.name.split("-")[1]
      sys.stderr.write(
        f"##### Command execution on worker {number} failed with exit status "
        f"{one}. Continuing.\n"
      )
    status = status or one
  sys.exit(status)


def run(home, line):
  """Runs a command in a home folder."""
  install = f"{sys.executable} -S {__file__} install"
  line = re.sub(r"python3 -m tools.cloud.install_tpu( --pod)?", install, line)
  line = re.sub(r"\bpython3 -m", f"{sys.executable} -S -m", line)
  env = {
    "HOME": str(home),
    "PATH": f"{ROOT}/bin:/usr/bin:/bin",
    "FAKE_GCLOUD": str(ROOT),
  }
  done = subprocess.run(["sh", "-c", line], cwd=home, env=env, check=False)
  return done.returncode


def install():
  """Stands for tools.cloud.install_tpu."""
  worker = pathlib.Path(os.environ["HOME"]).name
  broken = ROOT / "broken.json"
  times = json.loads(broken.read_text()) if broken.exists() else {}
  if times.get(worker):
    times[worker] -= 1
    broken.write_text(json.dumps(times))
    fail("error: the lock was not installed: ERROR: no network", 2)
  stub = pathlib.Path(".venv/bin/python")
  stub.parent.mkdir(parents=True)
  trainer = pathlib.Path(__file__).with_name("fake_training.py")
  stub.write_text(STUB.format(python=sys.executable, trainer=trainer))
  stub.chmod(0o755)
  pathlib.Path(".venv/installed").touch()
  print(f".venv is ready: {worker}, TPU cores: 8.")


def storage(arguments):
  """rsync --recursive FROM TO, where gs:// is the folder `bucket`."""
  excluded = value(arguments, "exclude", "^$")
  places = [a for a in arguments[1:] if not a.startswith("--")]
  source, target = (
    ROOT / "bucket" / p[5:] if p.startswith("gs://") else pathlib.Path(p)
    for p in places
  )
  if not source.is_dir():
    fail("ERROR: (gcloud.storage.rsync) Did not find existing container")
  for path in source.rglob("*"):
    if path.is_file() and not re.fullmatch(excluded, path.name):
      to = target / path.relative_to(source)
      to.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(path, to)


if __name__ == "__main__":
  if sys.argv[1:] == ["install"]:
    install()
  else:
    main(sys.argv[1:])
