"""Writes and compiles the programs of a plan, each in processes of its own.

What the compiler said of a program is kept by a hash of the program, so a plan
that is made again compiles only what has changed.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools import environment
from tools.cost.plan import chips, run, writer
from tools.cost.tpu import client, compiled, compiler, sent

_LOCK = os.path.join(environment.ROOT, "requirements-tpu-compiler.txt")
# Fields of an extrapolation that are counts or bytes of one step on one core.
_NOT_SCALED = ("compiles", "refused", "seconds", "resident", "cached")


class Programs:
  """The programs of one plan.

  Attributes:
    slice: the chips.
    cache: a folder for what the compiler said.
    compiled: programs that the compiler was given.
    cached: programs whose answer was there.
  """

  def __init__(self, slice_: chips.Slice, cache: str):
    """Makes an empty one.

    Args:
      slice_: the chips.
      cache: a folder; it is made.
    """
    self.slice = slice_
    self.cache = cache
    self.compiled = 0
    self.cached = 0

  def measure(self, job: run.Job, chosen: run.Candidate, say) -> dict:
    """Writes and compiles one program.

    Args:
      job: the step.
      chosen: the candidate it is a step of.
      say: a function of a line, for progress.

    Returns:
      {"compiles": False, "refused"}, or numbers of one step and core: those of
      `client.compile_program`, "parameters", "matmul_flops", "loop", "by_axis"
      of `sent.by_axis`, and in "memory" also "weights" and "optimizer" in bytes

    Raises:
      UserError: for bindings that describe no model.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
      asked = writer.request(job, chosen, self.slice.cores, folder)
      written = self._write(asked, folder)
      by_axis = sent.by_axis(asked["hlo"], written)
      size = os.path.getsize(asked["hlo"])
      path = os.path.join(
        self.cache, f"{self._key(asked['hlo'], written)}.json"
      )
      if os.path.exists(path):
        with open(path) as f:
          found = json.load(f)
        self.cached += 1
        say(f"{size:,} bytes of HLO: compiled before")
      else:
        say(
          f"{size:,} bytes of HLO in {time.perf_counter() - begin:.0f} s; "
          "compiling"
        )
        found = client.compile_program(
          self.slice.topology, written, asked["hlo"], f"{folder}/compiled.txt"
        )
        files.write(path, json.dumps(found, indent=1) + "\n")
        self.compiled += 1
    if not found["compiles"]:
      return found
    return found | _of_program(written, found["memory"]) | {"by_axis": by_axis}

  def _write(self, asked: dict, folder: str) -> dict:
    path = os.path.join(folder, "request.json")
    with open(path, "w") as f:
      json.dump(asked, f)
    ran = subprocess.run(
      [sys.executable, "-m", writer.__name__, path],
      cwd=environment.ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    if ran.returncode:
      raise RuntimeError(f"a program was not written:\n{ran.stderr[-4000:]}")
    with open(asked["program"]) as f:
      written = json.load(f)
    if "user_error" in written:
      raise errors.UserError(written["user_error"])
    return written

  def _key(self, hlo: str, written: dict) -> str:
    """A hash of all that the answer depends on."""
    found = hashlib.sha256()
    for path in (hlo, _LOCK, compiled.__file__, compiler.__file__):
      with open(path, "rb") as f:
        found.update(f.read())
    others = (self.slice.topology, written["cores"], written["loop"])
    found.update(json.dumps(others).encode())
    return found.hexdigest()[:32]


def _of_program(written: dict, memory: dict) -> dict:
  """What the program itself says."""
  kinds = {"weights": 0, "optimizer": 0}
  for argument in written["arguments"]:
    if argument["kind"] == "variable":
      slot = any("_slot_" in name for name in argument["masters"])
      size = compiled.size_of(_hlo_type(argument))
      kinds["optimizer" if slot else "weights"] += size
  return {
    "parameters": written["parameters"],
    "matmul_flops": written["matmul_flops"],
    "loop": written["loop"],
    "memory": memory | kinds,
  }


def _hlo_type(argument: dict) -> str:
  name = {"float32": "f32", "bfloat16": "bf16", "int32": "s32"}
  sizes = ",".join(map(str, argument["shape"]))
  return f"{name[argument['dtype']]}[{sizes}]"


def extrapolate(found: dict[int, dict], depth: int) -> dict:
  """What two depths say of a third: every number as a line through both.

  Args:
    found: {depth: from `Programs.measure`}, two of them.
    depth: that is asked for.

  Returns:
    as `Programs.measure`; "extrapolated" are the two depths
  """
  (low, a), (high, b) = sorted(found.items())
  for one in (a, b):
    if not one["compiles"]:
      return one

  def line(x, y):
    if isinstance(x, dict) or isinstance(y, dict):
      x, y = x or {}, y or {}
      return {
        k: line(x.get(k, 0), y.get(k, 0))
        for k in {**x, **y}
        if k not in _NOT_SCALED
      }
    value = x + (y - x) * (depth - low) / (high - low)
    return round(value)

  answer = line({**a, "loop": 0}, {**b, "loop": 0})
  return answer | {
    "compiles": True,
    "loop": a["loop"],
    "extrapolated": [low, high],
    "seconds": a["seconds"] + b["seconds"],
    "resident": max(a["resident"], b["resident"]),
  }
