"""Compiles a program for a TPU, without a TPU, in a process of .venv-tpu.

`tools.cost.tpu.client` runs this file by its path, because .venv-tpu has
neither TensorFlow nor this project. The only argument is a JSON request; the
output is one JSON answer:

  {"topology": "v3:2x2"}         what libtpu knows about it
  {"topology", "program", "hlo"} the program's compilation
  {"program", "hlo", "values"}   its execution on virtual CPU devices

`hlo` is a file from `tools.cost.tpu.program`, and `program` its description.
The compiled program is written next to it, as `compiled.hlo` and, readable, as
`compiled.txt`.
"""

import json
import os
import sys
import time

# Keeps libtpu from looking for a TPU on Google Cloud, and for its lock.
os.environ.update(
  ALLOW_MULTIPLE_LIBTPU_LOAD="1",
  JAX_PLATFORMS="cpu",
  TPU_ACCELERATOR_TYPE="v3-8",
  TPU_MIN_LOG_LEVEL="3",
  TPU_SKIP_MDS_QUERY="1",
  TPU_STDERR_LOG_LEVEL="3",
  TPU_WORKER_HOSTNAMES="localhost",
)

# The marks of tools.cost.tpu.program, which XLA for CPUs lets pass.
ALL_REDUCE = "mtf_all_reduce"
ALL_TO_ALL = "mtf_all_to_all"
PERMUTE = "mtf_collective_permute"


class Refused(Exception):
  """A program that the compiler refuses, with its reason."""


def describe(name: str):
  """The topology with a name.

  Args:
    name: "v3:2x2".

  Returns:
    jax's TopologyDescription

  Raises:
    Refused: if libtpu does not know the name.
  """
  from jax.experimental import topologies

  try:
    return topologies.get_topology_desc(topology_name=name, platform="tpu")
  except Exception as e:
    raise Refused(_sentence(e)) from e


def cores(topology) -> list[list[int]]:
  """Coordinates of all cores: [x, y, z, core on its chip], sorted."""
  return sorted([*d.coords, d.core_on_chip] for d in topology.devices)


def to_module(path: str, program: dict):
  """A program as a StableHLO module with real collectives.

  Args:
    path: of the HLO.
    program: its description.

  Returns:
    an ir.Module; an MLIR context must be entered.
  """
  from jax._src.lib import _jax, xla_client
  from jax._src.lib.mlir import ir

  with open(path, "rb") as f:
    computation = xla_client.XlaComputation(f.read())
  module = ir.Module.parse(
    _jax.mlir.xla_computation_to_mlir_module(computation)
  )
  marked: list = []

  def find(operation):
    if operation.name == "stablehlo.custom_call":
      name = ir.StringAttr(operation.attributes["call_target_name"]).value
      if name in _COLLECTIVES:
        marked.append((name, operation))
    return ir.WalkResult.ADVANCE

  module.operation.walk(find)
  for name, operation in marked:
    config = operation.attributes["backend_config"]
    config = json.loads(ir.StringAttr(config).value)
    with ir.InsertionPoint(operation), operation.location:
      new = _COLLECTIVES[name](operation, config)
    operation.results[0].replace_all_uses_with(new)
    operation.erase()
  _alias(module, program)
  return module


def _all_reduce(operation, groups):
  from jax._src.lib.mlir import ir
  from jax._src.lib.mlir.dialects import hlo

  kind = operation.results[0].type
  reduced = hlo.AllReduceOp([kind], [operation.operands[0]], _table(groups))
  scalar = ir.RankedTensorType.get([], ir.RankedTensorType(kind).element_type)
  block = reduced.regions[0].blocks.append(scalar, scalar)
  with ir.InsertionPoint(block):
    hlo.return_([hlo.add(*block.arguments)])
  return reduced.results[0]


def _all_to_all(operation, config):
  from jax._src.lib.mlir.dialects import hlo

  return hlo.AllToAllOp(
    [operation.operands[0]],
    split_dimension=config["split"],
    concat_dimension=config["concat"],
    split_count=len(config["groups"][0]),
    replica_groups=_table(config["groups"]),
  ).results[0]


def _permute(operation, pairs):
  from jax._src.lib.mlir.dialects import hlo

  return hlo.CollectivePermuteOp(operation.operands[0], _table(pairs)).result


_COLLECTIVES = {
  ALL_REDUCE: _all_reduce,
  ALL_TO_ALL: _all_to_all,
  PERMUTE: _permute,
}


def _table(rows):
  import numpy as np
  from jax._src.lib.mlir import ir

  return ir.DenseIntElementsAttr.get(np.asarray(rows, np.int64))


def _alias(module, program) -> None:
  """Lets an updated variable reuse the memory of the old one, as on a TPU."""
  from jax._src.lib.mlir import ir

  main = next(o for o in module.body.operations if o.name.value == "main")
  inputs = main.type.inputs
  results = main.type.results
  wanted = program["arguments"], program["results"]
  if (len(inputs), len(results)) != tuple(map(len, wanted)):
    raise Refused(
      f"the program has {len(inputs)} arguments and {len(results)} results, "
      f"not {len(wanted[0])} and {len(wanted[1])}."
    )
  places = {r.get("argument"): i for i, r in enumerate(program["results"])}
  number = ir.IntegerType.get_signless(32)
  main.attributes["arg_attrs"] = ir.ArrayAttr.get(
    [
      ir.DictAttr.get(
        {"tf.aliasing_output": ir.IntegerAttr.get(number, places[i])}
        if i in places
        else {}
      )
      for i in range(len(inputs))
    ]
  )


def _compile(request, devices, compile_):
  """Compiles for devices; replica i runs on the i-th."""
  import numpy as np
  from jax._src import compiler
  from jax._src.interpreters import mlir
  from jax._src.lib import _jax

  ids = np.array([[d.id] for d in devices])
  with mlir.make_ir_context():
    module = to_module(request["hlo"], request["program"])
    options = compiler.get_compile_options(
      num_replicas=len(devices),
      num_partitions=1,
      device_assignment=ids,
      backend=devices[0].client,
    )
    begin = time.perf_counter()
    try:
      compiled = compile_(
        module,
        executable_devices=_jax.DeviceList(tuple(devices)),
        compile_options=options,
      )
    except _jax.JaxRuntimeError as e:
      raise Refused(_sentence(e)) from e
  seconds = time.perf_counter() - begin
  (written,) = compiled.hlo_modules()
  path = os.path.join(os.path.dirname(request["hlo"]), "compiled")
  with open(f"{path}.txt", "w") as f:
    f.write(written.to_string())
  with open(f"{path}.hlo", "wb") as f:
    f.write(written.as_serialized_hlo_module_proto())
  return compiled, seconds


def compile_for_tpu(request: dict) -> dict:
  """Compiles for a topology.

  Args:
    request: as in the module's docstring.

  Returns:
    {"compiles": True, "seconds" of compilation, "flops", "bytes_accessed",
    "memory"}, per core; a loop's body counts once in FLOPs and bytes

  Raises:
    Refused: if the compiler refuses it.
  """
  topology = describe(request["topology"])
  by_place = {(*d.coords, d.core_on_chip): d for d in topology.devices}
  devices = [by_place[tuple(c)] for c in request["program"]["cores"]]
  compiled, seconds = _compile(request, devices, devices[0].client.compile)
  cost = compiled.cost_analysis()
  cost = cost[0] if isinstance(cost, list) else cost
  memory = compiled.get_compiled_memory_stats()
  return {
    "compiles": True,
    "seconds": seconds,
    "flops": cost.get("flops"),
    "bytes_accessed": cost.get("bytes accessed"),
    "memory": {
      "arguments": memory.argument_size_in_bytes,
      "outputs": memory.output_size_in_bytes,
      "aliased": memory.alias_size_in_bytes,
      "temporaries": memory.temp_size_in_bytes,
      "program": memory.generated_code_size_in_bytes,
      "peak": memory.peak_memory_in_bytes,
    },
  }


def execute(request: dict) -> dict:
  """Runs a program once, each replica on a virtual CPU device.

  Args:
    request: as in the module's docstring. `values` is an .npz with argument i
      of all replicas, [replicas, ...], under the name "i"; the results replace
      it.

  Returns:
    {"seconds"} of compilation for CPUs
  """
  import jax
  import numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  devices = jax.devices("cpu")[: request["program"]["replicas"]]
  client = devices[0].client
  compiled, seconds = _compile(request, devices, client.compile_and_load)
  mesh = Mesh(np.array(devices), ("replica",))
  arguments = []
  with np.load(request["values"]) as values:
    for i in range(len(values.files)):
      value = values[str(i)]
      whole, spec = value[0], PartitionSpec()  # a scalar is the same for all
      if value.ndim > 1:
        whole, spec = np.concatenate(value), PartitionSpec("replica")
      arguments.append(jax.device_put(whole, NamedSharding(mesh, spec)))
  ran = compiled.execute_sharded(arguments)
  results = ran.disassemble_into_single_device_arrays()
  stacked = {str(i): np.stack(pieces) for i, pieces in enumerate(results)}
  np.savez(request["values"], **stacked)
  return {"seconds": seconds}


def _sentence(error) -> str:
  return " ".join(str(error).split())


def main(request: dict) -> dict:
  """Answers a request."""
  try:
    if "values" in request:
      replicas = request["program"]["replicas"]
      os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={replicas} "
        # It runs only once, so fast compilation matters more.
        "--xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true"
      )
      import jax

      jax.config.update("jax_enable_x64", True)  # the step is an int64
      return execute(request)
    if "hlo" in request:
      return compile_for_tpu(request)
    return {"cores": cores(describe(request["topology"]))}
  except Refused as e:
    return {"compiles": False, "refused": str(e)}


if __name__ == "__main__":
  # The libraries' output must not get into the answer.
  channel = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  with open(sys.argv[1]) as given:
    channel.write(json.dumps(main(json.load(given))) + "\n")
