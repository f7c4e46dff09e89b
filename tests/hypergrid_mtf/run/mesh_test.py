"""The mesh of a run: its shape, its bindings, and its notes."""

import gin
import mesh_tensorflow as mtf
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import devices, settle
from hypergrid_mtf.run import mesh as mesh_lib
from hypergrid_mtf.run.checks import mesh as mesh_checks
from tests.hypergrid_mtf.run import configuration
from tests.hypergrid_mtf.run.refusals_test import (
  TPU,
  _devices,
  _layout,
  _shape,
  _topology,
)
from tests.testing import PIECES

NANO = ("models/nano.gin", "experiments/embedded.gin")
GPUS = ["cpu:0", "gpu:0", "gpu:1"]


@pytest.mark.parametrize(
  ("given", "here", "mesh", "line"),
  [
    ([], ["cpu:0"], ("model:1,batch:1", ["cpu:0"]), ""),
    # All GPUs, or the devices that were named.
    (
      [],
      GPUS,
      ("model:1,batch:2", ["gpu:0", "gpu:1"]),
      "the mesh is gpu:0, gpu:1 (bind run.mesh_shape and run.mesh_devices for "
      "another)",
    ),
    ([_devices(["gpu:1"])], GPUS, ("model:1,batch:1", ["gpu:1"]), ""),
    (
      [_devices(["/device:GPU:0", "GPU:1"])],
      GPUS,
      ("model:1,batch:2", ["/device:GPU:0", "GPU:1"]),
      "",
    ),
    ([_shape("model:2")], GPUS, ("model:2", ["gpu:0", "gpu:1"]), ""),
    (
      [_shape("model:4")],
      GPUS,
      ("model:4", None),
      "run.mesh_shape = 'model:4': all 4 parts of the mesh share gpu:0, "
      "because run.mesh_devices names no devices",
    ),
    # Parts may share a device.
    (
      [_shape("model:2;batch:2"), _devices(["cpu:0"] * 4)],
      ["cpu:0"],
      ("model:2;batch:2", ["cpu:0"] * 4),
      "",
    ),
    ([_shape("")], ["cpu:0"], ("", None), ""),
    # A public operative_config.gin is a pod's.
    (
      [
        "tpu_mesh_shape.tpu_topology = '8x8'",
        "tpu_mesh_shape.model_parallelism = 8",
        "run.batch_size = 1",
      ],
      ["cpu:0"],
      ("model:1,batch:1", ["cpu:0"]),
      "tpu_mesh_shape.tpu_topology = '8x8' is not used, because --tpu is not "
      "given: the mesh is cpu:0",
    ),
    # Rules without an effect are said; t5's own are meant.
    (
      [_shape("model:2"), _layout("dff:model,heads:model,batch:batches")],
      GPUS,
      ("model:2", ["gpu:0", "gpu:1"]),
      "the rule dff:model has no effect, because no tensor of this model has "
      "the dimension dff (did you mean d_ff?)",
    ),
    (
      [_shape("model:2"), _layout("d_ff:modle,heads:model")],
      GPUS,
      ("model:2", ["gpu:0", "gpu:1"]),
      "the rule d_ff:modle has no effect, because the mesh has no axis modle "
      "(did you mean model?)",
    ),
    # In a mesh of one device no rule matters.
    (
      [_layout("d_ff:rows,dff:model")],
      ["cpu:0"],
      ("model:1,batch:1", ["cpu:0"]),
      "",
    ),
    (
      [
        _shape("ensemble:2,batch:4"),
        _devices(["cpu:0"] * 8),
        "Unitransformer.ensemble = 2",
        "run.ensemble_inputs = 2",
      ],
      ["cpu:0"],
      ("ensemble:2,batch:4", ["cpu:0"] * 8),
      "",
    ),
    (
      [*_topology("v3-8", "model_parallelism = 4"), _devices(["gpu:0"])],
      ["cpu:0"],
      None,
      "run.mesh_devices is not used with --tpu",
    ),
    (_topology("2x2_twisted"), ["cpu:0"], None, ""),
    ([TPU, _shape("model:4,batch:8")], ["cpu:0"], None, ""),
    (
      ["--tpu_zone=here"],
      ["cpu:0"],
      None,
      "--tpu_zone=here is not used, because --tpu is not given",
    ),
  ],
  ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_the_mesh_of_a_run(monkeypatch, given, here, mesh, line):
  monkeypatch.setattr(devices, "present", lambda: here)
  run = configuration.make_run(*given, files=NANO)
  settle.settle(run)
  mesh_checks.check_mesh(run)
  if mesh:
    bound = gin.get_bindings("run")
    assert (bound.get("mesh_shape"), bound.get("mesh_devices")) == mesh
  lines = mesh_checks.note_mesh(run)
  assert any(line in said for said in lines) if line else not lines


@pytest.mark.parametrize(
  ("vocabulary", "given"),
  [
    ("bytes", ["--tpu=local", "--model_dir=runs/x"]),
    ("pieces", ["--tpu=local", "--model_dir=runs/x"]),
    ("bytes", ["--model_dir=runs/x"]),
    ("pieces", ["mesh_train_dataset_fn.use_cached = True"]),
    ("pieces", ["--allow_sentencepiece_on_pods"]),
    ("pieces", ["run.mode = 'infer'"]),
    ("pieces", []),
  ],
)
def test_what_the_hosts_of_a_tpu_can_read(vocabulary, given):
  mixture = "embedded_v1" if vocabulary == "bytes" else "glue_cola_v002"
  run = configuration.make_run(
    *_topology("v3-8"),
    "--model_dir=gs://b/run",
    *given,
    f"MIXTURE_NAME = '{mixture}'",
    *([] if vocabulary == "bytes" else [f"--vocabulary={PIECES}"]),
  )
  if (vocabulary, given) == ("pieces", []):
    says = "bind mesh_train_dataset_fn.use_cached = True.* --tpu=local, or try"
    with pytest.raises(errors.UserError, match=says):
      mesh_checks.check_tpu(run)
  else:
    mesh_checks.check_tpu(run)


def test_a_device_of_a_cluster_is_not_looked_for_here(monkeypatch):
  monkeypatch.setattr(devices, "present", lambda: ["cpu:0"])
  monkeypatch.setenv("TF_CONFIG", "{}")
  names = ["/job:worker/task:1/device:GPU:7", ""]
  assert devices.check(names, "run.mesh_devices") == names


def test_the_devices_of_this_machine_are_those_of_tensorflow():
  assert "cpu:0" in devices.present()
  assert devices.check(["", "cpu", "CPU:0", "/cpu:0"], "x")


def test_forms_that_mesh_tensorflow_takes():
  want = mtf.Shape([mtf.Dimension("model", 2), mtf.Dimension("batch", 4)])
  for value in (
    "model:2,batch:4",
    " model:2; batch:4 ",
    [("model", 2), ("batch", 4)],
    want,
    [mtf.Dimension("model", 2), ("batch", 4)],
  ):
    assert mesh_lib.parse_shape(value, "") == want
    assert mtf.convert_to_shape(value) == want
  rules = {("d_ff", "model"), ("batch", "batch")}
  for value in (
    "d_ff:model,batch:batch",
    "d_ff:model batch:batch",
    [("d_ff", "model"), ("batch", "batch")],
    rules,
    mtf.LayoutRules(list(rules)),
  ):
    assert mesh_lib.parse_layout(value, "") == rules
    assert mtf.convert_to_layout_rules(value)._pairs == rules
