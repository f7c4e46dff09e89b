"""What a TPU takes for granted, beside a mesh that fits.

From documentation and threads about TPU VMs (docs/cloud_tpu.md says which); no
TPU was at hand.
"""

import math
import re

import seqio

from hypergrid_mtf import errors
from hypergrid_mtf.run import cached_tasks, gin_files, request

LOCAL = "local"  # what TensorFlow calls the TPU of this machine
_CHIPS_OF_A_HOST = 4
_KIND = re.compile(r"v(\d+)[a-z]*-(\d+)")


def check(asked: request.Request, mixture_or_task, flags) -> None:
  """Checks a run that is given --tpu.

  Args:
    asked: the run.
    mixture_or_task: a seqio Mixture or Task.
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: for a TPU that cannot run estimators, or what a pod cannot read.
  """
  if not flags.tpu:
    return
  topology = gin_files.value("tpu_mesh_shape.tpu_topology")
  hosts = 1
  if isinstance(topology, str):  # else the mesh was given, and says no host
    given = f"tpu_mesh_shape.tpu_topology = {topology!r}"
    hosts = check_topology(topology, given, flags.logical_cores_per_chip)
  if flags.tpu == LOCAL:
    if hosts > 1:
      raise errors.UserError(
        f"--tpu=local is the TPU of one host, and {given} has {hosts}: give "
        "the name of the pod, --tpu=NAME."
      )
    return
  if hosts > 1:
    _check_places(flags)
  _check_tokenization(asked, mixture_or_task, flags)


def check_topology(topology: str, given: str, cores_of_a_chip: int) -> int:
  """Checks that TPUEstimator runs on it, and that its cores are counted right.

  Args:
    topology: "v3-8" or chips, "2x2".
    given: where it came from, with its value.
    cores_of_a_chip: --logical_cores_per_chip.

  Returns:
    how many hosts it has

  Raises:
    UserError: saying what would be right.
  """
  match = _KIND.match(topology)
  if not match:
    sides = re.split("_twisted|_untwisted", topology)[0].split("x")
    chips = math.prod(int(side) for side in sides if side.isdecimal())
    return max(1, chips // _CHIPS_OF_A_HOST)
  kind, cores = int(match[1]), int(match[2])
  if kind > 4:
    raise errors.UserError(
      f"{given}: TPUs after v4 have the PJRT runtime alone, and TPUEstimator "
      "does not run on it: take a v2, v3 or v4 with an image whose name ends "
      "in -se."
    )
  if kind == 4:
    raise errors.UserError(
      f"{given}: of the {cores} cores that the name of a v4 counts, TensorFlow "
      f"sees {cores // 2}: give the chips, '{cores // 2}x1', and "
      "--logical_cores_per_chip=1."
    )
  if cores_of_a_chip != 2:
    raise errors.UserError(
      f"--logical_cores_per_chip={cores_of_a_chip} does not fit {given}, whose "
      "chips have 2 cores: leave it out."
    )
  return max(1, cores // (2 * _CHIPS_OF_A_HOST))


def _check_places(flags) -> None:
  """All hosts of a pod must reach the files of a run."""
  places = {
    "--model_dir": flags.model_dir,
    "--t5_tfds_data_dir": flags.t5_tfds_data_dir,
  }
  caches = [
    ("--additional_task_cache_dirs", folder)
    for folder in flags.additional_task_cache_dirs or ()
  ]
  for flag, place in [*places.items(), *caches]:
    if place and "://" not in place:
      raise errors.UserError(
        f"{flag}={place} is on this machine alone, and the hosts of the pod "
        f"--tpu={flags.tpu} read and write it: give a folder in the cloud, "
        "gs://BUCKET/FOLDER."
      )


def _check_tokenization(asked, mixture_or_task, flags) -> None:
  """The hosts of a pod lack the operation that SentencePiece is."""
  if not (asked.trains or asked.split) or flags.allow_sentencepiece_on_pods:
    return
  if cached_tasks.used(asked):
    return
  features = mixture_or_task.output_features.values()
  if any(
    isinstance(feature.vocabulary, seqio.SentencePieceVocabulary)
    for feature in features
  ):
    raise errors.UserError(
      f"--tpu={flags.tpu} reads the data on the TPU's hosts, which do not know "
      "SentencePiece, it is reported (t5 issue 965): cache the tasks before "
      f"(tools.cache_tasks) and bind {cached_tasks.binding(asked)} = True, "
      "give --vocabulary=bytes, take one host with --tpu=local, or try with "
      "--allow_sentencepiece_on_pods."
    )
