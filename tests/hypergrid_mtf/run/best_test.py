"""Which checkpoint is kept as the best, and when a training stops."""

import json
import types

import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import best, estimator
from hypergrid_mtf.run.checks import config
from tests import testing
from tests.hypergrid_mtf.run import configuration

NAN = float("nan")


def test_an_average_weighs_tasks_and_not_metrics():
  scores = {"a": {"f1": 80.0, "accuracy": 90.0}, "b": {"accuracy": 25.0}}
  assert best.average(scores) == pytest.approx((85 + 25) / 2)
  assert best.average({}) != best.average({})  # nan


@pytest.fixture
def saved(tmp_path, monkeypatch, capsys):
  """Calls a listener after checkpoints that are worth so much."""
  testing.write_checkpoint(tmp_path, {"w": (2,)}, steps=range(10, 80, 10))
  (tmp_path / "operative_config.gin").write_text("d_model = 2\n")

  def save(values: dict[int, float], patience=None, began=0):
    run = types.SimpleNamespace(
      model_dir=str(tmp_path),
      began=began,
      flags=types.SimpleNamespace(patience=patience),
    )
    listener = best.EvaluateListener(run, estimator.Progress())
    stops = {}
    for step, value in values.items():
      scores = value and {"task": {"accuracy": value}}
      monkeypatch.setattr(listener, "_evaluate", lambda _, s=scores: s)
      stops[step] = listener.after_save(None, step)
    path = tmp_path / "best.json"
    found = json.loads(path.read_text()) if path.exists() else None
    stopped = [step for step, stop in stops.items() if stop]
    return found, stopped, capsys.readouterr().out

  return save


def test_the_best_is_kept_and_named(saved, tmp_path):
  found, stopped, said = saved({10: 50.0, 20: 70.0, 30: 60.0})
  assert found == {
    "step": 20,
    "average": 70.0,
    "metrics": {"task": {"accuracy": 70.0}},
    "evaluations": [[10, 50.0], [20, 70.0], [30, 60.0]],
  }
  assert not stopped
  assert "step 20  average  70  (the best so far)" in said
  assert "step 30  average  60  (best: 70 at step 20)" in said
  assert sorted(p.name for p in (tmp_path / "best").iterdir()) == [
    "checkpoint",
    "model.ckpt-20.data-00000-of-00001",
    "model.ckpt-20.index",
    "operative_config.gin",
  ]
  assert "model.ckpt-20" in (tmp_path / "best/checkpoint").read_text()


def test_training_ends_where_nothing_gets_better(saved):
  values = {10: 50.0, 20: 40.0, 30: 60.0, 40: 60.0, 50: 20.0}
  found, stopped, said = saved(values, patience=2)
  assert stopped == [50] and found["step"] == 30
  assert "(--patience): stopping at step 50" in said


def test_a_training_that_resumes_knows_what_was_evaluated(saved):
  saved({10: 50.0, 20: 40.0})
  # Step 20 is saved again as it begins; of SIGTERM there are no scores.
  found, stopped, _ = saved({20: 99.0, 30: None, 40: 30.0}, patience=2)
  assert found["step"] == 10 and stopped == [40]
  assert [step for step, _ in found["evaluations"]] == [10, 20, 40]


def test_nothing_is_evaluated_before_a_step_was_trained(saved):
  assert saved({10: 50.0}, began=10)[0] is None


def test_what_has_no_value_is_never_better(saved):
  found, _, _ = saved({10: NAN, 20: NAN, 30: 5.0, 40: NAN})
  assert found["step"] == 30
  assert found["evaluations"][0] == [10, None]  # JSON has no nan


@pytest.mark.parametrize(
  ("given", "says"),
  [
    (["--patience=3"], "--patience=3 must be .* needs --evaluate"),
    (["--evaluate", "--patience=0"], "--patience=0 must be a positive"),
    (["--evaluate", "run.mode = 'export_infer'"], "--evaluate is for train"),
    (
      ["--evaluate", "--tpu=local", "tpu_mesh_shape.tpu_topology = 'v3-8'"],
      "and a TPU cannot be shared",
    ),
  ],
)
def test_what_cannot_be_evaluated_is_refused(given, says):
  run = configuration.make_run(*given)
  with pytest.raises(errors.UserError, match=says):
    config.check_flags(run)
