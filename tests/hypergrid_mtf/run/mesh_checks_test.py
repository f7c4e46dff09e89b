"""Meshes, layouts and devices: what does not fit is said before a graph."""

import gin
import mesh_tensorflow as mtf
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import data_checks, devices, meshes, preflight
from tests.hypergrid_mtf import command_line

# d_model 16, d_ff 64, 4 heads of 16, 384 of vocabulary; batch 64.
NANO = ("--gin_file=models/nano.gin", "--gin_file=experiments/embedded.gin")
L2 = "--gin_file=hypergrid/L2.gin"
TPU = ("--tpu=a-tpu",)
GPUS = ["cpu:0", "gpu:0", "gpu:1"]


@pytest.fixture(autouse=True)
def _mesh_alone(monkeypatch):
  """Without what takes most of a start: the data, and checks after a mesh's."""

  def reached(*args, **kwargs):
    raise command_line.GraphReached

  monkeypatch.setattr(data_checks, "check_data", lambda *args: None)
  monkeypatch.setattr(preflight, "check_packing", reached)


def _shape(text):
  return f"--gin_param=run.mesh_shape = {text!r}"


def _layout(rules):
  return f"--gin_param=run.layout_rules = {rules!r}"


def _devices(names):
  return f"--gin_param=run.mesh_devices = {names!r}"


def _bind(text):
  return f"--gin_param={text}"


def _topology(text, *further):
  return [
    *TPU,
    _bind(f"tpu_mesh_shape.tpu_topology = {text!r}"),
    *(_bind(f"tpu_mesh_shape.{f}") for f in further),
  ]


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    # Devices.
    (
      [_devices(["gpu:0"])],
      "run.mesh_devices names gpu:0, which this machine does not have: it has "
      "cpu:0.",
    ),
    (
      [_shape("batch:2"), _devices(["cpu:0", "cpu:1"])],
      "run.mesh_devices names cpu:1, which this machine does not have: it has "
      "cpu:0.",
    ),
    (
      [_shape("batch:2"), _devices(["cpu:0"])],
      "run.mesh_devices names 1 device, and run.mesh_shape = 'batch:2' has 2: "
      "name as many as the mesh has.",
    ),
    (
      [_shape("batch:2"), _devices(["cpu:0"] * 3)],
      "run.mesh_devices names 3 devices, and run.mesh_shape = 'batch:2' has 2",
    ),
    (
      [_shape("batch:2"), _devices("cpu:0")],
      "run.mesh_devices = 'cpu:0' is not a list of devices",
    ),
    ([_devices(["cpu 0"])], "run.mesh_devices = ['cpu 0'] is not a list"),
    ([_devices([0])], "run.mesh_devices = [0] is not a list of devices"),
    (
      [_devices(["/job:worker/device:GPU:0"])],
      "names /job:worker/device:GPU:0, and TF_CONFIG, which would say where "
      "the job worker runs, is not set",
    ),
    # The form of a mesh.
    *(
      (
        [_shape(text)],
        f"run.mesh_shape = {text!r} is not a mesh: give AXIS:SIZE",
      )
      for text in (
        "model=2",
        "model:0",
        "model:-2",
        "model:two",
        "model:2,model:4",
        "model:2,model:2",
        "model",
        ":2",
        {"model": 2},
        [("model", 2.0)],
        [["model", 2]],
        4,
      )
    ),
    # The form of a layout.
    *(
      (
        [_shape("model:2"), _layout(rules)],
        f"run.layout_rules = {rules!r} is not a layout: give DIMENSION:AXIS",
      )
      for rules in (
        "d_ff=model",
        {"d_ff": "model"},
        ["d_ff:model"],
        [["d_ff", "model"]],
        None,
      )
    ),
    # Axes and rules.
    (
      [_shape("modle:2")],
      "run.mesh_shape = 'modle:2': no rule of run.layout_rules = 'ensemble:"
      "ensemble,batch:batch,d_ff:model,heads:model,vocab:model,experts:batch' "
      "names the axis modle, so its 2 devices would all do the same work (did "
      "you mean model?): the rules name batch, ensemble, model.",
    ),
    (
      [_shape("ensemble:2")],
      "run.mesh_shape = 'ensemble:2': the axis ensemble splits nothing of this "
      "model, so its 2 devices would all do the same work: no tensor has the "
      "dimension of the rule ensemble:ensemble.",
    ),
    (
      [_shape("model:2,batch:2"), _layout("batch:batch,d_f:model")],
      "the axis model splits nothing of this model",
    ),
    (
      [_shape("model:2,batch:2"), _layout("d_ff:model,batch:batch,d_ff:batch")],
      "splits d_ff over two axes of the mesh, model and batch: keep one",
    ),
    (
      [_shape("model:2"), _layout("d_model:model,d_ff:model")],
      "run.layout_rules = 'd_model:model,d_ff:model' splits both d_model and "
      "d_ff of encoder/block_000/layer_001/DenseReluDense/wi/kernel "
      "[d_model=16, d_ff=64] over the axis model: leave one of these "
      "rules out.",
    ),
    # What an axis does not divide.
    (
      [_shape("batch:5")],
      "run.batch_size = ('sequences_per_batch', 64), 64 sequences, does not "
      "divide among the 5 devices of the axis batch (run.mesh_shape = "
      "'batch:5'): give a multiple of 5.",
    ),
    (
      [_shape("batch:2"), _bind("run.batch_size = 7")],
      "run.batch_size = 7 does not divide among the 2 devices of the axis "
      "batch (run.mesh_shape = 'batch:2'): give a multiple of 2.",
    ),
    (
      [
        _shape("batch:2"),
        _bind("tpu_estimator_model_fn.outer_batch_size = 3"),
      ],
      "64 sequences, does not divide among 3 outer batches and the 2 devices "
      "of the axis batch (run.mesh_shape = 'batch:2'): give a multiple of 6.",
    ),
    (
      [_shape("model:3")],
      "heads = 4 does not divide among the 3 devices of the axis model "
      "(run.mesh_shape = 'model:3'): choose a divisor of 4,",
    ),
    (
      [_shape("model:8"), _layout("heads:model")],
      "heads = 4 does not divide among the 8 devices of the axis model "
      "(run.mesh_shape = 'model:8'): choose a divisor of 4, or leave "
      "heads:model out of the rules.",
    ),
    (
      [_shape("model:3"), _layout("d_ff:model")],
      "d_ff = 64 does not divide among the 3 devices of the axis model",
    ),
    (
      [_shape("model:5"), _layout("vocab:model")],
      "vocab = 384 does not divide among the 5 devices of the axis model",
    ),
    (
      [_shape("model:3"), _layout("d_model:model")],
      "d_model = 16 does not divide among the 3 devices of the axis model",
    ),
    (
      [_shape("model:3"), _layout("grid_rows:model")],
      "grid_rows = 16 does not divide among the 3 devices of the axis model",
    ),
    (
      [_shape("model:7"), _layout("length:model")],
      "length = 1 does not divide among the 7 devices of the axis model "
      "(run.mesh_shape = 'model:7'): leave length:model out of the rules.",
    ),
    # Ensembles.
    (
      [_bind("run.ensemble_inputs = 2")],
      "run.ensemble_inputs = 2, and Unitransformer.ensemble is None: give both "
      "the same number",
    ),
    (
      [_bind("run.ensemble_inputs = 2"), _bind("Unitransformer.ensemble = 3")],
      "run.ensemble_inputs = 2, and Unitransformer.ensemble is 3",
    ),
    (
      [_bind("encoder/Unitransformer.ensemble = 2")],
      "Unitransformer.ensemble is 2 in the encoder and None in the decoder",
    ),
    (
      [_shape("ensemble:2"), _bind("Unitransformer.ensemble = 3")],
      "ensemble = 3 does not divide among the 2 devices of the axis ensemble",
    ),
    # A TPU's topology.
    ([*TPU], "--tpu needs the topology of the TPU: give tpu_mesh_shape."),
    *(
      (
        _topology(text),
        f"tpu_mesh_shape.tpu_topology = {text!r} is not a topology",
      )
      for text in ("v3", "v3-", "4*4", "", "4x", 8)
    ),
    *(
      (
        _topology("v3-8", f"model_parallelism = {value!r}"),
        f"tpu_mesh_shape.model_parallelism = {value!r} does not divide the 8 "
        "cores of tpu_mesh_shape.tpu_topology = 'v3-8': give a divisor of 8.",
      )
      for value in (3, 16, 0, "2", 2.0, None)
    ),
    (
      _topology("4x4", "model_parallelism = 3"),
      "model_parallelism = 3 does not divide the 32 cores of "
      "tpu_mesh_shape.tpu_topology = '4x4'",
    ),
    (
      _topology("v3-8", "ensemble_parallelism = 3"),
      "tpu_mesh_shape.ensemble_parallelism = 3 does not divide the 8 cores",
    ),
    (
      _topology("v3-8", "ensemble_parallelism = 2", "model_parallelism = 8"),
      "tpu_mesh_shape.model_parallelism = 8 does not divide the 4 cores of "
      "tpu_mesh_shape.tpu_topology = 'v3-8' that one member of the "
      "ensemble has",
    ),
    (
      _topology("v3-8", "model_parallelism = [['model', [3]]]"),
      "model_parallelism = [['model', [3]]] does not tile the 8 cores",
    ),
    (
      [*_topology("v3-32"), _bind("run.batch_size = 24")],
      "run.batch_size = 24 does not divide among the 32 devices of the axis "
      "batch (tpu_mesh_shape.tpu_topology = 'v3-32', "
      "tpu_mesh_shape.model_parallelism = 1): give a multiple of 32.",
    ),
    (
      _topology("v3-8", "model_parallelism = 8"),
      "heads = 4 does not divide among the 8 devices of the axis model",
    ),
  ],
  ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused(run, monkeypatch, arguments, sentence):
  monkeypatch.setattr(devices, "present", lambda: ["cpu:0"])
  monkeypatch.delenv("TF_CONFIG", raising=False)
  with pytest.raises(errors.UserError) as e:
    run(*NANO, L2, *arguments)
  assert sentence in errors.sentence(e.value)


@pytest.mark.parametrize(
  ("arguments", "here", "mesh", "line"),
  [
    ([], ["cpu:0"], ("model:1,batch:1", ["cpu:0"]), ""),
    # All GPUs, or the devices that were named.
    (
      [],
      GPUS,
      ("model:1,batch:2", ["gpu:0", "gpu:1"]),
      "the mesh is gpu:0, gpu:1 (bind run.mesh_shape and run.mesh_devices",
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
        _bind("tpu_mesh_shape.tpu_topology = '8x8'"),
        _bind("tpu_mesh_shape.model_parallelism = 8"),
        _bind("run.batch_size = 1"),
      ],
      ["cpu:0"],
      ("model:1,batch:1", ["cpu:0"]),
      "tpu_mesh_shape.tpu_topology = '8x8' is not used, because --tpu is not "
      "given: the mesh is cpu:0",
    ),
    # Rules without an effect are said; t5's own are meant.
    (
      [_shape("model:2"), _layout("dff:model,heads:model,batch:batches")],
      ["cpu:0"],
      ("model:2", None),
      "the rule dff:model has no effect, because no tensor of this model has "
      "the dimension dff (did you mean d_ff?)",
    ),
    (
      [_shape("model:2"), _layout("d_ff:modle,heads:model")],
      ["cpu:0"],
      ("model:2", None),
      "the rule d_ff:modle has no effect, because the mesh has no axis modle "
      "(did you mean model?)",
    ),
    # Beside a mesh of one device no rule matters.
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
        _bind("Unitransformer.ensemble = 2"),
        _bind("run.ensemble_inputs = 2"),
      ],
      ["cpu:0"],
      ("ensemble:2,batch:4", ["cpu:0"] * 8),
      "",
    ),
    (
      [
        *_topology("v3-8", "model_parallelism = 4"),
        _devices(["gpu:0"]),
      ],
      ["cpu:0"],
      None,
      "run.mesh_devices is not used with --tpu",
    ),
    (_topology("2x2_twisted"), ["cpu:0"], None, ""),
    ([*TPU, _shape("model:4,batch:8")], ["cpu:0"], None, ""),
    (
      ["--tpu_zone=here"],
      ["cpu:0"],
      None,
      "--tpu_zone=here is not used, because --tpu is not given",
    ),
  ],
  ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_the_mesh_of_a_run(
  run, monkeypatch, capsys, arguments, here, mesh, line
):
  monkeypatch.setattr(devices, "present", lambda: here)
  with pytest.raises(command_line.GraphReached):
    run(*NANO, *arguments)
  said = capsys.readouterr().out
  words = ("mesh", "rule", "layout", "tpu", "device")
  lines = [s for s in said.splitlines() if any(w in s for w in words)]
  if mesh:
    bound = [
      gin.get_bindings("run").get(name)
      for name in ("mesh_shape", "mesh_devices")
    ]
    assert bound == list(mesh)
  assert line in said
  if not line:
    assert not [s for s in lines if "/" not in s], said


def test_a_device_of_a_cluster_is_not_looked_for_here(monkeypatch):
  monkeypatch.setattr(devices, "present", lambda: ["cpu:0"])
  monkeypatch.setenv("TF_CONFIG", "{}")
  names = ["/job:worker/task:1/device:GPU:7", ""]
  assert devices.check(names, "run.mesh_devices") == names


def test_the_devices_of_this_machine_are_those_of_tensorflow():
  assert "cpu:0" in devices.present()
  assert devices.check(["", "cpu", "CPU:0", "/cpu:0"], "x")


@pytest.mark.parametrize(
  "value",
  [
    "model:2,batch:4",
    " model:2; batch:4 ",
    [("model", 2), ("batch", 4)],
    mtf.Shape([mtf.Dimension("model", 2), mtf.Dimension("batch", 4)]),
    [mtf.Dimension("model", 2), ("batch", 4)],
  ],
)
def test_forms_of_a_mesh_that_mesh_tensorflow_takes(value):
  want = mtf.Shape([mtf.Dimension("model", 2), mtf.Dimension("batch", 4)])
  assert meshes.parse_shape(value, "") == want
  assert mtf.convert_to_shape(value) == want


@pytest.mark.parametrize(
  "value",
  [
    "d_ff:model,batch:batch",
    "d_ff:model batch:batch",
    [("d_ff", "model"), ("batch", "batch")],
    {("d_ff", "model"), ("batch", "batch")},
    mtf.LayoutRules([("d_ff", "model"), ("batch", "batch")]),
  ],
)
def test_forms_of_a_layout_that_mesh_tensorflow_takes(value):
  want = {("d_ff", "model"), ("batch", "batch")}
  assert meshes.parse_layout(value, "") == want
  assert mtf.convert_to_layout_rules(value)._pairs == want
