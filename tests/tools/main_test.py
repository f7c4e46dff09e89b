"""The list of programs."""

from tests import command
from tools import __main__ as tools


def test_every_program_is_listed_with_what_it_does(capsys):
  tools.main()
  lines = capsys.readouterr().out.splitlines()[1:]
  assert all(len(line) <= 100 for line in lines), lines
  listed = {name: rest for name, *rest in map(str.split, filter(None, lines))}
  there = {
    path.stem
    for path in (command.ROOT / "tools").glob("*.py")
    if "define_flags" in path.read_text()
  }
  assert there <= set(listed)
  assert all(words and words[-1].endswith(".") for words in listed.values())


def test_listing_imports_no_tensorflow():
  done = command.python("-X", "importtime", "-m", "tools")
  assert "tools.export" not in done.stderr and " export " in done.stdout
  assert "tensorflow" not in done.stderr
