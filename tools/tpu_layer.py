r"""Compiles one feed-forward layer with the TPU's compiler, in every order.

  python -m tools.tpu_layer --size=base --variants=L2 --grids=16x16,32x32 \
    --rows=packed,unpacked --topologies=v3:2x2,v4:2x2x1 --output=layer.json

The layer is that of the model, forward and backward, lowered by Mesh TensorFlow
for one core of a TPU (`tools.cost.tpu.layer`), beside the same layer of vanilla
T5: seconds a program where a whole step takes minutes. All figures are the
compiler's estimates (docs/tpu_compiler.md).

What --output holds already stays there, and its answers are used again, unless
the program of a layer is another one now.
"""

import dataclasses
import itertools
import json
import math
import os
import tempfile

import pandas as pd
import tensorflow.compat.v1 as tf
from absl import flags

from hypergrid_mtf import errors, product
from hypergrid_mtf.run import console, files
from tools.cost import models
from tools.cost.tpu import client, layer

FLAGS = flags.FLAGS  # --gin_param is t5's own

_ROWS = ("packed", "unpacked")
_CELL = ["topology", "step", "packed"]  # what a table holds fixed
_MODEL = ["variant", "gated_kernel", "grid"]
_COMPARED = ["cycles", "temporaries", "flops"]


def _rows(packed: bool) -> str:
  return "packed" if packed else "unpacked"


def cases_of(flag_values) -> list[layer.Case]:
  """What the layer is given: every combination that there is.

  Args:
    flag_values: absl's FLAGS, parsed.

  Returns:
    a list of layer.Case

  Raises:
    UserError: naming the flag that is wrong.
  """
  f = flag_values
  models.choose("size", [f.size], models.sizes())
  models.choose("steps", f.steps, layer.STEPS)
  models.choose("rows", f.rows, _ROWS)
  for name in ("batch", "tokens"):
    if getattr(f, name) < 1:
      raise errors.UserError(
        f"--{name}={getattr(f, name)} is not a size: give a positive integer."
      )
  found = [
    layer.Case(
      size=f.size,
      step=step,
      packed=rows == "packed" and step != "decode",  # of one token
      batch=f.batch,
      tokens=f.tokens,
      activation_dtype=f.activation_dtype,
      given_gate=f.given_gate,
      gin_params=tuple(f.gin_param or ()),
    )
    for step, rows in itertools.product(f.steps, f.rows)
  ]
  return list(dict.fromkeys(found))


class Compiler:
  """Compiles layers, each program once."""

  def __init__(self, known: list[dict], keep: str | None = None):
    """Makes one.

    Args:
      known: records of an earlier run.
      keep: a folder for the programs, before and after; None keeps none.
    """
    self._answers = {(r["topology"], r["sha256"]): r["estimate"] for r in known}
    self._keep = keep
    self._cores: dict[str, list[int]] = {}

  def record(
    self, topology: str, case: layer.Case, setting: models.Setting
  ) -> dict:
    """What the compiler says of a layer.

    Args:
      topology: as libtpu names it.
      case: what is held fixed.
      setting: the model.

    Returns:
      "topology", the fields of the case and of the setting, "grid", "sha256" of
      the program and "estimate", as `client.compile_program` gives it

    Raises:
      UserError: for what describes no layer, or an unknown topology.
    """
    if topology not in self._cores:
      self._cores[topology] = client.cores(topology)[0]
    with tempfile.TemporaryDirectory() as folder:
      if self._keep:
        words = topology.replace(":", "_"), case.step, _rows(case.packed)
        folder = os.path.join(self._keep, "-".join([*words, setting.name]))
        os.makedirs(folder, exist_ok=True)
      hlo = os.path.join(folder, "program.hlo")
      text = os.path.join(folder, "compiled.txt")
      written = layer.write(case, setting, self._cores[topology], hlo)
      key = topology, written["sha256"]
      if key not in self._answers or self._keep:
        self._answers[key] = client.compile_program(
          topology, written, hlo, text
        )
    size = f"{setting.grid_rows}x{setting.grid_cols}"
    return {
      "topology": topology,
      **dataclasses.asdict(case),
      "gin_params": list(case.gin_params),  # as JSON has them
      **dataclasses.asdict(setting),
      "grid": size if setting.grid_rows else "",
      "sha256": written["sha256"],
      "estimate": self._answers[key],
    }


def frame_of(records: list[dict]) -> pd.DataFrame:
  """The figures of some records.

  Args:
    records: of `Compiler.record`, those of vanilla among them.

  Returns:
    a row each, in their order: "topology", "step", "packed", "variant",
    "gated_kernel", "grid", "contraction", "sha256", "cycles" (millions),
    "temporaries" (MB), "flops" (billions), "instructions", "seconds";
    "cycles_ratio", "temporaries_ratio" and "flops_ratio" beside vanilla
  """
  rows = []
  for record in records:
    found = record["estimate"]
    row = {k: record[k] for k in [*_CELL, *_MODEL, "contraction", "sha256"]}
    if found["compiles"]:
      row |= {
        "cycles": found["cycles"] / 1e6,
        "temporaries": found["memory"]["temporaries"] / 1e6,
        "flops": found["flops"] / 1e9,
        "instructions": found["instructions"],
        "seconds": found["seconds"],
      }
    rows.append(row)
  frame = pd.DataFrame(rows)
  vanilla = frame[frame.variant == models.VANILLA.variant]
  base = frame[_CELL].merge(vanilla[[*_CELL, *_COMPARED]], how="left", on=_CELL)
  for name in _COMPARED:
    frame[f"{name}_ratio"] = frame[name] / base[name]
  return frame


def tables_of(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """Cycles beside vanilla of every model in every order.

  Args:
    frame: of `frame_of`.

  Returns:
    {title: a table}: a row a model, a column an order; where "auto" is among
    them, also which order that is, and the cheapest of them
  """
  tables = {}
  gated = frame[frame.variant != models.VANILLA.variant]
  for (topology, step, packed), part in gated.groupby(_CELL, sort=False):
    rows = {}
    for (variant, kernel, grid), orders in part.groupby(_MODEL, sort=False):
      by_order = orders.set_index("contraction")
      ratio = by_order.cycles_ratio
      row = {order: f"{ratio[order]:.2f}" for order in ratio.index}
      named = by_order.drop(index="auto", errors="ignore")
      if "auto" in by_order.index and len(named):
        same = named.index[named.sha256 == by_order.sha256["auto"]]
        row["auto is"] = ", ".join(same[:1]) or "another"
        row["cheapest"] = named.cycles.idxmin()
      rows[" ".join(filter(None, (variant, kernel, grid)))] = row
    tables[f"{topology}, {step}, {_rows(packed)}"] = pd.DataFrame.from_dict(
      rows, orient="index"
    ).fillna("-")
  return tables


def _line(row: pd.Series) -> str:
  model = " ".join(filter(None, (row.variant, row.gated_kernel, row.grid)))
  name = f"{row.topology} {row.step} {_rows(row.packed)} {model}"
  if row.variant != models.VANILLA.variant:
    name += f" {row.contraction}"
  if pd.isna(row.cycles):
    return f"{name}: does not compile"
  beside = "-"  # vanilla's may be none
  if math.isfinite(row.temporaries_ratio):
    beside = f"{row.temporaries_ratio:.2f}"
  return (
    f"{name}: {row.cycles:.3f} million cycles ({row.cycles_ratio:.2f}), "
    f"{row.temporaries:.1f} MB of temporaries ({beside}), "
    f"{row.flops:.3f} billion FLOPs ({row.flops_ratio:.2f}), "
    f"{row.instructions:.0f} instructions, {row.seconds:.0f} s"
  )


def _known(path: str | None) -> list[dict]:
  """The records of an earlier run."""
  if not path or not os.path.exists(path):
    return []
  with open(path) as f:
    return json.load(f)


def _what(record: dict) -> dict:
  """What was compiled, without the answer."""
  return {k: record[k] for k in record if k not in ("sha256", "estimate")}


def main(argv) -> None:
  """Compiles layer after layer, and prints the tables.

  Args:
    argv: unused.
  """
  del argv
  tf.disable_v2_behavior()
  client.check()
  if FLAGS.output:
    files.check_output(FLAGS.output)
  cases = cases_of(FLAGS)
  settings = models.settings(
    FLAGS.variants,
    FLAGS.grids,
    FLAGS.contraction,
    kernels=FLAGS.gated_kernel,
  )
  known = _known(FLAGS.output)
  compiler = Compiler(known, FLAGS.keep)
  records: list[dict] = []
  for topology, case, setting in itertools.product(
    FLAGS.topologies, cases, settings
  ):
    try:
      records.append(compiler.record(topology, case, setting))
    except errors.UserError as e:
      if str(e) == product.cost.cannot_serve_packed_rows(setting.contraction):
        continue
      raise
    console.say(_line(frame_of(records).iloc[-1]))
    known = [r for r in known if _what(r) != _what(records[-1])]
    if FLAGS.output:
      files.write(FLAGS.output, json.dumps([*records, *known], indent=1) + "\n")
  for title, table in tables_of(frame_of(records)).items():
    console.say(f"\ncycles beside vanilla, {title}\n{table.to_string()}")
  if FLAGS.output:
    console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: the tests import this module and have flags too."""
  default = layer.Case()
  flags.DEFINE_string("size", default.size, "A file of models/.")
  flags.DEFINE_list("variants", ["L2"], "Beside vanilla, separated by commas.")
  flags.DEFINE_list("grids", [], "ROWSxCOLUMNS, …; the gin files' if empty.")
  flags.DEFINE_list(
    "contraction",
    list(product.cost.CHOICES),
    "HyperGrid.contraction, one or more.",
  )
  flags.DEFINE_list("gated_kernel", [], "HyperGrid.gated_kernel, one or more.")
  flags.DEFINE_list("steps", ["train"], f"Of {', '.join(layer.STEPS)}.")
  flags.DEFINE_list("rows", list(_ROWS), "Of packed, unpacked.")
  flags.DEFINE_integer("batch", default.batch, "Rows on one core.")
  flags.DEFINE_integer("tokens", default.tokens, "Of a row.")
  flags.DEFINE_list("topologies", ["v3:2x2"], "As libtpu names them.")
  flags.DEFINE_bool(
    "given_gate", False, "The gate is given, and not made in the layer."
  )
  flags.DEFINE_enum(
    "activation_dtype",
    default.activation_dtype,
    ("bfloat16", "float32"),
    "As t5's.",
  )
  flags.DEFINE_string("keep", None, "A folder for the programs in HLO.")
  flags.DEFINE_string("output", None, "Also write the estimates as JSON.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
