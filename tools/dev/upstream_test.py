"""Runs the tests that mesh_tensorflow and t5 install, on the patched stack.

  python -m tools.dev.upstream_test

Every file `*_test.py` of both packages is run under pytest, with absl's flags
parsed first. Two files change global state that the others read and are run in
processes of their own. At the end, what did not pass is listed with the reason,
if it is a known one; an unknown one makes the exit status 1.
"""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

import t5

from hypergrid_mtf.run import console
from tools import environment

_SITE_PACKAGES = pathlib.Path(t5.__file__).parents[1]

# These pass only where nothing has been imported or built before them.
APART = (
  "mesh_tensorflow/transformer/learning_rate_schedules_test.py",
  "mesh_tensorflow/transformer/utils_test.py",
)

# What does not pass for reasons outside this project: start of the test's id,
# and why.
KNOWN = {
  "mesh_tensorflow.auto_mtf.": "needs ortools, which nothing here uses",
  "mesh_tensorflow.experimental.data_aug_lib_test": (
    "imports tensorflow.contrib, which left TensorFlow in 2.0"
  ),
  "mesh_tensorflow.experimental.input_reader_test.MtfInputReaderTest."
  "test_get_laidout_tensors": (
    "configures a TPU system; TensorFlow for CPU has no such kernel"
  ),
}

_BOOTSTRAP = """
import sys
import hypergrid_mtf
from absl import flags
import pytest
flags.FLAGS(sys.argv[:1])
sys.exit(pytest.main(sys.argv[1:]))
"""


def find_tests() -> list[str]:
  """Paths of all installed tests, relative to site-packages."""
  return sorted(
    str(path.relative_to(_SITE_PACKAGES))
    for package in ("mesh_tensorflow", "t5")
    for path in (_SITE_PACKAGES / package).rglob("*_test.py")
  )


def run(paths: list[str]) -> list[tuple[str, str, str]]:
  """Runs pytest on some files, its dots on our terminal.

  Args:
    paths: relative to site-packages.

  Returns:
    (test id, passed | failed | skipped, first line of why)
  """
  with tempfile.TemporaryDirectory() as folder:
    report = os.path.join(folder, "report.xml")
    options = "-q --tb=line --continue-on-collection-errors -p no:cacheprovider"
    options += f" -W ignore --rootdir={_SITE_PACKAGES} --junitxml={report}"
    subprocess.run(
      [sys.executable, "-c", _BOOTSTRAP, *options.split(), *paths],
      cwd=_SITE_PACKAGES,
      env={
        **os.environ,
        "PYTHONPATH": environment.ROOT,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
      },
      stderr=subprocess.DEVNULL,
      check=False,
    )
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
  results = []
  for case in cases:
    name = f"{case.get('classname')}.{case.get('name')}".lstrip(".")
    status, why = "passed", ""
    for child in case:
      if child.tag in ("failure", "error", "skipped"):
        status = "skipped" if child.tag == "skipped" else "failed"
        why = (child.get("message") or child.text or "").strip()
    results.append((name, status, why.partition("\n")[0]))
  return results


def main(argv) -> int:
  """Runs all files and prints what did not pass, and why."""
  del argv
  files = find_tests()
  results = run([f for f in files if f not in APART])
  for file in APART:
    results += run([file])
  exit_status = 0
  for name, status, why in results:
    if status == "passed":
      continue
    reason = next((r for k, r in KNOWN.items() if name.startswith(k)), None)
    if status == "failed" and reason is None:
      exit_status = 1
    console.say(f"{status}: {name}: {reason or why}")
  count = collections.Counter(status for _, status, _ in results)
  console.say(
    f"{len(files)} files: {count['passed']} passed, {count['failed']} failed, "
    f"{count['skipped']} skipped"
  )
  return exit_status


if __name__ == "__main__":
  console.run(main)
