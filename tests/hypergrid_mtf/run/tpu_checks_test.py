"""What a TPU takes for granted is said in one sentence before the graph."""

import types

import gin
import pytest
import seqio

from hypergrid_mtf import errors
from hypergrid_mtf.run import tpu_checks


def _mixture(vocabulary):
  feature = types.SimpleNamespace(vocabulary=vocabulary)
  return types.SimpleNamespace(output_features={"inputs": feature})


_PIECES = _mixture(seqio.SentencePieceVocabulary("not read"))
_BYTES = _mixture(seqio.ByteVocabulary())


def _check(
  mixture=_BYTES, bindings=(), trains=True, tpu_topology="v3-32", **given
):
  flags = types.SimpleNamespace(
    **{
      "tpu": "pod",
      "logical_cores_per_chip": 2,
      "model_dir": "gs://b/run",
      "t5_tfds_data_dir": None,
      "additional_task_cache_dirs": [],
      "allow_sentencepiece_on_pods": False,
      **given,
    }
  )
  asked = types.SimpleNamespace(trains=trains, split=None)
  with gin.unlock_config():
    topology = f"tpu_mesh_shape.tpu_topology = {tpu_topology!r}"
    gin.parse_config([*bindings, *([topology] if tpu_topology else [])])
  try:
    tpu_checks.check(asked, mixture, flags)
  finally:
    gin.clear_config()


@pytest.mark.parametrize(
  "given",
  [
    dict(tpu=""),
    dict(tpu="local", tpu_topology="v3-8", mixture=_PIECES, model_dir="runs/x"),
    dict(tpu="local", tpu_topology="2x2", mixture=_PIECES),
    dict(),
    dict(tpu_topology="v3-8", model_dir="runs/x"),
    dict(tpu_topology="4x4", logical_cores_per_chip=1),
    dict(mixture=_PIECES, bindings=["mesh_train_dataset_fn.use_cached = True"]),
    dict(mixture=_PIECES, trains=False),
    dict(mixture=_PIECES, allow_sentencepiece_on_pods=True),
    dict(tpu_topology=None),  # a mesh was given
  ],
)
def test_what_can_run(given):
  _check(**given)


@pytest.mark.parametrize(
  "given, sentence",
  [
    (dict(tpu_topology="v5litepod-8"), "PJRT runtime alone"),
    (
      dict(tpu_topology="v6e-8"),
      "tpu_mesh_shape.tpu_topology = 'v6e-8': TPUs after v4",
    ),
    (
      dict(tpu_topology="v4-8", tpu="local"),
      "TensorFlow sees 4: give the chips, '4x1', and --logical_cores_per_chip",
    ),
    (
      dict(logical_cores_per_chip=1),
      "does not fit tpu_mesh_shape.tpu_topology = 'v3-32'",
    ),
    (
      dict(tpu="local"),
      "one host, and tpu_mesh_shape.tpu_topology = 'v3-32' has 4",
    ),
    (
      dict(tpu="local", tpu_topology="4x4"),
      "tpu_mesh_shape.tpu_topology = '4x4' has 4",
    ),
    (dict(model_dir="runs/x"), "--model_dir=runs/x is on this machine alone"),
    (dict(t5_tfds_data_dir="data"), "--t5_tfds_data_dir=data is on this"),
    (
      dict(additional_task_cache_dirs=["gs://b/cache", "cache"]),
      "--additional_task_cache_dirs=cache is on this machine alone",
    ),
    (dict(mixture=_PIECES), "bind mesh_train_dataset_fn.use_cached = True"),
    (
      dict(mixture=_PIECES, tpu_topology="v3-8"),
      "take one host with --tpu=local",
    ),
    (
      dict(tpu="local", tpu_topology="v2-32"),
      "tpu_mesh_shape.tpu_topology = 'v2-32' has 4",
    ),
  ],
)
def test_what_cannot_is_refused(given, sentence):
  with pytest.raises(errors.UserError) as refusal:
    _check(**given)
  assert sentence in errors.sentence(refusal.value)
