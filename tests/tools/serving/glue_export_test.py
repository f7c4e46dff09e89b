"""A SavedModel of a model of real GLUE, beside t5's own MtfModel.

Minutes, so a target of its own: `make serving-test`. Set HYPERGRID_TEST_MODEL
to the model_dir of a trained model to take that one in place of a new one.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests import command

pytestmark = pytest.mark.slow

LIMITS = {"inputs": 128, "outputs": 16}
MINIMUM = 500
# Each way to decode: (flags of tools.export, arguments of MtfModel.predict).
WAYS = {
  "greedy": ([], {}),
  "beam": (["--beam_size=4"], {"beam_size": 4}),
}

# t5's own model: answers, and scores of the same targets for all.
_T5 = """
import json, sys
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import hypergrid_mtf, t5_tasks, t5.models
from t5_tasks import vocabularies
asked = json.loads(sys.argv[1])
folder, limits = asked["folder"], asked["limits"]
vocabulary = vocabularies.get_vocabulary(asked["vocabulary"])
model = t5.models.MtfModel(
  model_dir=asked["model_dir"],
  tpu=None,
  batch_size=asked["batch"],
  sequence_length={"inputs": limits["inputs"], "targets": limits["outputs"]},
  extra_gin_bindings=[
    f"Bitransformer.decode.max_decode_length = {limits['outputs']}"],
)
for name, how in asked["ways"].items():
  model.predict(
    f"{folder}/inputs", f"{folder}/{name}", checkpoint_steps=-1,
    vocabulary=vocabulary, **{"beam_size": 1, "temperature": 0.0, **how})
scores, _ = model.score(
  inputs=f"{folder}/inputs", targets=f"{folder}/targets",
  scores_file=f"{folder}/t5", checkpoint_steps=-1, vocabulary=vocabulary)
with open(f"{folder}/scores.json", "w") as f:
  json.dump([float(s) for s in scores], f)
"""

# What a server has, and no more.
_SERVER = """
import json, sys, warnings
import tensorflow as tf
import tensorflow_text
folder, paths, batches = json.loads(sys.argv[1])
inputs, targets = (
  open(f"{folder}/{n}", encoding="utf-8").read().split("\\n")[:-1]
  for n in ("inputs", "targets"))
found = {}
for name, path in paths.items():
  print("loading", file=sys.stderr, flush=True)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loaded = tf.saved_model.load(path)
  print("loaded", file=sys.stderr, flush=True)
  found[name] = {"warnings": [str(w.message) for w in caught]}
  for size in batches if name == "greedy" else batches[-1:]:
    rows = {"outputs": [], "scores": [], "given": []}
    for i in range(0, len(inputs), size):
      some = tf.constant(inputs[i : i + size])
      answers = loaded.signatures["serving_default"](inputs=some)
      rows["outputs"] += [o.decode() for o in answers["outputs"].numpy()]
      rows["scores"] += answers["scores"].numpy().tolist()
      wanted = tf.constant(targets[i : i + size])
      given = loaded.signatures["score"](inputs=some, targets=wanted)
      rows["given"] += given["scores"].numpy().tolist()
    found[name][str(size)] = rows
  variables = loaded.signatures["serving_default"].variables
  found[name]["resource"] = all(
    v.handle.dtype == tf.resource for v in loaded.weights)
ours = [m for m in sys.modules if m.split(".")[0] in (
  "hypergrid_mtf", "t5_tasks", "tools", "t5", "seqio", "mesh_tensorflow")]
found["modules"] = ours
with open(f"{folder}/server.json", "w") as f:
  json.dump(found, f)
"""


def _run(script, argument, **environment):
  done = subprocess.run(
    [sys.executable, "-c", script, json.dumps(argument)],
    cwd=command.ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stderr


_INPUTS = """
import json, sys
import hypergrid_mtf, seqio, t5_tasks
asked = json.loads(sys.argv[1])
seqio.set_tfds_data_dir_override(asked["data"])
lines = []
for name in ("cola", "sst2", "mrpc", "stsb", "rte"):
  task = seqio.TaskRegistry.get(f"glue_{name}_v002")
  source = task.source.get_dataset("validation", shuffle=False)
  dataset = task.preprocessors[0](source.take(asked["each"]))
  lines += [e["inputs"].decode() for e in dataset.as_numpy_iterator()]
with open(asked["path"], "w", encoding="utf-8") as f:
  f.writelines(" ".join(line.split()) + "\\n" for line in lines)
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory, shared_data):
  """Folder, model_dir, vocabulary and TFDS data of a small model."""
  root = tmp_path_factory.mktemp("glue")
  model_dir = os.environ.get("HYPERGRID_TEST_MODEL")
  data = root / "data"
  made = command.tool(
    "prepare_data", f"--glue_dir={shared_data / 'glue'}", f"--tfds_dir={data}"
  )
  assert made.returncode == 0, made.stderr
  if model_dir:
    with open(f"{model_dir}/vocabulary.json") as f:
      facts = json.load(f)["inputs"]
    vocabulary = facts["given_by"].removeprefix("--vocabulary=").split(",")[0]
    return root, model_dir, vocabulary, data
  vocabulary = root / "vocabulary"
  mixture = f"--gin_file={data}/local_mixture.gin"
  made = command.tool(
    "train_vocabulary",
    "--mixture=local_v1",
    "--size=2000",
    mixture,
    f"--t5_tfds_data_dir={data}",
    f"--output={vocabulary}",
  )
  assert made.returncode == 0, made.stderr
  model_dir = root / "model"
  command.run(
    [
      f"--model_dir={model_dir}",
      "--seed=1",
      "--gin_file=models/nano.gin",
      "--gin_file=hypergrid/L2.gin",
      "--gin_file=experiments/local_glue.gin",
      mixture,
      f"--t5_tfds_data_dir={data}",
      f"--vocabulary={vocabulary}/sentencepiece.model",
      "--gin_param=run.train_steps = 300",
      "--gin_param=run.save_checkpoints_steps = 300",
    ]
  )
  return root, str(model_dir), f"{vocabulary}/sentencepiece.model", data


def test_a_fresh_process_answers_and_scores_as_t5(setting, capsys):
  root, model_dir, vocabulary, data = setting
  path = str(root / "inputs")
  _run(_INPUTS, {"data": str(data), "each": 120, "path": path})
  with open(path, encoding="utf-8") as f:
    count = len(f.read().split("\n")) - 1
  assert count >= MINIMUM
  labels = ["acceptable", "positive", "equivalent", "3.4", "entailment"]
  (root / "targets").write_text(
    "".join(f"{labels[i % 5]}\n" for i in range(count))
  )
  paths = {}
  for name, (given, _) in WAYS.items():
    made = command.tool(
      "export",
      f"--model_dir={model_dir}",
      f"--output_dir={root}/exports/{name}",
      f"--max_input_tokens={LIMITS['inputs']}",
      f"--max_output_tokens={LIMITS['outputs']}",
      f"--max_target_tokens={LIMITS['outputs']}",
      *given,
    )
    assert made.returncode == 0, made.stderr
    (step,) = (p for p in (root / "exports" / name).iterdir() if p.is_dir())
    paths[name] = str(step)
  said = _run(_SERVER, [str(root), paths, [1, 7, 64]], PYTHONPATH="")
  with open(root / "server.json") as f:
    server = json.load(f)
  assert server["modules"] == []
  between = [part.split("loaded\n")[0] for part in said.split("loading\n")[1:]]
  assert between == ["", ""], between  # no warning
  ways = {name: how for name, (_, how) in WAYS.items()}
  _run(
    _T5,
    {
      "folder": str(root),
      "limits": LIMITS,
      "vocabulary": vocabulary,
      "model_dir": model_dir,
      "batch": 64,
      "ways": ways,
    },
  )
  with open(root / "scores.json") as f:
    t5_scores = np.array(json.load(f))
  assert len(t5_scores) == count
  summary = [f"{count} inputs of {model_dir}"]
  for name in WAYS:
    (outputs,) = root.glob(f"{name}-*")
    expected = outputs.read_text(encoding="utf-8").split("\n")[:-1]
    assert not server[name]["warnings"] and server[name]["resource"]
    for size in ("1", "7", "64") if name == "greedy" else ("64",):
      found = server[name][size]
      assert found["outputs"] == expected, (name, size)
      apart = np.abs(np.array(found["given"]) - t5_scores).max()
      assert apart <= 1e-4
      summary.append(
        f"{name}, batches of {size}: {count} answers equal "
        f"({len(set(expected))} different), scores at most {apart:.2g} apart"
      )
  with capsys.disabled():
    print("\n" + "\n".join(summary))
