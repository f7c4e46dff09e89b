"""Runs the tests that mesh_tensorflow and t5 install, on the patched stack.

  python -m tools.upstream_test

Every file `*_test.py` of both packages is run under pytest, with absl's flags
parsed first. Two files change global state that the others read and are run in
processes of their own. At the end, what did not pass is listed with the reason,
if it is a known one; an unknown one makes the exit status 1.
"""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import mesh_tensorflow
import t5
from absl import flags

from hypergrid_mtf.run import console

# These pass only where nothing has been imported or built before them.
APART = (
  "mesh_tensorflow/transformer/learning_rate_schedules_test.py",
  "mesh_tensorflow/transformer/utils_test.py",
)

# What does not pass for reasons outside this project: start of the test's id,
# and why.
_ORTOOLS = "auto_mtf needs ortools, which nothing here uses"
_NO_TPU = "configures a TPU system; TensorFlow for CPU has no such kernel"
KNOWN: dict[str, str] = {
  "mesh_tensorflow.auto_mtf.": _ORTOOLS,
  "mesh_tensorflow.experimental.data_aug_lib_test": (
    "imports tensorflow.contrib, which left TensorFlow in 2.0"
  ),
  "mesh_tensorflow.experimental.input_reader_test.MtfInputReaderTest."
  "test_get_laidout_tensors": _NO_TPU,
}

_BOOTSTRAP = """
import sys
import hypergrid_mtf
from absl import flags
import pytest
flags.FLAGS(sys.argv[:1])
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_files() -> list[str]:
  """Paths of all installed tests, relative to site-packages."""
  found = []
  for package in (mesh_tensorflow, t5):
    root = os.path.dirname(package.__file__)
    for folder, _, names in os.walk(root):
      for name in names:
        if name.endswith("_test.py"):
          path = os.path.join(folder, name)
          found.append(os.path.relpath(path, os.path.dirname(root)))
  return sorted(found)


def _run(paths: list[str], report: str) -> None:
  """Runs pytest on some files, its dots on our terminal."""
  site_packages = os.path.dirname(os.path.dirname(t5.__file__))
  here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  subprocess.run(
    [
      sys.executable,
      "-c",
      _BOOTSTRAP,
      "-q",
      "--tb=line",
      "--continue-on-collection-errors",
      "-p",
      "no:cacheprovider",
      "-W",
      "ignore",
      f"--rootdir={site_packages}",
      f"--junitxml={report}",
      *paths,
    ],
    cwd=site_packages,
    env={
      **os.environ,
      "PYTHONPATH": here,
      "PYTHONDONTWRITEBYTECODE": "1",
      "TF_CPP_MIN_LOG_LEVEL": "3",
    },
    stderr=subprocess.DEVNULL,
    check=False,
  )


def _results(report: str) -> list[tuple[str, str, str]]:
  """(test id, passed | failed | skipped, first line of why) of a report."""
  results = []
  for case in ElementTree.parse(report).getroot().iter("testcase"):
    name = f"{case.get('classname')}.{case.get('name')}".lstrip(".")
    status, why = "passed", ""
    for child in case:
      if child.tag in ("failure", "error", "skipped"):
        status = "skipped" if child.tag == "skipped" else "failed"
        why = (child.get("message") or child.text or "").strip()
    results.append((name, status, why.splitlines()[0] if why else ""))
  return results


def main(argv) -> int:
  """Runs all files and prints what did not pass, and why.

  Args:
    argv: unused.

  Returns:
    exit status: 0 if every failure is a known one.
  """
  del argv
  files = test_files()
  if flags.FLAGS.list:
    console.say("\n".join(files))
    return 0
  together = [f for f in files if f not in APART]
  results = []
  with tempfile.TemporaryDirectory() as folder:
    groups = [together, *([f] for f in files if f in APART)]
    for i, group in enumerate(groups):
      report = os.path.join(folder, f"{i}.xml")
      _run(group, report)
      results += _results(report)
  unknown = 0
  for name, status, why in results:
    if status == "passed":
      continue
    reason = next((r for k, r in KNOWN.items() if name.startswith(k)), None)
    if status == "failed" and reason is None:
      unknown += 1
    console.say(f"{status}: {name}: {reason or why}")
  count = {
    s: sum(status == s for _, status, _ in results)
    for s in ("passed", "failed", "skipped")
  }
  console.say(
    f"{len(files)} files: {count['passed']} passed, {count['failed']} failed, "
    f"{count['skipped']} skipped"
  )
  return 1 if unknown else 0


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_bool("list", False, "Name the test files and exit.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
