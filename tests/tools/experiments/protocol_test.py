"""Choice of checkpoints and averages, against t5.evaluation.eval_utils."""

import inspect

import mesh_tensorflow as mtf
import numpy as np
import pandas as pd
import pytest
from mesh_tensorflow.transformer import transformer
from t5.evaluation import eval_utils
from t5.models import mesh_transformer

from t5_tasks import benchmarks
from tools.experiments import protocol

MATCHED, MISMATCHED = "glue_mnli_matched_v002", "glue_mnli_mismatched_v002"


def _glue_tags():
  return [
    tag
    for tag in eval_utils.METRIC_NAMES
    if "glue" in tag and "average" not in tag
  ]


def _random_metrics(steps=(10, 20, 30, 40)):
  """Of every task of both benchmarks."""
  rng = np.random.default_rng(0)
  metrics = {}
  for tag in _glue_tags():
    task, metric = tag.split("/")
    metrics.setdefault(task, {})[metric] = {
      str(s): float(rng.uniform(0, 100)) for s in steps
    }
  return metrics


def test_the_best_checkpoint_is_t5s():
  metrics = _random_metrics()
  names = {tag: eval_utils.METRIC_NAMES[tag] for tag in _glue_tags()}
  scores = {
    tag: [
      (int(step), value)
      for step, value in metrics[tag.split("/")[0]][tag.split("/")[1]].items()
    ]
    for tag in names
  }
  frame = eval_utils.scores_to_df(scores, names)
  best, steps = eval_utils.metric_group_max(frame, names)
  ours = protocol.chosen_steps(metrics, "best")
  for tag, name in names.items():
    task, metric = tag.split("/")
    assert ours[task] == str(steps[name.name])
    assert metrics[task][metric][ours[task]] == best[name.name]
  # MNLI's two sets have one checkpoint, though each alone has another.
  assert ours[MATCHED] == ours[MISMATCHED]
  assert set(protocol.chosen_steps(metrics, "last").values()) == {"40"}


def test_averages_of_whole_benchmarks_are_t5s():
  scores = {
    tuple(tag.split("/")): float(value)
    for tag, value in zip(
      _glue_tags(), np.random.default_rng(1).uniform(0, 100, 99), strict=False
    )
  }
  frame = pd.DataFrame(
    {
      eval_utils.METRIC_NAMES["/".join(key)].name: [value]
      for key, value in scores.items()
    }
  )
  t5s = eval_utils.compute_avg_glue(frame)
  ours = benchmarks.averages(scores)
  assert ours == {
    "GLUE, 8 of 8 tasks": pytest.approx(t5s["Average GLUE Score"][0]),
    "SuperGLUE, 8 of 8 tasks": pytest.approx(t5s["Average SuperGLUE Score"][0]),
    "all 16 tasks": pytest.approx(sum(ours.values()) / 3),
  }


def test_averages_of_parts_and_of_other_tasks():
  scores = {
    (MATCHED, "accuracy"): 80.0,
    (MISMATCHED, "accuracy"): 70.0,
    ("glue_mrpc_v002", "f1"): 90.0,
    ("glue_mrpc_v002", "accuracy"): 80.0,
    ("super_glue_rte_v102_task_token", "accuracy"): 60.0,
    ("my_task", "accuracy"): 10.0,
    # T5 does not average over WNLI.
    ("glue_wnli_v002_simple_eval", "accuracy"): 30.0,
  }
  assert benchmarks.averages(scores) == {
    "GLUE, 2 of 8 tasks": (75 + 85) / 2,
    "SuperGLUE, 1 of 8 tasks": 60.0,
    "other tasks (2)": 20.0,
    "all 5 tasks": (75 + 85 + 60 + 10 + 30) / 5,
  }


def test_the_best_is_the_earliest_of_equals_by_the_mean_of_the_metrics():
  metrics = {
    "my_task": {
      "f1": {"10": 1.0, "20": 3.0, "30": 2.0},
      "accuracy": {"10": 1.0, "20": 2.0, "30": 3.0},
    },
    "glue_rte_v002_task_token": {"accuracy": {"10": 5.0, "20": 1.0, "30": 5.0}},
  }
  best = {"my_task": "20", "glue_rte_v002_task_token": "10"}
  assert protocol.chosen_steps(metrics, "best") == best


def test_one_checkpoint_for_all_is_the_best_by_the_average():
  """Of those at which every task was evaluated."""
  metrics = {
    "my_task": {"accuracy": {"9": 90.0, "10": 5.0, "20": 2.0, "30": 3.0}},
    "glue_rte_v002": {"accuracy": {"10": 1.0, "20": 6.0, "30": 5.0}},
  }
  for value, best in ((6.0, "20"), (float("nan"), "30")):
    metrics["glue_rte_v002"]["accuracy"]["20"] = value
    assert set(protocol.chosen_steps(metrics, "one").values()) == {best}
  nans = {"a": {"f1": {"10": float("nan"), "20": float("nan")}}}
  assert protocol.chosen_steps(nans, "one") == {"a": "20"}


def test_what_is_no_number_is_not_the_best():
  values = {"10": float("nan"), "20": 1.0, "30": float("nan")}
  metrics = {"glue_stsb_v002": {"pearson_corrcoef": values}}
  assert protocol.chosen_steps(metrics, "best") == {"glue_stsb_v002": "20"}


def test_a_binding_that_says_the_default_makes_no_other_protocol():
  greedy = {"run.dataset_split": "'validation'"}
  said = {**greedy, "Bitransformer.decode.beam_size": "1"}
  assert protocol.difference(greedy, said) is None
  beam = {**greedy, "Bitransformer.decode.beam_size": "4"}
  key = "Bitransformer.decode.beam_size"
  assert protocol.difference(beam, greedy) == key
  limited = {**greedy, "Bitransformer.decode.max_decode_length": "16"}
  key = "Bitransformer.decode.max_decode_length"
  assert protocol.difference(limited, said) == key


def test_the_defaults_are_those_of_mesh_tensorflow():
  functions = {
    "Bitransformer.decode": transformer.Bitransformer.decode,
    "beam_search": mtf.beam_search.beam_search,
    "mesh_eval_dataset_fn": mesh_transformer.mesh_eval_dataset_fn,
  }
  for name, text in protocol._DEFAULTS.items():
    function, parameter = name.rsplit(".", 1)
    found = inspect.signature(functions[function]).parameters[parameter]
    assert str(found.default) == text
