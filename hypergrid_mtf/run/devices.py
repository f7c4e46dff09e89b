"""The devices of this machine, and those that a mesh asks for."""

import os

import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors


def present() -> list[str]:
  """This machine's devices, such as "cpu:0", without starting them."""
  return [
    d.name.removeprefix("/physical_device:").lower()
    for d in tf.config.list_physical_devices()
  ]


def local() -> list[str]:
  """The default devices of a run: all GPUs, or else the CPU."""
  return [d for d in present() if d.startswith("gpu:")] or ["cpu:0"]


def check(names, where: str) -> list[str]:
  """Checks that devices exist; TensorFlow would silently use the CPU.

  Args:
    names: names of devices, or None. "" leaves the choice to TensorFlow.
    where: the gin binding that names them.

  Returns:
    the names, a list

  Raises:
    UserError: for anything but a list of devices, or a device that this machine
      lacks.
  """
  if names is None:
    return []
  try:
    specs = [tf.DeviceSpec.from_string(str(name)) for name in names]
    good = isinstance(names, list | tuple)
    good = good and all(isinstance(name, str) for name in names)
  except (TypeError, ValueError):
    good = False
  if not good:
    raise errors.UserError(
      f"{where} = {names!r} is not a list of devices: give one for each part "
      "of the mesh, such as ['gpu:0', 'gpu:1']."
    )
  here = present()
  for name, spec in zip(names, specs, strict=True):
    if spec.job not in (None, "localhost"):
      if "TF_CONFIG" in os.environ:
        continue  # a device of a cluster, unknown to this machine
      raise errors.UserError(
        f"{where} names {name}, but TF_CONFIG, which says where the job "
        f"{spec.job} runs, is not set: name devices of this machine: "
        f"{', '.join(here)}."
      )
    kind = (spec.device_type or here[0].split(":")[0]).lower()
    if f"{kind}:{spec.device_index or 0}" not in here:
      raise errors.UserError(
        f"{where} names {name}, which this machine does not have: it has "
        f"{', '.join(here)}."
      )
  return list(names)
