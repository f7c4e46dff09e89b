"""Describes the machine and the software of a result."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGES = ("tensorflow", "mesh-tensorflow", "t5", "seqio", "numpy")


def describe() -> dict:
  """The machine and the versions, for the record of a run.

  Returns:
    `date` (UTC), `hardware` (cpu, cores, memory_bytes), `versions` by package,
    with the commit of this project
  """
  with open("/proc/cpuinfo") as f:
    cpu = re.search(r"model name\s*: (.*)", f.read())
  return dict(
    date=datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
    hardware=dict(
      cpu=cpu[1] if cpu else platform.processor(),
      cores=len(os.sched_getaffinity(0)),
      memory_bytes=meminfo("MemTotal"),
    ),
    versions=versions(),
  )


def of_child() -> dict[str, str]:
  """The environment variables for a program that another one starts.

  This project's modules come first, then the user's PYTHONPATH (own tasks).
  """
  path = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
  return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def versions() -> dict[str, str]:
  """{name: version} of Python and the packages, and this project's commit."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return dict(python=platform.python_version(), **found, hypergrid_mtf=commit())


def commit() -> str:
  """The commit of this checkout, with "+" if files differ, or ""."""
  git = ["git", "-C", ROOT, "describe", "--always", "--abbrev=12", "--dirty=+"]
  try:
    done = subprocess.run(git, capture_output=True, text=True, check=False)
  except FileNotFoundError:  # no git, as in a container
    return ""
  return done.stdout.strip()


def peak_memory(process: int | str = "self") -> int:
  """Peak resident memory of a living process, in bytes.

  `ru_maxrss` is not usable: a process inherits the peak of the one that started
  it.
  """
  return meminfo("VmHWM", f"/proc/{process}/status")


def meminfo(field: str, path: str = "/proc/meminfo") -> int:
  """A field of /proc/meminfo, or of a process's `status`, in bytes."""
  with open(path) as f:
    fields = dict(line.split(":", 1) for line in f)
  return int(fields[field].removesuffix(" kB\n")) * 1024
