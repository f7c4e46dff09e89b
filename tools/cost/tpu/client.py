"""Calls the TPU's compiler, which is in a separate environment."""

import hashlib
import inspect
import json
import os
import pathlib
import subprocess
import tempfile

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools import environment
from tools.cost.tpu import compiled, compiler, hlo

PYTHON = pathlib.Path(environment.ROOT, ".venv-tpu", "bin", "python")
_LOCK = pathlib.Path(environment.ROOT, "requirements-tpu-compiler.txt")


def check(output: str | None = None) -> None:
  """Raises UserError if compiling, or writing the output, cannot work.

  Args:
    output: the file for the answer, if any.
  """
  if not PYTHON.exists():
    raise errors.UserError(
      "there is no .venv-tpu, which has the TPU's compiler: make it with `make "
      "tpu-compiler`."
    )
  if output:
    files.check_output(output)


def _ask(request: dict) -> dict:
  """Sends one request to `tools.cost.tpu.compiler`, in a separate process."""
  check()
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "request.json")
    with open(path, "w") as f:
      json.dump(request, f)
    command = [str(PYTHON), "-P", "-s", compiler.__file__, path]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
  if ran.returncode:
    raise RuntimeError(
      f"the TPU's compiler ended with status {ran.returncode} (see the log)"
    )
  return json.loads(ran.stdout)


def cores(topology: str) -> list[list[int]]:
  """Coordinates [x, y, z, core on its chip] of a topology's cores, sorted.

  Args:
    topology: libtpu's name: "v3:2x2", a kind and its chips.

  Raises:
    UserError: if there is no compiler, or it does not know the topology.
  """
  answer = _ask({"topology": topology})
  if "refused" in answer:
    raise errors.UserError(
      f"--topology={topology} is unknown to the compiler "
      f"({answer['refused'].rstrip('.')}): give a kind and its chips, such as "
      "v3:2x2, v3:4x4, v4:2x2x1 or v5e:2x2."
    )
  return answer["cores"]


def compile_program(
  topology: str, program: dict, path: str, cache: str | None = None
) -> dict:
  """Compiles a program for a TPU.

  Args:
    topology: as in `cores`.
    program: from `program.write`.
    path: of its HLO; the compiled program is written next to it.
    cache: a folder of answers, by a hash of everything they depend on; a cached
      answer needs no compilation.

  Returns:
    the answers of `compiler.compile_for_tpu` and `compiled.costs`; or
    {"compiles": False, "refused": the compiler's sentence}
  """
  known = cache and os.path.join(cache, f"{_key(topology, program, path)}.json")
  if known and os.path.exists(known):
    with open(known) as f:
      return json.load(f)
  answer = _ask(dict(topology=topology, program=program, hlo=path))
  if answer["compiles"]:
    made = hlo.read(os.path.join(os.path.dirname(path), "compiled.hlo"))
    answer |= compiled.costs(made, program["loop"])
  if known:
    files.write_json(known, answer)
  return answer


def _key(topology: str, program: dict, path: str) -> str:
  """A hash of everything that the answer depends on."""
  parts = [hlo.digest(path), topology, program["cores"], program["loop"]]
  found = hashlib.sha256(json.dumps(parts).encode())
  found.update(_LOCK.read_bytes())
  for module in (compiled, compiler, hlo):
    found.update(inspect.getsource(module).encode())
  return found.hexdigest()[:32]


def execute(program: dict, path: str, values: str) -> None:
  """Runs a program on virtual CPU devices, one per replica.

  Args:
    program: from `program.write`.
    path: of its HLO.
    values: an .npz of the arguments, named "0", "1", …, with a leading
      dimension of replicas; the results replace it.
  """
  answer = _ask(dict(program=program, hlo=path, values=values))
  if "refused" in answer:
    raise RuntimeError(answer["refused"])
