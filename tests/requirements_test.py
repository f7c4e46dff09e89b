"""requirements.in and the lock have everything that the project imports."""

import ast
import importlib.metadata
import re
import sys

from tests import command

# Of separate environments.
TPU_COMPILER = "requirements-tpu-compiler.in"
DOCS = "requirements-docs.in"
# In addition to the lock, on TPU pods.
TPU_POD = "requirements-tpu-pod.in"
_OURS = {"hypergrid_mtf", "t5_tasks", "tools", "tests"}


def _names(file: str) -> set[str]:
  """Names of the packages that a requirements file pins."""
  lines = (command.ROOT / file).read_text().splitlines()
  return {
    m[0] for m in map(re.compile(r"[a-z0-9-]+(?=\S*==)").match, lines) if m
  }


def _imported() -> dict[str, str]:
  """{external top-level module: one of our files that imports it}."""
  found = {}
  for package in sorted(_OURS):
    for path in sorted((command.ROOT / package).rglob("*.py")):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
          names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
          names = [node.module]
        else:
          continue
        for name in names:
          found[name.split(".")[0]] = str(path)
  return {
    name: path
    for name, path in found.items()
    if name not in {"pip", *_OURS, *sys.stdlib_module_names}
  }


def test_what_is_imported_is_a_direct_requirement():
  """An indirect dependency may disappear with another package's update."""
  direct = _names("requirements.in") | _names(TPU_COMPILER) | _names(DOCS)
  distributions = importlib.metadata.packages_distributions()
  missing = {
    module: path
    for module, path in _imported().items()
    if not direct
    & {name.lower() for name in distributions.get(module, [module])}
  }
  assert not missing


def test_the_lock_has_every_direct_requirement():
  direct = _names("requirements.in")
  assert {"t5", "tensorflow", "scipy", "ruff"} <= direct
  assert direct <= _names("requirements.txt")
  assert _names(TPU_COMPILER) <= _names(TPU_COMPILER.replace(".in", ".txt"))
  assert _names(DOCS) <= _names(DOCS.replace(".in", ".txt"))
  assert _names(TPU_POD) <= _names(TPU_POD.replace(".in", ".txt"))


def test_the_pods_lock_agrees_with_the_lock():
  pins = []
  for file in ("requirements.txt", TPU_POD.replace(".in", ".txt")):
    text = (command.ROOT / file).read_text()
    pins.append(dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.M)))
  shared = pins[0].keys() & pins[1].keys()
  assert {"protobuf", "google-auth"} <= shared
  assert {n: pins[0][n] for n in shared} == {n: pins[1][n] for n in shared}


def test_the_documents_name_every_direct_requirement():
  """In the first column of the table of reasons."""
  documents = [command.ROOT / "README.md", *command.ROOT.glob("docs/**/*.md")]
  text = "\n".join(path.read_text() for path in documents)
  cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
  named = set(re.findall(r"[\w-]+", " ".join(cells)))
  assert not (_names("requirements.in") | _names(TPU_COMPILER)) - named
