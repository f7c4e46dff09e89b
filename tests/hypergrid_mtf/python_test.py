"""The model from Python: the code of docs/python.md, run unchanged."""

import json
import math
import re

import pytest
import seqio
import tensorflow as tf

from t5_tasks import embedded
from tests import command
from tools.experiments import decoded

pytestmark = pytest.mark.slow

_AFTER = """
import json
print(json.dumps([[float(s) for s in scores], tf.compat.as_text(folder)]))
"""


def _run(code: str, folder) -> str:
  """What a program prints that is started in a folder."""
  done = command.python(*("-c", code), cwd=folder, PYTHONPATH=str(command.ROOT))
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def _programs() -> list[str]:
  """Those of the page."""
  page = (command.ROOT / "docs" / "python.md").read_text()
  return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def test_a_model_is_trained_read_and_exported(tmp_path):
  more = """
import json
from hypergrid_mtf import errors
refused = []
for call in (
  lambda: model.predict(["two\\nlines"]),
  lambda: model.train("no_such_task"),
  lambda: Model("runs/l3", "nano", "L3").train(),
  lambda: model.score(["one"], []),
  lambda: mine.train(frame.rename(columns={"targets": "labels"})),
  lambda: mine.train(frame.mask(frame == "B")),
  lambda: model.predict("copy: ab"),
  lambda: Model("runs/shout", options=["--no_such_flag"]).evaluate(),
  lambda: Model("runs/none").gates(),
  lambda: model.gates(split="dev"),
):
  try:
    call()
  except errors.UserError as e:
    refused.append(str(e))
print(json.dumps(dict(
  scores=scores.to_dict("records"), answers=answers, likelihoods=likelihoods,
  folder=folder, loud=loud, refused=refused, height=picture.get_figheight(),
)))
"""
  program, _ = _programs()
  printed = _run(program + more, tmp_path)
  assert "trained 20 steps" in printed  # no output is swallowed
  assert "infer: done\n" in printed  # and no file is named that is gone
  made = json.loads(printed.splitlines()[-1])
  tasks = seqio.get_mixture_or_task(embedded.MIXTURE).tasks
  assert {row["task"] for row in made["scores"]} == {t.name for t in tasks}
  assert all(row["step"] == 20 for row in made["scores"])
  assert len(made["answers"]) == 2 and len(made["loud"]) == 1
  assert made["likelihoods"][0] < 0
  assert made["height"] > 8  # of eight tasks
  log = (tmp_path / "runs" / "l2" / "hypergrid_mtf.log").read_text()
  assert "eval_on_tpu ignored" in log
  served = tf.saved_model.load(str(tmp_path / made["folder"]))
  answer = served.signatures["serving_default"]
  found = answer(inputs=tf.constant(["reverse: abcd", "copy: ab"]))
  texts = [a.decode() for a in found["outputs"].numpy()]
  assert texts == made["answers"]
  named = ["line break", "no_such_task", "L3.gin", "0 targets", "'targets'"]
  named += ["no text in row 1", "'copy: ab' is one text"]
  named += ["no_such_flag", "runs/none", "has a split 'dev'"]
  for sentence, part in zip(made["refused"], named, strict=True):
    assert part in sentence, sentence
  # As the command line finds it.
  done = command.python(
    *("-m", "hypergrid_mtf.main", "--model_dir=runs/shout"),
    *("--gin_file=experiments/local_eval.gin",),
    cwd=tmp_path,
    PYTHONPATH=str(command.ROOT),
  )
  assert "shout  accuracy" in done.stdout, done.stderr[-3000:]


def test_t5s_model_trains_evaluates_and_exports(tmp_path):
  _, program = _programs()
  _run(program + _AFTER, tmp_path)
  for path in ("model/model.ckpt-4", "finetuned/model.ckpt-6"):  # 4 + 2
    assert (tmp_path / f"{path}.index").exists()
  answers = decoded.read_lines(str(tmp_path / "answers-4"))
  assert len(answers) == 2
  (score,) = map(float, decoded.read_lines(str(tmp_path / "scored.scores")))
  assert math.isfinite(score) and score < 0
  folder = tmp_path / "model" / "validation_eval"
  steps = {
    event.step
    for path in folder.glob("events.*")
    for event in tf.compat.v1.train.summary_iterator(str(path))
    if event.summary.value
  }
  assert steps == {0, 4}  # each once, in order
  for step in steps:
    path = folder / f"embedded_copy_v1_{step}_predictions"
    assert decoded.read_lines(str(path))
  served = tf.saved_model.load(str(next((tmp_path / "export").iterdir())))
  answer = served.signatures["serving_default"]
  found = answer(inputs=tf.constant(["reverse: abcd", "copy: ab"]))
  assert [a.decode() for a in found["outputs"].numpy()] == answers
