r"""The rooms of this project, and who imports whom.

  python -m tools.structure
  python -m tools.structure --root=../another/checkout

For each room: its modules and lines, and the rooms it imports. Then what should
not be: circles between modules, imports that run back up the floors, modules
longer than 400 lines. It reads the files and runs nothing of them.
"""

from absl import flags

from hypergrid_mtf.launch import console
from tools.dev import environment, imports

FLAGS = flags.FLAGS


def main(argv) -> None:
  """Prints the structure.

  Args:
    argv: unused.
  """
  del argv
  modules = imports.read(FLAGS.root)
  console.say(imports.to_text(modules))


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("root", environment.ROOT, "The checkout to look at.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
