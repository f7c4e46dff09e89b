"""Makes .venv on a TPU VM around the TensorFlow of its image.

  python3 -m tools.cloud.install_tpu

`make install-tpu` does the same. TensorFlow from PyPI has no TPU support, so
the image's is kept; the rest of requirements.txt is installed with hashes. A
package that both have comes from the lock, unless only TensorFlow needs it or
the image's TensorFlow refuses the lock's version.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys

from tools.cloud import command_line, commands, tpu_types

# A file in the environment that keeps make from rebuilding it.
MARK = "tpu_vm.txt"
_POD_LOCK = "requirements-tpu-pod.txt"  # for finding a pod by its name
# Each of these packages provides the folder `tensorflow`.
_TENSORFLOW = re.compile(r"(tensorflow|tf-nightly)(-tpu|-cpu|-macos|-intel)?")
# What `pip check` reports about the lock on every machine (overrides.txt).
_EXPECTED = re.compile(
  r"\S+ \S+ (requires (seqio|tfds)-nightly|has requirement (protobuf|pandas)\b)"
)
_PACKAGES = """
import importlib.metadata as m, json
found = {}
for d in m.distributions():
  name = d.metadata["Name"]
  if name and name not in found:  # the first on the path is used
    found[name] = [d.version, str(d.locate_file("")), d.requires or []]
print(json.dumps(found))
"""
_COUNT = """
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
tf.tpu.experimental.initialize_tpu_system(resolver)
print("cores", len(tf.config.list_logical_devices("TPU")))
"""

Pin = collections.namedtuple("Pin", "name version text parents")
Package = collections.namedtuple("Package", "version folder requires")


def parser() -> argparse.ArgumentParser:
  name = "python3 -m tools.cloud.install_tpu"
  found = command_line.Parser(prog=name, description=__doc__)
  add = found.add_argument
  add("--venv", default=".venv", help="the environment to make")
  add("--requirements", default=os.path.join(commands.ROOT, "requirements.txt"))
  add("--pod", action="store_true", help="for a TPU of several hosts")
  return found


def main(words: list[str]) -> int:
  """Makes the environment; raises UserError if that cannot work."""
  given = parser().parse_args(words)
  if sys.version_info[:2] not in ((3, 10), (3, 11)):
    raise command_line.UserError(
      f"Python {sys.version.split()[0]} must be 3.10 or 3.11: run this with "
      f"the python3 of an image such as {tpu_types.IMAGE}."
    )
  before = find_packages(sys.executable)
  tensorflow = find_tensorflow(before)
  version, folder, requires = before[tensorflow]
  pins = read_lock(given.requirements)
  kept, left_out = select_pins(pins, before, find_refused(requires, pins))
  print(f"keeping {tensorflow} {version} of {folder}", flush=True)
  for line in left_out:
    print(f"keeping {line}", flush=True)
  python = os.path.join(given.venv, "bin", "python")
  # The image's own pip installs into it, because ensurepip is often missing.
  venv = [sys.executable, "-m", "venv", "--clear", "--without-pip"]
  _run([*venv, "--system-site-packages", given.venv], "no environment")
  install_pins(given.venv, kept)
  if given.pod:
    install_pins(given.venv, read_lock(os.path.join(commands.ROOT, _POD_LOCK)))
  after = find_packages(python)
  if after[tensorflow] != before[tensorflow]:
    raise command_line.UserError(
      f"{tensorflow} {version} of the image is hidden by "
      f"{after[tensorflow].version} of {after[tensorflow].folder}: report this."
    )
  check_agreement(python, {pin.name for pin in pins})
  cores = "not counted" if given.pod else str(count_cores(python))
  sentence = (
    f"{given.venv} is ready: {tensorflow} {version} of {folder}, TPU cores: "
    f"{cores}."
  )
  for name in (MARK, "installed"):  # make checks the latter
    with open(os.path.join(given.venv, name), "w", encoding="utf-8") as f:
      f.write(f"{sentence}\n")
  print(sentence)
  return 0


def normalize(name: str) -> str:
  """A package's normalized name."""
  return re.sub(r"[-_.]+", "-", name).lower()


def find_packages(python: str) -> dict[str, Package]:
  """The packages visible to a Python, by normalized name."""
  done = subprocess.run(
    [python, "-c", _PACKAGES], capture_output=True, text=True, check=True
  )
  found = json.loads(done.stdout)
  return {normalize(name): Package(*fields) for name, fields in found.items()}


def find_tensorflow(found: dict[str, Package]) -> str:
  """The name of the image's TensorFlow, which must have TPUEstimator."""
  names = [name for name in found if _TENSORFLOW.fullmatch(name)]
  if names and found[names[0]].version.startswith("2.15."):
    return names[0]
  there = f"{names[0]} {found[names[0]].version}" if names else "no TensorFlow"
  raise command_line.UserError(
    f"{sys.executable} has {there}, but this project needs an image's "
    f"TensorFlow 2.15, the last with TPUEstimator: {tpu_types.WHAT_RUNS}."
  )


def read_lock(path: str) -> list[Pin]:
  """The pins of a lock written by uv, with hashes and parents."""
  with open(path, encoding="utf-8") as f:
    lock = f.read()
  pins = []
  for text, name, version in re.findall(
    r"^(([\w.-]+)==([^\s;\\]+).*(?:\n .*)*)", lock, re.M
  ):
    parents = {*re.findall(r"# (?:via )? *(\S.*)", text)} - {"via"}
    pins.append(Pin(normalize(name), version, text, parents))
  return pins


def find_refused(requires: list[str], pins: list[Pin]) -> set[str]:
  """Names of the pins that a package's requirements refuse."""
  try:
    from pip._vendor.packaging.requirements import Requirement
  except ImportError:
    raise command_line.UserError(
      f"{sys.executable} has no pip: install it with sudo apt-get install "
      "python3-pip."
    ) from None
  versions = {pin.name: pin.version for pin in pins}
  refused = set()
  for requirement in map(Requirement, requires):
    version = versions.get(normalize(requirement.name))
    marker = requirement.marker
    if not version or (marker and not marker.evaluate({"extra": ""})):
      continue
    if not requirement.specifier.contains(version, prereleases=True):
      refused.add(normalize(requirement.name))
  # TensorFlow 2.15.0 requires ml-dtypes 0.2; 2.15.1, with the same code, at
  # least 0.3.1, to avoid conflicts, according to its release notes.
  return refused - {"ml-dtypes"}


def select_pins(
  pins: list[Pin], there: dict[str, Package], refused: set[str]
) -> tuple[list[Pin], list[str]]:
  """Chooses what to install next to a TensorFlow that must be kept.

  Args:
    pins: pins of the lock.
    there: packages of the image.
    refused: names of pins that the image's TensorFlow refuses.

  Returns:
    the pins to install, and a line for each package kept from the image
  """
  parents = collections.defaultdict(set)
  for pin in pins:
    parents[pin.name].update(pin.parents)
  only_tensorflow = {"tensorflow"}
  for _ in pins:  # until nothing changes
    only_tensorflow |= {
      n for n, p in parents.items() if p and p <= only_tensorflow
    }
  kept, left_out = [], []
  for pin in pins:
    reason = ""
    if pin.name in only_tensorflow:
      reason = "only TensorFlow needs it"
    elif pin.name in refused:
      reason = f"TensorFlow refuses {pin.version}"
    if _TENSORFLOW.fullmatch(pin.name):
      continue
    if reason and pin.name in there:
      left_out.append(f"{pin.name} {there[pin.name].version}: {reason}")
    else:
      kept.append(pin)
  return kept, left_out


def install_pins(venv: str, pins: list[Pin]) -> None:
  """Installs the pins with their hashes, and nothing else."""
  path = os.path.join(venv, "requirements-around-tensorflow.txt")
  with open(path, "w", encoding="utf-8") as f:
    f.write("\n".join(pin.text for pin in pins) + "\n")
  pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--quiet"]
  pip += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
  _run([*pip, "-r", path], "the lock was not installed")


def _run(command: list[str], what: str) -> None:
  done = subprocess.run(
    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )
  if done.returncode:
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    raise command_line.UserError(f"{what}: {' '.join(errors)[:600]}")


def check_agreement(python: str, ours: set[str]) -> None:
  """Raises UserError if a package of the lock lacks a requirement.

  TensorFlow's requirements were checked before, and those of the image's other
  packages do not matter.
  """
  done = subprocess.run(
    [python, "-m", "pip", "check"], capture_output=True, text=True, check=False
  )
  wrong = []
  for line in done.stdout.splitlines():
    match = re.match(r"(\S+) \S+ (requires|has requirement) ([\w.-]+)", line)
    if not match or _EXPECTED.match(line):
      continue
    who, what = map(normalize, (match[1], match[3]))
    missing = what == "tensorflow" and "not installed" in line
    if who in ours and not _TENSORFLOW.fullmatch(who) and not missing:
      wrong.append(line.rstrip("."))
  if wrong:
    raise command_line.UserError(f"the versions conflict: {'; '.join(wrong)}.")


def count_cores(python: str) -> int:
  """Starts the TPU of this host and counts its cores."""
  try:
    done = subprocess.run(
      [python, "-c", _COUNT], capture_output=True, text=True, timeout=300
    )
    said, error = done.stdout, done.stderr.strip().splitlines()
  except subprocess.TimeoutExpired:
    said, error = "", ["it did not start in 300 seconds"]
  match = re.search(r"^cores ([1-9]\d*)$", said, re.M)
  if not match:
    raise command_line.UserError(
      f"TensorFlow finds no TPU ({(error or ['no core'])[-1][:300]}): "
      f"{tpu_types.WHAT_RUNS}, and end other processes that use the TPU (sudo "
      "lsof /dev/accel0)."
    )
  return int(match[1])


if __name__ == "__main__":
  command_line.run_program(main)
