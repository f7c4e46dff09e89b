"""Asks the compiler of the TPU, which lives in an environment of its own."""

import json
import os
import pathlib
import subprocess
import tempfile

from hypergrid_mtf import errors
from tools import environment
from tools.cost.tpu import compiled, compiler

PYTHON = pathlib.Path(environment.ROOT, ".venv-tpu", "bin", "python")


def check() -> None:
  """Raises UserError where the environment was not made."""
  if not PYTHON.exists():
    raise errors.UserError(
      "there is no .venv-tpu, which holds the compiler of the TPU: make it "
      "with `make tpu-compiler`."
    )


def _ask(request: dict) -> dict:
  """One request to `tools.cost.tpu.compiler`, in a process of its own."""
  check()
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "request.json")
    with open(path, "w") as f:
      json.dump(request, f)
    command = [str(PYTHON), "-P", "-s", compiler.__file__, path]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
  if ran.returncode:
    raise RuntimeError(
      f"the compiler of the TPU ended with status {ran.returncode} (what it "
      "said is in the log)"
    )
  return json.loads(ran.stdout)


def cores(topology: str) -> list[list[int]]:
  """The cores of a topology.

  Args:
    topology: as libtpu names it: "v3:2x2", a kind and its chips.

  Returns:
    coordinates [x, y, z, core on its chip], sorted

  Raises:
    UserError: where there is no compiler, or it knows of no such topology.
  """
  answer = _ask({"topology": topology})
  if "refused" in answer:
    raise errors.UserError(
      f"--topology={topology} is not one that the compiler knows "
      f"({answer['refused'].rstrip('.')}): give a kind and its chips, such as "
      "v3:2x2, v3:4x4, v4:2x2x1 or v5e:2x2."
    )
  return answer["cores"]


def compile_program(topology: str, program: dict, hlo: str, text: str) -> dict:
  """Compiles a program for a TPU.

  Args:
    topology: as above.
    program: from `program.write`.
    hlo: the file that it wrote.
    text: where the compiled program goes.

  Returns:
    of `compiler.compile_for_tpu` and `compiled.costs`; or {"compiles": False,
    "refused": the compiler's sentence}
  """
  request = dict(topology=topology, program=program, hlo=hlo, text=text)
  answer = _ask(request)
  if answer["compiles"]:
    with open(text) as f:
      answer |= compiled.costs(f.read(), program["loop"])
  return answer


def execute(program: dict, hlo: str, values: str) -> dict:
  """Runs a program on virtual CPU devices, one a replica.

  Args:
    program: from `program.write`.
    hlo: the file that it wrote.
    values: an .npz of the arguments, by the names "0", "1", …, with a leading
      dimension of replicas; it is replaced by that of the results.

  Returns:
    {"seconds"} of compilation for the CPU
  """
  text = f"{hlo}.cpu.txt"
  answer = _ask(dict(program=program, hlo=hlo, values=values, text=text))
  if "refused" in answer:
    raise RuntimeError(answer["refused"])
  return answer
