"""Imports between the modules of this project, read from their files."""

import ast
import dataclasses
import os

import pandas as pd

from hypergrid_mtf import errors
from tools.dev import environment

PACKAGES = ("hypergrid_mtf", "t5_tasks", "tools")
LONG = 400
_METHOD = "hypergrid_mtf"
_DOOR = "hypergrid_mtf.__init__"
# A room may import those on its own floor and on the floors above it in this
# list. The package itself moves TensorFlow's banner (launch.console) before it
# patches the stack; `main` is where the parts of a run meet.
FLOORS = (
  (_METHOD, "hypergrid_mtf.compat"),
  ("hypergrid_mtf.launch", _DOOR),
  ("t5_tasks",),
  ("hypergrid_mtf.main",),
  ("tools.dev",),
  ("tools.data",),
  (
    "tools.cost",
    "tools.cost.tpu",
    "tools.cost.plan",
    "tools.experiments",
    "tools.serving",
    "tools.cloud",
  ),
  ("tools",),
)


@dataclasses.dataclass(frozen=True)
class Module:
  """One file.

  Attributes:
    name: dotted.
    lines: how many.
    imports: names of modules of this project.
  """

  name: str
  lines: int
  imports: tuple[str, ...]

  @property
  def room(self) -> str:
    """The package it stands in; `main` and the package itself stand alone."""
    if self.name == _METHOD:
      return _DOOR
    if self.name == "hypergrid_mtf.main" or self.name in PACKAGES:
      return self.name
    return self.name.rpartition(".")[0]


def read(root: str = environment.ROOT) -> dict[str, Module]:
  """The modules of a checkout.

  Args:
    root: its folder.

  Returns:
    {name: Module}, without the empty ones

  Raises:
    UserError: if there is no package of this project.
  """
  sources = {}
  for package in PACKAGES:
    for folder, _, names in os.walk(os.path.join(root, package)):
      for name in sorted(n for n in names if n.endswith(".py")):
        path = os.path.join(folder, name)
        dotted = os.path.relpath(path, root)[:-3].replace(os.sep, ".")
        with open(path, encoding="utf-8") as f:
          sources[dotted.removesuffix(".__init__")] = f.read()
  if not sources:
    raise errors.UserError(
      f"--root={root} holds none of {', '.join(PACKAGES)}: give the folder of "
      "a checkout."
    )
  return {
    name: Module(
      name, len(text.splitlines()), tuple(_imports(text, name, sources))
    )
    for name, text in sources.items()
  }


def _imports(text: str, name: str, known) -> list[str]:
  """The modules of `known` that a text imports, also inside functions."""
  found = {}
  for node in ast.walk(ast.parse(text)):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
      for alias in node.names:
        whole = f"{node.module}.{alias.name}"
        names.append(whole if whole in known else node.module)
    elif isinstance(node, ast.Call):
      names = _imported_by_call(node)
    found.update(dict.fromkeys(n for n in names if n in known and n != name))
  return list(found)


def _imported_by_call(call: ast.Call) -> list[str]:
  """What importlib.import_module is given, where it is written out."""
  if getattr(call.func, "attr", None) != "import_module":
    return []
  return [str(a.value) for a in call.args[:1] if isinstance(a, ast.Constant)]


def floor(module: Module) -> int:
  """The number of a module's floor: it may import lower numbers and its own."""
  for number, rooms in enumerate(FLOORS):
    if module.room in rooms:
      return number
  raise errors.UserError(
    f"{module.name} stands in {module.room}, which has no floor: add the room "
    "to FLOORS in tools/dev/imports.py."
  )


def upward(modules: dict[str, Module]) -> list[tuple[str, str]]:
  """Imports that run back up: (importer, imported)."""
  return [
    (m.name, other)
    for m in modules.values()
    for other in m.imports
    if floor(modules[other]) > floor(m)
  ]


def circles(modules: dict[str, Module]) -> list[tuple[str, ...]]:
  """Groups of modules that import each other, each sorted.

  A package and a module inside it are not a circle: `import a.b` runs `a`
  first.

  Args:
    modules: from `read`.

  Returns:
    the strongly connected components of more than one module
  """
  reached = {}

  def reach(start: str) -> set[str]:
    seen, todo = set(), [start]
    while todo:
      name = todo.pop()
      for other in modules[name].imports:
        inside = name.startswith(f"{other}.") or other.startswith(f"{name}.")
        if other not in seen and not inside:
          seen.add(other)
          todo.append(other)
    return seen

  for name in modules:
    reached[name] = reach(name)
  groups = {
    tuple(sorted(o for o in reached[n] if n in reached[o])) for n in modules
  }
  return sorted(g for g in groups if len(g) > 1)


def table(modules: dict[str, Module]) -> pd.DataFrame:
  """One row a room: modules, lines, share of all lines, rooms it imports."""
  total = sum(m.lines for m in modules.values())
  rows = {}
  for rooms in FLOORS:
    for room in rooms:
      inside = [m for m in modules.values() if m.room == room]
      if not inside:
        continue
      lines = sum(m.lines for m in inside)
      seen = {modules[o].room for m in inside for o in m.imports} - {room}
      rows[room] = {
        "modules": len(inside),
        "lines": lines,
        "share": f"{lines / total:.0%}",
        "imports": ", ".join(sorted(seen)) or "-",
      }
  rows["all"] = {"modules": len(modules), "lines": total, "share": "100%"}
  return pd.DataFrame(rows).T.fillna("")


def to_text(modules: dict[str, Module]) -> str:
  """What `tools.structure` prints."""
  lines = [table(modules).to_string(), ""]
  for what, found in (
    ("circles", [" <-> ".join(group) for group in circles(modules)]),
    ("imports that run back up", [f"{a} -> {b}" for a, b in upward(modules)]),
    (
      f"modules over {LONG} lines",
      [f"{m.name} ({m.lines})" for m in modules.values() if m.lines > LONG],
    ),
  ):
    lines.append(f"{what}: {len(found)}")
    lines.extend(f"  {line}" for line in found)
  return "\n".join(lines)
