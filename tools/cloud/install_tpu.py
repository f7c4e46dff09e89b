"""Makes .venv on a TPU VM around the TensorFlow of its image.

  python3 -m tools.cloud.install_tpu

`make install-tpu` does the same. The registry's TensorFlow has no TPU support,
so the image's stays; the rest of requirements.txt is installed beside it, with
hashes. Where both bring a package, the lock's version is taken if the image's
TensorFlow says that it works with it, and else the image's.

Needs only the image's Python.
"""

import argparse
import glob
import json
import os
import re
import subprocess
import sys
import urllib.request

from tools.cloud import arguments, kinds, lock_file

ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
# In the environment, so that make does not build it anew with a TensorFlow.
MARK = "tpu_vm.json"
# What resolves the name of a pod; its versions are those of the lock.
POD_LOCK = "requirements-tpu-pod.txt"
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/"
_PYTHONS = ((3, 10), (3, 11))
# TensorFlow 2.15.0 asks for ml-dtypes 0.2. Version 2.15.1 of the same code asks
# for 0.3.1 and later, as its release notes say to end conflicts.
_WORKS_ANYWAY = ("ml-dtypes",)
# What `pip check` says of the lock on every machine: overrides.txt.
_EXPECTED = re.compile(
  r"\S+ \S+ (requires (seqio|tfds)-nightly|has requirement (protobuf|pandas)\b)"
)
_FACTS = """
import importlib.metadata as m, json, sys
found = {}
for d in m.distributions():
  name = d.metadata["Name"]
  if name and name not in found:  # the first on the path is the one in use
    found[name] = [d.version, str(d.locate_file("")), d.requires or []]
print(json.dumps(found))
"""
_BREAKS = """
import json, sys
try:
  from packaging.requirements import Requirement
except ImportError:
  from pip._vendor.packaging.requirements import Requirement
requires, versions = json.load(sys.stdin)
found = []
for text in requires:
  r = Requirement(text)
  name = r.name.lower().replace("_", "-").replace(".", "-")
  if r.marker and not r.marker.evaluate({"extra": ""}):
    continue
  if name in versions and not r.specifier.contains(versions[name], True):
    found.append([name, str(r.specifier)])
print(json.dumps(found))
"""
_COUNT = """
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
tf.tpu.experimental.initialize_tpu_system(resolver)
print("cores", len(tf.config.list_logical_devices("TPU")))
"""


def main(words: list[str]) -> str:
  """Makes the environment.

  Args:
    words: of the command line.

  Returns:
    the sentence that says what is there

  Raises:
    UserError: for what cannot run TPUEstimator, or did not install.
  """
  given = parser().parse_args(words)
  if sys.version_info[:2] not in _PYTHONS:
    raise kinds.UserError(
      f"Python {sys.version.split()[0]} is not one of the lock's (3.10, 3.11): "
      f"call it with the python3 of an image such as {kinds.IMAGE}."
    )
  kind = given.accelerator_type or _metadata("attributes/accelerator-type")
  image = given.runtime_version or _runtime_version()
  if kind:
    kinds.check(kind, image)
  elif "pjrt" in image:
    kinds.check("v3-8", image)
  before = distributions(sys.executable)
  name, version, where = find_tensorflow(before)
  versions = {lock_file.normalized(n): v for n, (v, _, _) in before.items()}
  with open(given.requirements, encoding="utf-8") as f:
    entries = lock_file.read(f.read())
  breaks = refused(before[name][2], {e.name: e.version for e in entries})
  kept, out = lock_file.around(
    entries, versions, {n for n in breaks if n not in _WORKS_ANYWAY}
  )
  print(f"keeping {name} {version} of {where}", flush=True)
  for package, why in out.items():
    if package not in lock_file.TENSORFLOWS and package in versions:
      print(f"keeping {package} {versions[package]}: {why}", flush=True)
  python = make_environment(given.venv)
  install(python, given.venv, kept)
  if kind and kinds.is_pod(kind):
    with open(os.path.join(ROOT, POD_LOCK), encoding="utf-8") as f:
      install(python, given.venv, lock_file.read(f.read()))
  after = distributions(python)
  check_kept(before, after, name)
  check_agreement(python, {e.name for e in entries})
  if given.tpu_check == "no" or (kind and kinds.is_pod(kind)):
    cores = f"{kinds.cores(kind)} by its name" if kind else "not counted"
  else:
    cores = str(count_cores(python))
  sentence = (
    f"{given.venv} is ready: {name} {version} of {where}, {libtpu(after)}, TPU "
    f"{kind or 'of unknown kind'}, cores: {cores}."
  )
  with open(os.path.join(given.venv, MARK), "w", encoding="utf-8") as f:
    json.dump(dict(tensorflow=version, where=where, kind=kind, image=image), f)
  with open(os.path.join(given.venv, "installed"), "w"):
    pass  # what make looks at
  return sentence


def parser() -> argparse.ArgumentParser:
  """The flags."""
  found = arguments.Parser(
    prog="python3 -m tools.cloud.install_tpu", description=__doc__
  )
  add = found.add_argument
  add("--venv", default=".venv", help="the environment to make")
  add("--requirements", default=os.path.join(ROOT, "requirements.txt"))
  add("--accelerator_type", default="", help="if the machine does not say it")
  add("--runtime_version", default="", help="likewise, the image")
  add(
    "--tpu_check",
    choices=("yes", "no"),
    default="yes",
    help="start the TPU and count its cores, on one host",
  )
  return found


def _metadata(path: str) -> str:
  """What a Google VM says of itself; "" on another machine."""
  request = urllib.request.Request(
    _METADATA + path, headers={"Metadata-Flavor": "Google"}
  )
  try:
    with urllib.request.urlopen(request, timeout=3) as answer:
      return answer.read().decode().strip()
  except (OSError, ValueError):
    return ""


def _runtime_version() -> str:
  match = re.search(
    r"RUNTIME_VERSION: *'?([\w.-]+)", _metadata("attributes/tpu-env")
  )
  return match[1] if match else ""


def distributions(python: str) -> dict[str, tuple[str, str, list[str]]]:
  """What a Python finds.

  Args:
    python: its path.

  Returns:
    {name: (version, folder, requirements)}
  """
  done = subprocess.run(
    [python, "-c", _FACTS], capture_output=True, text=True, check=True
  )
  return {n: (v, p, r) for n, (v, p, r) in json.loads(done.stdout).items()}


def find_tensorflow(found) -> tuple[str, str, str]:
  """The TensorFlow of the image.

  Args:
    found: from `distributions`.

  Returns:
    name, version, folder

  Raises:
    UserError: for none, or one without TPUEstimator.
  """
  for name, (version, where, _) in found.items():
    if lock_file.normalized(name) in lock_file.TENSORFLOWS:
      if not re.match(r"2\.15\.", version):
        raise kinds.UserError(
          f"the image has {name} {version}, and this project needs 2.15, the "
          f"last with TPUEstimator: {kinds.WHAT_CAN}."
        )
      return name, version, where
  raise kinds.UserError(
    f"{sys.executable} finds no TensorFlow, and the registry's does not see a "
    f"TPU: {kinds.WHAT_CAN}."
  )


def refused(requires: list[str], versions: dict[str, str]) -> dict[str, str]:
  """Versions that requirements do not take.

  Args:
    requires: as a package's metadata has them.
    versions: {name: version}.

  Returns:
    {name: what is required}
  """
  done = subprocess.run(
    [sys.executable, "-c", _BREAKS],
    input=json.dumps([requires, versions]),
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise kinds.UserError(
      f"{sys.executable} has no pip: install it with sudo apt-get install "
      "python3-pip."
    )
  return dict(json.loads(done.stdout))


def make_environment(venv: str) -> str:
  """A new environment that sees the image's packages.

  The image's own pip installs into it: ensurepip is often missing there.

  Args:
    venv: its folder.

  Returns:
    its Python
  """
  command = [sys.executable, "-m", "venv", "--clear", "--without-pip"]
  _run([*command, "--system-site-packages", venv], f"{venv} was not made")
  return os.path.join(venv, "bin", "python")


def install(python: str, venv: str, entries: list[lock_file.Entry]) -> None:
  """Installs entries of the lock, and nothing that they did not name."""
  path = os.path.join(venv, "requirements-around-tensorflow.txt")
  with open(path, "w", encoding="utf-8") as f:
    f.write(lock_file.to_text(entries))
  pip = [python, "-m", "pip", "install", "--quiet"]
  pip += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
  _run([*pip, "-r", path], "the lock was not installed")


def _run(command: list[str], what: str) -> None:
  done = subprocess.run(
    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )
  if done.returncode:
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    raise kinds.UserError(f"{what}: {' '.join(errors)[:600]}")


def check_kept(before, after, name: str) -> None:
  """Checks that the TensorFlow in use is still the image's.

  Args:
    before: from `distributions`, of the image's Python.
    after: likewise, of the environment's.
    name: of the distribution.

  Raises:
    UserError: naming the other one.
  """
  others = [
    f"{n} {after[n][0]} of {after[n][1]}"
    for n in after
    if lock_file.normalized(n) in lock_file.TENSORFLOWS
    and after[n][:2] != before.get(n, ("", ""))[:2]
  ]
  if others or name not in after:
    raise kinds.UserError(
      f"{name} {before[name][0]} of the image is hidden by "
      f"{' and '.join(others) or 'nothing that is known'}: report this, it "
      "should not happen."
    )


def check_agreement(python: str, ours: set[str]) -> None:
  """Checks that the packages of the lock find what they require.

  What TensorFlow says of itself was looked at before, and what the image's
  other packages miss is not ours.

  Args:
    python: of the environment.
    ours: names of the lock.

  Raises:
    UserError: with what `pip check` says.
  """
  done = subprocess.run(
    [python, "-m", "pip", "check"], capture_output=True, text=True, check=False
  )
  wrong = []
  for line in done.stdout.splitlines():
    match = re.match(r"(\S+) \S+ (requires|has requirement) ([\w.-]+)", line)
    if not match or _EXPECTED.match(line):
      continue
    who, needs = map(lock_file.normalized, (match[1], match[3]))
    if who in ours - set(lock_file.TENSORFLOWS) and not (
      needs == lock_file.TENSORFLOW and "not installed" in line
    ):
      wrong.append(line.rstrip("."))
  if wrong:
    raise kinds.UserError(f"the versions do not agree: {'; '.join(wrong)}.")


def libtpu(found) -> str:
  """Which libtpu is there.

  Args:
    found: from `distributions`.
  """
  for name, (version, where, _) in found.items():
    if name.startswith("libtpu"):
      return f"{name} {version} of {where}"
  given = os.environ.get("TPU_LIBRARY_PATH")
  places = [*filter(None, [given]), "/lib/libtpu.so", "/usr/lib/libtpu.so"]
  for path in [*places, *glob.glob("/usr/local/lib/**/libtpu.so")]:
    if os.path.exists(path):
      megabytes = os.path.getsize(path) / 2**20
      return f"libtpu of {path} ({megabytes:.0f} MiB, its version is not told)"
  return "no libtpu where it is looked for"


def count_cores(python: str) -> int:
  """Starts the TPU of this host and counts its cores.

  Args:
    python: of the environment.

  Raises:
    UserError: if TensorFlow finds none.
  """
  command = [python, "-c", _COUNT]
  try:
    done = subprocess.run(
      command, capture_output=True, text=True, check=False, timeout=300
    )
  except subprocess.TimeoutExpired:
    raise kinds.UserError(
      "the TPU did not start in 300 seconds: see that no other process uses it "
      "(sudo lsof /dev/accel0), or give --tpu_check=no."
    ) from None
  match = re.search(r"^cores (\d+)$", done.stdout, re.M)
  if done.returncode or not match or not int(match[1]):
    lines = (done.stderr or done.stdout).strip().splitlines() or ["no core"]
    raise kinds.UserError(
      f"TensorFlow finds no TPU here ({lines[-1][:300]}): see that this is a "
      f"TPU VM with an image such as {kinds.IMAGE}, or give --tpu_check=no."
    )
  return int(match[1])


def run(words: list[str]) -> int:
  """The command: prints the sentence.

  Args:
    words: of the command line.

  Returns:
    the exit status
  """
  try:
    print(main(words))
  except kinds.UserError as e:
    print(f"error: {e}", file=sys.stderr)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(run(sys.argv[1:]))
