"""Lists the programs of this project by room.

python -m tools
"""

import ast
import os

# What a program is made of is in the folder of its room.
ROOMS = {
  "data": ("prepare_data", "train_vocabulary", "cache_tasks"),
  "experiments": (
    "demo",
    "check",
    "warm_start",
    "sweep",
    "results",
    "tables",
    "report",
    "compare",
    "submit",
    "gates",
  ),
  "serving": (
    "export",
    "predict",
    "serving_benchmark",
    "fold",
    "to_huggingface",
    "from_huggingface",
  ),
  "cloud": ("tpu",),
  "cost": (
    "benchmark",
    "calibrate",
    "collectives",
    "plan",
    "tpu_compile",
    "tpu_execute",
    "tpu_layer",
  ),
  "dev": ("golden", "structure", "upstream_test"),
}
_FOLDER = os.path.dirname(os.path.abspath(__file__))


def programs() -> dict[str, dict[str, str]]:
  """{room: {program: the first line of its docstring}}."""
  found: dict[str, dict[str, str]] = {}
  for room, names in ROOMS.items():
    found[room] = {}
    for name in names:
      with open(os.path.join(_FOLDER, f"{name}.py"), encoding="utf-8") as f:
        text = ast.get_docstring(ast.parse(f.read()))
      found[room][name] = (text or "").partition("\n")[0]
  return found


def main() -> None:
  """Prints the list."""
  print("python -m tools.NAME --help")
  for room, lines in programs().items():
    print(f"\n{room}")
    for name, line in lines.items():
      print(f"  {name:<17} {line}")


if __name__ == "__main__":
  main()
