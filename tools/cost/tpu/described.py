"""The description of a TPU: what a real one would tell TPUEstimator."""

import numpy as np
import tensorflow.compat.v1 as tf


def metadata(cores) -> tf.tpu.experimental.TPUSystemMetadata:
  """What a TPU with these cores would tell TPUEstimator.

  Args:
    cores: coordinates [x, y, z, core on its chip].

  Returns:
    a TPUSystemMetadata, whose devices have no names

  Raises:
    ValueError: for chips that do not fill their hosts.
  """
  places = np.array(cores)
  # A host has a square of chips with all their cores.
  of_host: dict = {}
  for x, y, z, core in places.tolist():
    of_host.setdefault((z, y // 2, x // 2), []).append([x, y, z, core])
  hosts = [of_host[h] for h in sorted(of_host)]
  sizes = {len(h) for h in hosts}
  if len(sizes) > 1:
    raise ValueError(f"hosts of {sorted(sizes)} cores")
  for host in hosts:  # the order of TensorFlow: core, then x, then y
    host.sort(key=lambda c: (c[2], c[1], c[0], c[3]))
  topology = tf.tpu.experimental.Topology(
    mesh_shape=(places.max(0) + 1).tolist(),
    device_coordinates=np.array(hosts),
  )
  return tf.tpu.experimental.TPUSystemMetadata(
    num_cores=len(cores),
    num_hosts=len(hosts),
    num_of_cores_per_host=sizes.pop(),
    topology=topology,
    devices=[],
  )
