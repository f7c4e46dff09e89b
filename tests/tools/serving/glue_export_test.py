"""SavedModels of real GLUE and of the embedded tasks, next to t5's MtfModel.

Minutes, so a target of its own: `make serving-test`.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import seqio

from t5_tasks import embedded
from tests import command
from tests.tools.serving import glue_models

pytestmark = pytest.mark.slow

LIMITS = {"inputs": 128, "outputs": 16}
# Each way to decode: (flags of tools.export, arguments of MtfModel.predict).
WAYS = {
  "greedy": ([], {}),
  "beam": (["--beam_size=4"], {"beam_size": 4}),
  "wide": (["--beam_size=16"], {"beam_size": 16}),
  "all_tokens": (["--beam_size=4", "--num_prefilter=0"], {"beam_size": 4}),
}
# Ways of a model, and how many of its answers must differ.
MODELS = {"glue_l2": (("greedy", "beam"), 4), "embedded_vanilla": (WAYS, 150)}

# t5's own model: answers, and scores of the same targets for all.
_T5 = """
import json, sys
import gin
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
  if name == "all_tokens":
    with gin.unlock_config():
      gin.bind_parameter("beam_search.num_prefilter", 0)
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


def _real_inputs(each: int) -> list[str]:
  """Inputs of each GLUE task, one a line."""
  found = []
  for name in glue_models.GLUE:
    task = seqio.TaskRegistry.get(f"glue_{name}_v002")
    rows = task.source.get_dataset("validation", shuffle=False).take(each)
    found += [
      " ".join(example["inputs"].decode().split())
      for example in task.preprocessors[0](rows).as_numpy_iterator()
    ]
  return found


@pytest.mark.parametrize("model", MODELS)
def test_a_fresh_process_answers_and_scores_as_t5(
  trained_models, tmp_path, capsys, model
):
  root, model_dir = tmp_path, trained_models.folder(model)
  names, different = MODELS[model]
  if model == "glue_l2":
    inputs, vocabulary = _real_inputs(120), trained_models.vocabulary
    labels = ["acceptable", "positive", "equivalent", "3.4", "entailment"]
  else:
    strings, vocabulary = embedded.strings("validation"), "bytes"
    inputs = [f"{f}: {s}" for f in embedded.FUNCTIONS for s in strings[:40]]
    labels = list(strings[:5])
  count = len(inputs)
  assert count >= (500 if model == "glue_l2" else 300)
  (root / "inputs").write_text("".join(f"{text}\n" for text in inputs))
  (root / "targets").write_text(
    "".join(f"{labels[i % 5]}\n" for i in range(count))
  )
  paths = {}
  for name in names:
    made = command.tool(
      "export",
      f"--model_dir={model_dir}",
      f"--output_dir={root}/exports/{name}",
      f"--max_input_tokens={LIMITS['inputs']}",
      f"--max_output_tokens={LIMITS['outputs']}",
      f"--max_target_tokens={LIMITS['outputs']}",
      *WAYS[name][0],
    )
    assert made.returncode == 0, made.stderr
    (step,) = (p for p in (root / "exports" / name).iterdir() if p.is_dir())
    paths[name] = str(step)
  said = _run(_SERVER, [str(root), paths, [1, 7, 64]], PYTHONPATH="")
  with open(root / "server.json") as f:
    server = json.load(f)
  assert server["modules"] == []
  between = [part.split("loaded\n")[0] for part in said.split("loading\n")[1:]]
  assert between == [""] * len(paths), between  # no warning
  _run(
    _T5,
    {
      "folder": str(root),
      "limits": LIMITS,
      "vocabulary": vocabulary,
      "model_dir": model_dir,
      "batch": 64,
      "ways": {name: WAYS[name][1] for name in names},
    },
  )
  with open(root / "scores.json") as f:
    t5_scores = np.array(json.load(f))
  assert len(t5_scores) == count
  summary = [f"{count} inputs of {model_dir}"]
  answers = {}
  for name in names:
    (outputs,) = root.glob(f"{name}-*")
    expected = outputs.read_text(encoding="utf-8").split("\n")[:-1]
    answers[name] = expected
    assert len(set(expected)) >= different
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
  if "all_tokens" in names:  # so the test sees which tokens compete
    assert answers["all_tokens"] != answers["beam"]
  with capsys.disabled():
    print("\n" + "\n".join(summary))
