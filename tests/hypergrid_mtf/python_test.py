"""The model from Python: the code of docs/python.md, run as it stands there."""

import math
import re

import pytest
import tensorflow as tf

from tests import command
from tools.experiments import decoded

pytestmark = pytest.mark.slow

_AFTER = """
import json
print(json.dumps([[float(s) for s in scores], tf.compat.as_text(folder)]))
"""


def test_t5s_model_trains_evaluates_and_exports(tmp_path):
  page = (command.ROOT / "docs" / "python.md").read_text()
  (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  done = command.python(
    *("-c", code + _AFTER), cwd=tmp_path, PYTHONPATH=str(command.ROOT)
  )
  assert done.returncode == 0, done.stderr[-3000:]
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
