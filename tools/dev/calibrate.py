r"""Measures the cost of the contraction orders on this CPU.

  python -m tools.dev.calibrate --output=runs/calibration.json

For shapes of T5-base and of a small model, runs each order and the product
without a gate in turn, forward only and with the gradient. Prints the median
times, the choice of the cost model in `hypergrid_mtf.product.cost`, and how
much slower that is than the fastest order; then the nanoseconds per element
that best fit this machine, next to those of the cost model.
"""

import time

from absl import flags

from hypergrid_mtf.run import console

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flags.DEFINE_integer("runs", 9, "Measured runs of each.", lower_bound=1)
  flags.DEFINE_string("output", None, "A JSON file to write.")


console.read_flags(__name__, define_flags)

import numpy as np
import pandas as pd
import tensorflow.compat.v1 as tf

from hypergrid_mtf import product
from hypergrid_mtf.run import files
from tools import environment

NO_GATE = "no gate"
# N gates, T tokens per gate, F, M, R, C.
SHAPES = {
  "base, 4 x 512": (4, 512, 3072, 768, 16, 16),
  "base, 4 x 64": (4, 64, 3072, 768, 16, 16),
  "base, 32 x 16": (32, 16, 3072, 768, 16, 16),
  "base, packed 4 x 512": (2048, 1, 3072, 768, 16, 16),
  "base, packed 4 x 64": (256, 1, 3072, 768, 16, 16),
  "base, packed 4 x 512, 4 x 4": (2048, 1, 3072, 768, 4, 4),
  "base, packed 4 x 512, 64 x 4": (2048, 1, 3072, 768, 64, 4),
  "base, decoding 16": (16, 1, 3072, 768, 16, 16),
  "base, 4 x 128, 64 x 64": (4, 128, 3072, 768, 64, 64),
  "base wi, 4 x 128": (4, 128, 768, 3072, 16, 16),
  "base wi, packed 4 x 128": (512, 1, 768, 3072, 16, 16),
  "tiny, 32 x 128": (32, 128, 512, 128, 16, 16),
  "tiny, packed 32 x 128": (4096, 1, 512, 128, 16, 16),
}


def _served(sizes: product.cost.Sizes) -> tuple[str, ...]:
  """The orders to try; gated kernels for packed tokens would not fit."""
  if sizes.gates * sizes.fan_in * sizes.fan_out > 1 << 28:
    return tuple(o for o in product.cost.ORDERS if o != "weights")
  return product.cost.ORDERS


def measure(sizes: product.cost.Sizes, train: bool, runs: int) -> dict:
  """Runs the product without a gate and every possible order, in turn.

  Returns:
    {NO_GATE or order: median milliseconds}, with the gradient if `train`
  """
  s = sizes
  rng = np.random.default_rng(0)
  with tf.Graph().as_default():
    h, kernel, gate, dy = (
      tf.get_variable(name, initializer=rng.random(shape, np.float32))
      for name, shape in (
        ("h", (s.gates, s.tokens, s.fan_in)),
        ("kernel", (s.fan_in, s.fan_out)),
        ("gate", (s.gates, s.rows, s.cols)),
        ("dy", (s.gates, s.tokens, s.fan_out)),
      )
    )
    fetches = {NO_GATE: _without_gate(h, kernel, dy, train)}
    for order in _served(s):
      fetches[order] = [product.cpu.product(order, h, kernel, gate)]
      if train:
        fetches[order] += product.cpu.gradients(order, h, kernel, gate, dy)
    ops = {k: [t.op for t in tensors] for k, tensors in fetches.items()}
    times: dict[str, list[float]] = {k: [] for k in ops}
    with tf.Session() as sess:
      sess.run(tf.global_variables_initializer())
      for i in range(runs + 1):
        for name, op in ops.items():
          begin = time.perf_counter()
          sess.run(op)
          if i:  # the first is a warm-up
            times[name].append(1e3 * (time.perf_counter() - begin))
  return {k: float(np.median(v)) for k, v in times.items()}


def _without_gate(h, kernel, dy, train):
  h = tf.reshape(h, [-1, h.shape[-1]])
  dy = tf.reshape(dy, [-1, dy.shape[-1]])
  out = [tf.matmul(h, kernel)]
  if train:
    out.append(tf.matmul(dy, kernel, transpose_b=True))
    out.append(tf.matmul(h, dy, transpose_a=True))
  return out


def fit(records: list[dict]) -> dict:
  """The nanoseconds per element of each order that best fit the measurements.

  Returns:
    {order: (forward, with the gradient)}; the median over shapes of the time
    beyond the product without a gate, divided by the elements an order makes.
    Recomputation in `rows` is subtracted at that product's speed.
  """
  found = []
  for record in records:
    sizes, train = product.cost.Sizes(**record["sizes"]), record["train"]
    plain = record["ms"][NO_GATE]
    for order in record["ms"].keys() - {NO_GATE}:
      extra = record["ms"][order] - plain
      extra -= plain / 3 if order == "rows" and train else 0
      each = 1e6 * extra / product.cost.elements(order, sizes)
      found.append((order, train, each))
  frame = pd.DataFrame(found, columns=["order", "train", "each"])
  fitted = frame.groupby(["order", "train"])["each"].median().unstack()
  return {order: tuple(fitted.loc[order]) for order in product.cost.ORDERS}


def measurements(shapes, runs: int) -> list[dict]:
  """Measures shapes, forward only and with the gradient.

  Returns:
    records: `shape`, `sizes`, `train`, `ms` by order, `chosen`, `regret` (how
      much longer the chosen order takes than the fastest)
  """
  records = []
  with console.progress_bar(2 * len(shapes), "calibrate", "shape") as bar:
    for name, numbers in shapes.items():
      sizes = product.cost.Sizes(*numbers)
      for train in (False, True):
        ms = measure(sizes, train, runs)
        orders = _served(sizes)
        chosen = product.cost.cheapest(orders, sizes, train)
        records.append(
          dict(
            shape=name,
            sizes=vars(sizes),
            train=train,
            ms=ms,
            chosen=chosen,
            regret=ms[chosen] / min(ms[o] for o in orders) - 1,
          )
        )
        bar.update()
  return records


def table(records: list[dict]) -> pd.DataFrame:
  """The measurements as a table, in milliseconds."""
  found = pd.DataFrame(records)
  times = pd.DataFrame(list(found["ms"])).applymap("{:.2f}".format)
  return pd.DataFrame(
    {
      "shape": found["shape"],
      "pass": found["train"].map({False: "forward", True: "with gradient"}),
      **times.replace("nan", ""),
      "chosen": found["chosen"],
      "slower than the fastest": found["regret"].map("{:.0%}".format),
    }
  )


def main(argv) -> None:
  """Measures, fits and prints."""
  del argv
  tf.disable_v2_behavior()
  if FLAGS.output:
    files.check_output(FLAGS.output)
  records = measurements(SHAPES, FLAGS.runs)
  console.say(table(records).to_markdown(index=False, disable_numparse=True))
  fitted = fit(records)
  console.say("\nnanoseconds per element (forward, with the gradient)")
  for order, pair in fitted.items():
    mine = product.cost.CPU_NANOSECONDS[order]
    console.say(
      f"  {order}: here {pair[0]:.2f}, {pair[1]:.2f}; "
      f"the cost model has {mine[0]}, {mine[1]}"
    )
  if FLAGS.output:
    result = environment.describe()
    result |= dict(records=records, nanoseconds=fitted)
    files.write_json(FLAGS.output, result)
    console.say(f"\nwrote {FLAGS.output}")


if __name__ == "__main__":
  console.run(main)
