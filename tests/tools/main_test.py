"""The list of programs."""

from tests import command
from tools import __main__ as tools


def test_every_program_is_listed_once_and_exists(capsys):
  listed = [name for names in tools.ROOMS.values() for name in names]
  there = {
    path.stem
    for path in (command.ROOT / "tools").glob("*.py")
    if 'if __name__ == "__main__":' in path.read_text()
  }
  assert sorted(listed) == sorted(there - {"__main__"})
  tools.main()
  lines = capsys.readouterr().out.splitlines()
  assert all(len(line) <= 100 for line in lines), lines
  for name in listed:
    (line,) = [one for one in lines if one.split()[:1] == [name]]
    assert line.endswith("."), line


def test_every_room_is_a_folder():
  for room in tools.ROOMS:
    assert (command.ROOT / "tools" / room / "__init__.py").exists()
