"""The documents: their commands, links, paths, fields and figures are true."""

import functools
import importlib
import json
import pathlib
import re
import shlex

import pytest

import hypergrid_mtf  # noqa: F401  (first: it patches what follows)

# isort: split
from t5.models import mesh_transformer_main

from tests import program
from tools.experiments import sweep_file

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = sorted(
  [
    *ROOT.glob("*.md"),
    # What programs said, and no commands of a reader.
    *(p for p in ROOT.glob("docs/**/*.md") if p.name != "wrong_runs.md"),
  ]
)
CONFIGS = ROOT / "operative_configs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
# What a run or tools.prepare_data writes, so that a clone does not have it.
MADE = re.compile(r"(runs|data|vocabulary|tables|DIR|DATA|VOCAB|<model_dir>)\b")
SETS_UP = re.compile(r"\. \.venv/bin/activate")
INLINE = re.compile(
  r"(make [\w-]|pip install |(\.venv/bin/)?python -m |hypergrid_mtf$)"
)


def _name(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT))


def _outside_fences(text: str) -> str:
  return FENCE.sub("", text)


def _of_shell(text: str) -> list[str]:
  """The commands of a piece of shell, one per line, with arrays expanded.

  In bash and in zsh, which splits no `$NAME` into words and which has no
  comments in an interactive shell.
  """
  found, arrays = [], {}
  for line in text.replace("\\\n", " ").split("\n"):
    line = " ".join(line.split())
    for name, flags in arrays.items():
      line = line.replace(f'"${{{name}[@]}}"', flags)
    bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", line)
    if array := re.fullmatch(r"(\w+)=\((.*)\)", line):
      arrays[array[1]] = array[2]
    elif line and not SETS_UP.match(line):
      assert not re.search(r"[$#*?!~<\[\]]", bare), line
      found += line.split(" && ")
  return found


def _commands(path: pathlib.Path) -> list[str]:
  text = path.read_text()
  found = []
  for language, body in FENCE.findall(text):
    assert language in ("sh", "python", "text"), f"{path}: {body[:60]}"
    if language == "sh":
      found += _of_shell(body)
  for code in re.findall(r"`([^`]+)`", _outside_fences(text)):
    code = " ".join(code.split())
    if INLINE.match(code):
      found.append(code)
  return found


def _of_heads() -> list[str]:
  """The commands in the first lines of all gin files and sweeps."""
  found = []
  for path in sorted([*CONFIGS.rglob("*.gin"), *CONFIGS.rglob("*.sweep")]):
    head = re.match(r"(#.*\n)+", path.read_text())[0]
    text = re.sub(r"^#\s?", "", head, flags=re.M).replace("\\\n", " ")
    for line in text.split("\n"):
      if line.startswith("python -m "):
        found.append(line)
  return found


ALL = sorted({*(c for p in DOCUMENTS for c in _commands(p)), *_of_heads()})


def _check(command: str, monkeypatch) -> None:
  """Checks one command as far as it goes without running it."""
  words = shlex.split(command)
  while re.match(r"[A-Z_]+=", words[0]):  # of the environment
    del words[0]
  if words[0] == "make":
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    (target,) = [word for word in words[1:] if "=" not in word]
    assert target in targets, command
    return
  if words[:2] == ["pip", "install"] or words == ["hypergrid_mtf"]:
    return
  if words[0] in ("docker", "gcloud", "printf", "ssh-add"):
    return  # programs of others
  assert words[0] in ("python", "python3", ".venv/bin/python"), command
  assert words[1] == "-m"
  module, arguments = words[2], words[3:]
  if module == "pytest":
    assert all((ROOT / argument).exists() for argument in arguments), command
    return
  if words[2:] == ["tools"]:
    return
  assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
  if module.startswith("tests."):
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert 'if __name__ == "__main__":' in text
    for argument in arguments:
      assert f'"{argument[2:].split("=")[0]}"' in text, argument
    return
  if hasattr(importlib.import_module(module), "parser"):  # argparse's
    importlib.import_module(module).parser().parse_args(arguments)
    return
  # "…" stands for what the reader has: its flag is there, its value is not.
  known = program.defined(module, monkeypatch)
  for argument in [a for a in arguments if "…" in a]:
    assert argument[2:].split("=")[0] in known, argument
  given = [a for a in arguments if "…" not in a]
  required = [f"--{a[2:].split('=')[0]}=x" for a in arguments if "…" in a]
  parsed = program.parse(module, given + required, monkeypatch)
  if "gin_file" in parsed:
    made = {a.split("=", 1)[1] for a in given if "local_mixture.gin" in a}
    of_t5 = pathlib.Path(mesh_transformer_main.__file__).parent / "gin"
    for name in parsed["gin_file"].value or ():
      if name not in made and name != "x":
        assert any((f / name).is_file() for f in (CONFIGS, of_t5)), name
  if "sweep" in parsed:
    assert sweep_file.find(parsed["sweep"].value)


@pytest.mark.parametrize("command", ALL)
def test_a_command_parses(command, monkeypatch):
  _check(command, monkeypatch)


def _slug(heading: str) -> str:
  kept = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower())
  return kept.strip().replace(" ", "-")


@functools.cache
def _anchors(path: pathlib.Path) -> set[str]:
  text = _outside_fences(path.read_text())
  return {_slug(h) for h in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("name", map(_name, DOCUMENTS))
def test_links_and_paths_lead_somewhere(name):
  path = ROOT / name
  text = _outside_fences(path.read_text())
  for link in re.findall(r"\]\(([^)\s]+)\)", text):
    if "://" in link:
      continue
    target, _, anchor = link.partition("#")
    file = (path.parent / target).resolve() if target else path
    assert file.exists(), link
    if anchor:
      assert anchor in _anchors(file), link
  tops = {p.name for p in (*ROOT.iterdir(), *CONFIGS.iterdir())}
  for code in re.findall(r"`([\w./*-]+)`", text):
    if MADE.match(code) or "/" not in code or code.split("/")[0] not in tops:
      continue
    found = [
      *ROOT.glob(code),
      *CONFIGS.glob(code),
      *CONFIGS.glob(f"{code}.gin"),
    ]
    assert found or "NAME" in code, code


def _linked(path: pathlib.Path) -> set[pathlib.Path]:
  """The files of this project that a document links."""
  if path.suffix != ".md":
    return set()
  links = re.findall(r"\]\(([^)\s#]+)", path.read_text())
  return {(path.parent / link).resolve() for link in links if "://" not in link}


def test_every_page_is_two_links_from_the_readme_and_in_the_site():
  first = _linked(ROOT / "README.md")
  second = set().union(*map(_linked, first))
  pages = {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")}
  assert pages - {ROOT / "README.md"} <= first | second
  site = (ROOT / "mkdocs.yml").read_text()
  assert all(f" {_name(page)}\n" in site for page in pages)
  # Where the gate is made.
  assert ROOT / "hypergrid_mtf" / "gate.py" in first


def test_the_readme_is_short():
  assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readmes_figures_are_those_of_the_results():
  section = re.search(
    r"^## Results\n(.*?)^## ", (ROOT / "README.md").read_text(), re.S | re.M
  )[1]
  results = (ROOT / "docs" / "results.md").read_text()
  (ours,) = [ln for ln in section.split("\n") if " ± " in ln and "|" in ln]
  (names,) = [ln for ln in section.split("\n") if "| GG |" in ln]
  block = re.search(
    r"<!-- results/embedded_nano: scores_last -->(.*?)<!-- end -->",
    results,
    re.S,
  )[1]

  def cells(line):
    return [cell.strip() for cell in line.strip("| \n").split("|")]

  lines = block.strip().split("\n")
  (average,) = [ln for ln in lines if ln.startswith("| average ")]
  assert cells(names) == cells(lines[0])[2:]
  assert cells(ours) == cells(average)[2:]
  intervals = re.findall(r"-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]", section)
  (difference,) = intervals
  (row,) = re.findall(
    r"results/embedded_nano: differences_last -->.*?^\|[^|]*\| L2 +\|([^|]*)\|",
    results,
    re.S | re.M,
  )
  assert difference == row.strip()
  (line,) = re.findall(r"^\| training, unpacked.*$", _cost(), re.M)
  assert "1.015" in section and "1.015" in line
  (line,) = re.findall(r"^\| training, packed, .*$", _cost(), re.M)
  assert "1.089" in section and "1.089" in line


def test_the_figures_in_the_heads_of_gin_files_are_those_of_the_results():
  results = (ROOT / "docs" / "results.md").read_text()
  heads = [
    path.read_text().split("\n\n")[0]
    for path in (*CONFIGS.rglob("*.gin"), *CONFIGS.rglob("*.sweep"))
  ]
  figures = re.findall(r"[\d.]+ ± [\d.]+ \(\d+\)", "\n".join(heads))
  assert len(figures) >= 8
  assert all(figure in results for figure in figures)


def _cost() -> str:
  return (ROOT / "docs" / "dev" / "cost.md").read_text()


_TYPES = {
  "integer": int,
  "number": (int, float),
  "text": str,
  "object": dict,
  "null": type(None),
}


def schema() -> dict[str, str]:
  """{field: type} as docs/experiments.md has them."""
  text = (ROOT / "docs" / "experiments.md").read_text()
  text = text.split("## The JSON file of a result\n")[1]
  rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", text, re.M)
  assert len(dict(rows)) == len(rows)
  return dict(rows)


def fields(result: dict) -> set[str]:
  """Fields of a result that are not documented, or documented and absent."""
  documented = {field.split(".")[0] for field in schema()}
  return documented ^ {*result, "predictions"}  # of earlier versions


def _check_fields(value, place: str, documented: dict, seen: set) -> None:
  """Checks a part of a result: its type, and the fields below it."""
  below = {
    field[len(place) + bool(place) :].split(".")[0]
    for field in documented
    if field.startswith(f"{place}." if place else "")
  }
  if place in documented:
    seen.add(place)
    kinds = re.split(r" or ", documented[place])
    assert any(isinstance(value, _TYPES[kind]) for kind in kinds), place
  if not isinstance(value, dict) or not below:
    return
  for key, part in value.items():
    (anything,) = [b for b in below if b.startswith("<")] or [None]
    name = key if key in below else anything
    assert name, f"{key} of {place or 'a result'} is not documented"
    _check_fields(part, f"{place}.{name}" if place else name, documented, seen)


def test_headings_have_their_levels():
  for path in DOCUMENTS:
    assert not re.search(r"^#+ #", _outside_fences(path.read_text()), re.M), (
      path
    )


def test_the_schema_is_that_of_the_results():
  documented, seen = schema(), set()
  found = sorted((ROOT / "results").glob("*/*.json"))
  for path in {p.parent: p for p in found}.values():
    result = json.loads(path.read_text())
    _check_fields(result, "", documented, seen)
  assert seen == set(documented)
