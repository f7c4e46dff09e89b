"""The Dockerfile, as far as it can be checked without building it."""

import fnmatch
import json
import re

from tests import command

_LINES = (
  (command.ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
)


def _all(instruction: str) -> list[str]:
  found = [line.partition(" ") for line in _LINES if line[:1] not in ("#", "")]
  return [rest.strip() for name, _, rest in found if name == instruction]


def _ignored(path: str) -> bool:
  """Whether .dockerignore leaves a top file out; the last line counts."""
  out = False
  for line in (command.ROOT / ".dockerignore").read_text().splitlines():
    pattern = line.strip()
    if pattern and pattern[0] != "#":
      wanted = pattern[0] == "!"
      if fnmatch.fnmatch(path, pattern.lstrip("!")):
        out = not wanted
  return out


def test_what_it_copies_is_there_and_is_all_that_is_imported():
  copied = [part for line in _all("COPY") for part in line.split()[:-1]]
  assert copied
  for part in copied:
    assert (command.ROOT / part).exists(), part
    assert not _ignored(part), part
  assert {"hypergrid_mtf", "operative_configs", "t5_tasks", "tools"} <= set(
    copied
  )
  kept = re.findall(
    r"^!(.*)$", (command.ROOT / ".dockerignore").read_text(), re.M
  )
  assert sorted(kept) == sorted(copied)
  assert _ignored("runs") and _ignored(".venv") and _ignored(".git")


def test_its_commands_are_those_of_the_makefile():
  (install,) = [run for run in _all("RUN") if "pip install" in run]
  flags = set(re.findall(r"--[\w-]+", install))
  makefile = (command.ROOT / "Makefile").read_text()
  ours = re.search(r"-m pip install --quiet(.*?)\$\(2\)", makefile, re.S)[1]
  assert set(re.findall(r"--[\w-]+", ours)) <= flags
  assert "--require-hashes" in flags and "-r requirements.txt" in install
  (base,) = _all("FROM")
  version = re.search(r"python:(\d+\.\d+)", base)[1]
  assert f"call make_venv,.venv,$<,{version} " in makefile


def test_it_ends_as_a_user_who_runs_a_program():
  order = [line.split(" ")[0] for line in _LINES if line[:1] not in ("#", "")]
  assert order.index("USER") > max(
    n for n, name in enumerate(order) if name in ("RUN", "COPY")
  )
  assert _all("USER") == ["1000"] and "useradd --uid=1000 " in _all("RUN")[0]
  (entry,), (usual,) = _all("ENTRYPOINT"), _all("CMD")
  assert json.loads(entry) == ["python", "-m"]
  (program,) = json.loads(usual)
  assert (command.ROOT / program / "__main__.py").is_file()
  document = (command.ROOT / "docs" / "running.md").read_text()
  (folder,) = _all("WORKDIR")
  assert f":{folder}/runs " in document
  (given,) = re.findall(r" hypergrid_mtf (tools\.\S+)", document)
  assert (command.ROOT / f"{given.replace('.', '/')}.py").is_file()
