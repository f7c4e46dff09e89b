"""The process that writes the program of one candidate: TensorFlow's part.

`tools.cost.plan.programs` starts it with a file of JSON: {"job", "mesh",
"layout", "cores", "hlo", "program"}. It writes the HLO to `hlo` and what
`program.write` says of it to `program`.
"""

import dataclasses
import json
import sys

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import meshes
from tools.cost.plan import run
from tools.cost.tpu import program


def main(path: str) -> None:
  """Writes a program.

  Args:
    path: of the request.
  """
  tf.disable_v2_behavior()
  with open(path) as f:
    asked = json.load(f)
  mesh = meshes.parse(asked["mesh"], asked["layout"], "", "")
  job = run.Job.from_json(asked["job"])
  try:
    answer = program.write(
      program.Request(job, mesh, asked["cores"]), asked["hlo"]
    )
  except errors.UserError as e:
    answer = {"user_error": errors.sentence(e)}
  with open(asked["program"], "w") as f:
    json.dump(answer, f)


def request(job: run.Job, chosen: run.Candidate, cores, folder: str) -> dict:
  """What `main` reads.

  Args:
    job: the step.
    chosen: gives mesh and layout.
    cores: of the slice.
    folder: where the files go.
  """
  return {
    "job": dataclasses.asdict(job),
    "mesh": chosen.mesh,
    "layout": chosen.layout,
    "cores": cores,
    "hlo": f"{folder}/program.hlo",
    "program": f"{folder}/program.json",
  }


if __name__ == "__main__":
  main(sys.argv[1])
