"""Lists the programs of this project.

python -m tools
"""

import ast
import pathlib

_FOLDER = pathlib.Path(__file__).parent


def find_programs() -> dict[str, str]:
  """{name after `python -m tools.`: the first line of its docstring}."""
  found = {}
  for path in sorted([*_FOLDER.glob("*.py"), *_FOLDER.glob("dev/*.py")]):
    text = path.read_text(encoding="utf-8")
    if path.stem != "__main__" and 'if __name__ == "__main__":' in text:
      name = ".".join(path.relative_to(_FOLDER).with_suffix("").parts)
      docstring = ast.get_docstring(ast.parse(text)) or ""
      found[name] = docstring.partition("\n")[0]
  return found


def main() -> None:
  """Prints the list, without dev/, which is for this project's developers."""
  programs = find_programs()
  print("python -m tools.NAME --help")
  for dev in (False, True):
    print()
    for name, line in programs.items():
      if name.startswith("dev.") == dev:
        print(f"  {name:<20} {line}")


if __name__ == "__main__":
  main()
