r"""Speed and memory of served models: HyperGrid, vanilla, and Hugging Face's.

  python -m tools.serving_benchmark --size=base

Models of random weights are exported (`tools.export`) and answer the same
texts greedily; no answer ends before --output_tokens. Each is in a process of
its own, which imports what its user imports, and they take turns; a ratio is
the median, over --rounds, of the two times of one round. Hugging Face's is
TFT5's `generate` on vanilla's weights, given token ids. --predict also times
`tools.predict`, and t5's `MtfModel.predict`, on a file of that many inputs,
from the start of the process to its end.
"""

import contextlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, files
from tools import environment
from tools.cost import models
from tools.serving import benchmark_models

FLAGS = flags.FLAGS

VANILLA, HUGGING_FACE = "vanilla", "Hugging Face"
_WORKER = "tools/serving/benchmark_worker.py"
_GLANCE = 0.05  # seconds between two looks at a process
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MTF = """
import json, sys
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import hypergrid_mtf, t5_tasks, t5.models
from t5_tasks import vocabularies
asked = json.loads(sys.argv[1])
vocabulary = vocabularies.get_vocabulary("bytes", asked["extra_ids"])
model = t5.models.MtfModel(
  model_dir=asked["model_dir"], tpu=None, batch_size=asked["batch"],
  sequence_length={"inputs": asked["inputs"], "targets": asked["outputs"]},
  extra_gin_bindings=[
    f"Bitransformer.decode.max_decode_length = {asked['outputs']}"])
model.predict(
  asked["path"], asked["output"], checkpoint_steps=-1, beam_size=1,
  temperature=0.0, vocabulary=vocabulary)
"""


class Served:
  """The parent's end of a worker; a context manager that ends it."""

  def __init__(self, name: str, kind: str, folder: str, log: str):
    """Starts the process and waits for its model.

    Args:
      name: in the table.
      kind: of `benchmark_worker`.
      folder: of the model.
      log: the file that takes what its libraries print.
    """
    self.name, self._log = name, log
    worker = os.path.join(environment.ROOT, _WORKER)
    with open(log, "w") as f:
      self._process = subprocess.Popen(
        # Not its folder, nor this project's, on the path.
        [
          sys.executable,
          "-c",
          f"import runpy; runpy.run_path({worker!r}, run_name='__main__')",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=f,
        text=True,
        cwd=os.path.dirname(log),
      )
    self.load = self._ask({"kind": kind, "folder": folder})

  def __enter__(self):
    return self

  def __exit__(self, *unused_exception):
    self._process.kill()
    self._process.communicate()

  def answer(self, texts: list[str], tokens: int) -> dict:
    """`seconds` of one batch, and `peak_bytes` so far."""
    found = self._ask({"texts": texts, "tokens": tokens})
    assert found["full"], "an answer ended, and less work was done"
    peak = environment.peak_memory(self._process.pid)
    return {"seconds": found["seconds"], "peak_bytes": peak}

  def _ask(self, question: dict) -> dict:
    stdin, stdout = self._process.stdin, self._process.stdout
    assert stdin and stdout
    try:
      stdin.write(json.dumps(question) + "\n")
      stdin.flush()
      line = stdout.readline()
    except BrokenPipeError:
      line = ""
    if not line:
      with open(self._log) as f:
        said = f.read()[-500:]
      raise errors.UserError(f"the process of {self.name} ended: {said}")
    return json.loads(line)


def texts(count: int, tokens: int) -> list[str]:
  """Random texts of so many tokens, with their end."""
  rng = random.Random(0)
  return ["".join(rng.choices(_LETTERS, k=tokens - 1)) for _ in range(count)]


def measure(served: list[Served], batches, rounds: int, tokens: dict) -> dict:
  """Seconds of each model and batch, in turns.

  Args:
    served: models that are loaded.
    batches: numbers of rows.
    rounds: measured ones; one more comes before.
    tokens: of "inputs" and "outputs".

  Returns:
    {batch: {model: {"seconds": […], "peak_bytes": …}}}
  """
  found: dict = {}
  total = len(batches) * (rounds + 1) * len(served)
  with console.progress_bar(total, "benchmark", "batch") as bar:
    for batch in batches:
      rows = texts(batch, tokens["inputs"])
      found[batch] = {s.name: {"seconds": []} for s in served}
      for turn in range(rounds + 1):
        at = turn % len(served)
        for one in served[at:] + served[:at]:
          bar.set_postfix_str(f"{batch} rows, {one.name}", refresh=False)
          said = one.answer(rows, tokens["outputs"])
          entry = found[batch][one.name]
          if turn:
            entry["seconds"].append(said["seconds"])
          entry["peak_bytes"] = said["peak_bytes"]
          bar.update()
  return found


def ratio(over: list[float], under: list[float]) -> dict:
  """The median of ratios of one round, least and greatest."""
  each = [a / b for a, b in zip(over, under, strict=True)]
  return {"median": statistics.median(each), "range": [min(each), max(each)]}


def to_text(found: dict, others) -> str:
  """A table of `measure`.

  Args:
    found: from it.
    others: models whose ratios are wanted, (over, under) each.
  """
  lines = ["batch  model            median s  peak GB"]
  for batch, by_model in found.items():
    for name, entry in by_model.items():
      lines.append(
        f"{batch:>5}  {name:<15} {statistics.median(entry['seconds']):>9.3f}"
        f"  {entry['peak_bytes'] / 1e9:>7.2f}"
      )
    for over, under in others:
      r = ratio(by_model[over]["seconds"], by_model[under]["seconds"])
      lines.append(
        f"       {over} / {under}: {r['median']:.3f} "
        f"({r['range'][0]:.2f} to {r['range'][1]:.2f})"
      )
  return "\n".join(lines)


def _timed(arguments: list[str]) -> dict:
  """Seconds and peak memory of a process, from its start to its end."""
  before = _cpu_seconds_of_children()
  start, peak = time.perf_counter(), 0
  with tempfile.TemporaryFile() as log:
    process = subprocess.Popen(
      [sys.executable, *arguments],
      env=environment.of_child(),
      cwd=environment.ROOT,
      stdout=log,
      stderr=log,
    )
    while process.poll() is None:
      with contextlib.suppress(KeyError):  # it ended: no memory is left
        peak = max(peak, environment.peak_memory(process.pid))
      time.sleep(_GLANCE)
    seconds = time.perf_counter() - start
    if process.returncode:
      log.seek(0)
      said = log.read().decode("utf-8", "replace")[-500:]
      raise errors.UserError(f"{arguments[:2]} fails: {said}")
  return {
    "seconds": seconds,
    "cpu_seconds": _cpu_seconds_of_children() - before,
    "peak_bytes": peak,
  }


def _cpu_seconds_of_children() -> float:
  """Of those that ended."""
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def predictions(saved_model: str, model_dir: str, root: str) -> dict:
  """`tools.predict` and `MtfModel.predict` on one file.

  Args:
    saved_model: of the first.
    model_dir: of the second.
    root: for files.

  Returns:
    {program: as `_timed`}
  """
  rng = random.Random(0)
  path = os.path.join(root, "inputs")
  with open(path, "w") as f:
    for _ in range(FLAGS.predict):
      length = rng.randint(FLAGS.input_tokens // 8, FLAGS.input_tokens)
      f.write("".join(rng.choices(_LETTERS, k=length - 1)) + "\n")
  ours = os.path.join(root, "ours")
  found: dict = {
    "tools.predict": _timed(
      [
        "-m",
        "tools.predict",
        f"--saved_model={saved_model}",
        f"--input_file={path}",
        f"--output_file={ours}",
      ]
    )
  }
  asked = {
    "model_dir": model_dir,
    "path": path,
    "output": os.path.join(root, "theirs"),
    "batch": 32,
    "inputs": FLAGS.mtf_tokens or FLAGS.input_tokens,
    "outputs": FLAGS.output_tokens,
    "extra_ids": benchmark_models.EXTRA_IDS,
  }
  found["MtfModel.predict"] = _timed(["-c", _MTF, json.dumps(asked)])
  return found


def main(argv) -> None:
  """Measures, prints and writes.

  Args:
    argv: unused.

  Raises:
    UserError: for what the user can put right.
  """
  del argv
  models.choose("size", [FLAGS.size], models.sizes())
  models.choose("variant", [FLAGS.variant], ["L2", "LG", "GL", "GG"])
  files.check_output(FLAGS.output)
  batches = [models.positive("batches", text) for text in FLAGS.batches]
  tokens = {"inputs": FLAGS.input_tokens, "outputs": FLAGS.output_tokens}
  result: dict = {"size": FLAGS.size, "tokens": tokens}
  with tempfile.TemporaryDirectory() as root:
    folders = {}
    for variant in (VANILLA, FLAGS.variant):
      folder = os.path.join(root, variant)
      os.makedirs(folder)
      sizes = benchmark_models.write(
        folder, FLAGS.size, variant, tokens["inputs"], tokens["outputs"]
      )
      folders[variant] = benchmark_models.export(folder, f"{folder}_saved")
      console.say(f"exported {variant}")
      if variant == VANILLA and FLAGS.hugging_face:
        theirs = os.path.join(root, "hugging_face")
        os.makedirs(theirs)
        benchmark_models.to_hugging_face(folder, sizes, theirs)
    if batches:
      served = []
      try:
        for name, kind, folder in (
          (VANILLA, "saved_model", folders[VANILLA]),
          (FLAGS.variant, "saved_model", folders[FLAGS.variant]),
          (HUGGING_FACE, "hugging_face", os.path.join(root, "hugging_face")),
        ):
          if kind == "saved_model" or FLAGS.hugging_face:
            log = os.path.join(root, f"{kind}.log")
            served.append(Served(name, kind, folder, log))
        found = measure(served, batches, FLAGS.rounds, tokens)
      finally:
        for one in served:
          one.__exit__()
      others = [(FLAGS.variant, VANILLA)]
      if FLAGS.hugging_face:
        others += [(VANILLA, HUGGING_FACE), (FLAGS.variant, HUGGING_FACE)]
      console.say(to_text(found, others))
      result["batches"] = found
    if FLAGS.predict:
      result["predict"] = predictions(
        folders[FLAGS.variant], os.path.join(root, FLAGS.variant), root
      )
      for name, entry in result["predict"].items():
        console.say(
          f"{name}: {entry['seconds']:.1f} s, "
          f"{entry['cpu_seconds']:.1f} s of CPU, "
          f"{entry['peak_bytes'] / 1e9:.2f} GB"
        )
  files.write(FLAGS.output, json.dumps(result, indent=1) + "\n")
  console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("size", "base", "One of operative_configs/models.")
  flags.DEFINE_string("variant", "L2", "The gated model.")
  flags.DEFINE_list("batches", ["1", "8", "32"], "Rows at once.")
  flags.DEFINE_integer("rounds", 5, "Measured rounds.", lower_bound=1)
  flags.DEFINE_integer("input_tokens", 64, "Of each input.", lower_bound=16)
  flags.DEFINE_integer("output_tokens", 16, "Of each answer.", lower_bound=1)
  flags.DEFINE_bool("hugging_face", True, "Also transformers' TensorFlow T5.")
  flags.DEFINE_integer(
    "predict",
    0,
    "Inputs of a file for tools.predict and MtfModel.predict.",
    lower_bound=0,
  )
  flags.DEFINE_integer(
    "mtf_tokens",
    0,
    "Length of MtfModel's rows; 0 for --input_tokens.",
    lower_bound=0,
  )
  flags.DEFINE_string("output", "serving_benchmark.json", "What is written.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
