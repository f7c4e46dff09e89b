"""Kinds of TPUs: how many cores and hosts, and which can run this project.

Estimator code needs the stream-executor runtime: chips v2, v3 and (by Google's
table of supported versions) v4, images whose names end in `-se`. Later chips
have PJRT alone, and TPUEstimator dies there (tensorflow issue 90807).
"""

import re

# Of the images: the newest whose names were seen in the documentation.
IMAGE = "tpu-vm-tf-2.15.0-se"
POD_IMAGE = "tpu-vm-tf-2.15.0-pod-se"
WHAT_CAN = f"take a v2, v3 or v4 with an image such as {IMAGE}"
# A host has four chips. v2 and v3 have two cores a chip; v4 counts two, of
# which TensorFlow sees one.
_CORES_OF_A_HOST = 8
_TYPE = re.compile(r"(v\d+[a-z]*)-(\d+)")
_ABLE = ("v2", "v3", "v4")


class UserError(ValueError):
  """What the user can put right: one sentence, exit status 2."""


def check(accelerator_type: str, image: str = "") -> None:
  """Refuses what cannot run TPUEstimator.

  Args:
    accelerator_type: as Google names it, e.g. "v3-8".
    image: the runtime version, if it is known.

  Raises:
    UserError: saying what can.
  """
  match = _TYPE.fullmatch(accelerator_type)
  if not match or not int(match[2]):
    raise UserError(
      f"{accelerator_type!r} is not a type of TPU: give a kind and its cores, "
      "such as v3-8."
    )
  if match[1] not in _ABLE:
    raise UserError(
      f"{accelerator_type} has the PJRT runtime alone, and TPUEstimator, which "
      f"t5 trains with, does not run on it: {WHAT_CAN}."
    )
  if "pjrt" in image:
    raise UserError(
      f"the image {image} has the PJRT runtime, and TPUEstimator, which t5 "
      f"trains with, does not run on it: {WHAT_CAN}."
    )
  if image and is_pod(accelerator_type) != ("-pod" in image):
    right = POD_IMAGE if is_pod(accelerator_type) else IMAGE
    raise UserError(
      f"the image {image} is for {'pods' if '-pod' in image else 'one host'}, "
      f"and {accelerator_type} has {hosts(accelerator_type)}: take {right}."
    )


def cores(accelerator_type: str) -> int:
  """How many cores the name counts."""
  return int(accelerator_type.rpartition("-")[2])


def hosts(accelerator_type: str) -> int:
  """How many hosts it has, of eight cores by the name's count."""
  return max(1, cores(accelerator_type) // _CORES_OF_A_HOST)


def is_pod(accelerator_type: str) -> bool:
  return hosts(accelerator_type) > 1


def image_of(accelerator_type: str) -> str:
  """The image of a kind, where none is asked for."""
  return POD_IMAGE if is_pod(accelerator_type) else IMAGE


def topology(accelerator_type: str) -> tuple[str, int]:
  """How Mesh TensorFlow is told of it.

  Args:
    accelerator_type: one that `check` lets pass.

  Returns:
    tpu_mesh_shape.tpu_topology and --logical_cores_per_chip. For v4 a number of
    chips in a row: TensorFlow shows one core a chip there, and Mesh TensorFlow
    takes from this text nothing but how many there are.
  """
  if accelerator_type.startswith("v4"):
    return f"{cores(accelerator_type) // 2}x1", 1
  return accelerator_type, 2
