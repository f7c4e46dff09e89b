"""Types of TPUs: cores, hosts, and which can run this project.

Estimators need the stream-executor runtime: chips v2, v3 and (by Google's table
of supported versions) v4, with images whose names end in `-se`. Later chips
have only PJRT, where TPUEstimator fails (tensorflow issue 90807).
"""

import re

from tools.cloud import command_line

# The newest images named in the documentation.
IMAGE = "tpu-vm-tf-2.15.0-se"
POD_IMAGE = "tpu-vm-tf-2.15.0-pod-se"
WHAT_RUNS = f"use a v2, v3 or v4 with an image such as {IMAGE}"
_TYPE = re.compile(r"(v\d+[a-z]*)-([1-9]\d*)")
_SUPPORTED = ("v2", "v3", "v4")


def check_type(accelerator_type: str, image: str = "") -> None:
  """Raises UserError if TPUEstimator cannot run there.

  Args:
    accelerator_type: as Google names it, e.g. "v3-8".
    image: the runtime version, if known.
  """
  match = _TYPE.fullmatch(accelerator_type)
  if not match:
    raise command_line.UserError(
      f"{accelerator_type!r} is not a type of TPU: give a kind and its cores, "
      "such as v3-8."
    )
  refused = accelerator_type if match[1] not in _SUPPORTED else ""
  if "pjrt" in image:
    refused = f"the image {image}"
  if refused:
    raise command_line.UserError(
      f"{refused} has only the PJRT runtime, on which TPUEstimator, which t5 "
      f"trains with, does not run: {WHAT_RUNS}."
    )
  if image and is_pod(accelerator_type) != ("-pod" in image):
    raise command_line.UserError(
      f"the image {image} is {'' if '-pod' in image else 'not '}for pods: use "
      f"{default_image(accelerator_type)} for {accelerator_type}."
    )


def num_cores(accelerator_type: str) -> int:
  """The number of cores in the name; each chip has two."""
  return int(accelerator_type.rpartition("-")[2])


def is_pod(accelerator_type: str) -> bool:
  """Whether it has several hosts, each with eight of the name's cores."""
  return num_cores(accelerator_type) > 8


def default_image(accelerator_type: str) -> str:
  return POD_IMAGE if is_pod(accelerator_type) else IMAGE


def topology(accelerator_type: str) -> tuple[str, int]:
  """Returns tpu_mesh_shape.tpu_topology and --logical_cores_per_chip.

  For v4 the topology is a row of chips: TensorFlow sees one core per chip, and
  Mesh TensorFlow only counts them.
  """
  if accelerator_type.startswith("v4"):
    return f"{num_cores(accelerator_type) // 2}x1", 1
  return accelerator_type, 2
