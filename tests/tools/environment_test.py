"""The description of a process."""

import subprocess
import sys

from tools import environment


def test_the_peak_of_a_process_is_its_own():
  mine = b"x" * (300 * 2**20)
  # Once it answers, the program is there, and not this process's copy.
  with subprocess.Popen(
    [sys.executable, "-c", "print(1, flush=True); input()"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as child:
    assert child.stdout
    child.stdout.readline()
    its = environment.peak_memory(child.pid)
    child.communicate(b"\n")
  assert its < 100 * 2**20
  assert environment.peak_memory() > len(mine)
