"""Metrics of answers and of scores, and hidden labels."""

import json
import warnings

import numpy as np
import pytest
import seqio
from mesh_tensorflow.transformer import dataset as transformer_dataset
from mesh_tensorflow.transformer import utils
from t5.evaluation import metrics

import t5_tasks  # noqa: F401  (registers the tasks)
from hypergrid_mtf.run import estimator, evaluation

RANK, ACCURACY = metrics.rank_classification, metrics.accuracy


def test_a_metric_is_computed_of_what_it_takes(capsys):
  both = [ACCURACY, RANK]
  assert evaluation.metrics(both, "both", "test", scored=True) == [RANK]
  (of_answers,) = evaluation.metrics(both, "both", "test", scored=False)
  assert of_answers(["a"], ["a"]) == {"accuracy": 100}
  assert evaluation.metrics([ACCURACY], "a", "test", scored=True) == []
  assert capsys.readouterr().out == ""
  assert evaluation.metrics([RANK], "rank", "test", scored=False) == []
  assert "rank: skipped" in capsys.readouterr().out


def test_mesh_tensorflow_evaluates_with_those_alone(tmp_path, capsys):
  def original(sequence_length, vocabulary, dataset_split):
    del sequence_length, vocabulary, dataset_split
    one = transformer_dataset.EvalDataset
    return [
      one("answers", None, lambda text, **_: text, [ACCURACY]),
      one("none", None, None, []),
    ]

  progress = estimator.Progress(checkpoint="/x/model.ckpt-8")
  scored = evaluation.datasets_fn(original, True, progress)
  # It returns before it needs a model where no data set has a metric left.
  done = utils.eval_model(
    None, None, {"inputs": 1, "targets": 1}, 1, "validation", str(tmp_path),
    scored, None, 1, eval_with_score=True,
  )  # fmt: skip
  assert done is None and not list(tmp_path.iterdir())
  fn = evaluation.datasets_fn(original, False, progress)
  answers, none = fn(sequence_length=1, vocabulary=None, dataset_split="test")
  assert answers.postprocess_fn("a", is_target=True) == "a"
  assert answers.postprocess_fn("b") == "b" and progress.examples == 1
  answers.metric_fns[0](["a"], ["a"])
  assert "step 8  answers  accuracy  100" in capsys.readouterr().out
  assert none.metric_fns[0]([], []) == {}
  assert "none: has no metric; only answers" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("targets", "hidden"),
  [
    ([-1, -1], True),
    ([np.float32(-1.0)] * 2, True),
    ([{"group": (0, 1), "value": []}], True),
    ([{"group": 0, "value": -1}, {"group": 1, "value": 0}], False),
    ([-1, 0], False),
    (["-1", "-1"], False),
    ([["an answer"], []], False),
    ([], False),
  ],
)
def test_what_is_hidden(targets, hidden):
  assert evaluation.are_hidden(targets) == hidden


def test_metrics_are_left_out_and_it_is_said_once(capsys):
  fns = [ACCURACY, metrics.f1_score_with_invalid]
  with pytest.raises(ValueError, match="multiclass"):
    fns[1]([-1, -1], [0, 1])
  wrapped = evaluation.metrics(fns, "glue_mrpc_v002", "test", scored=False)
  assert [f([-1, -1], [0, 1]) for f in wrapped] == [{}, {}]
  assert capsys.readouterr().out.count("glue_mrpc_v002: labels are not") == 1
  assert wrapped[0]([1, 0], [1, 1]) == {"accuracy": 50}
  assert wrapped[0].__name__ == "accuracy"


@pytest.mark.parametrize(
  ("scored", "says"),
  [
    (False, ["1 of 3 inputs were cut at 8 tokens"]),
    (True, ["1 of 3 inputs were cut at 8", "2 of 3 targets were cut at 4"]),
  ],
)
def test_cut_examples_are_counted_and_all_are_written(
  scored, says, tmp_path, capsys
):
  """For sequences as t5 reads them: cut, padded, or exactly full."""
  task = "embedded_copy_v1"
  features = seqio.TaskRegistry.get(task).output_features
  lengths = {"inputs": 8, "targets": 4}
  seen = evaluation.Seen(task, lengths, scored, str(tmp_path))
  for texts in ("a" * 20, "b" * 20), ("a", "b"), ("aa", "b" * 9):
    example = {}
    for (key, size), text in zip(lengths.items(), texts, strict=True):
      feature = features[key]
      ids = [*feature.vocabulary.encode(text), 1][:size]
      example[key] = np.array(ids + [0] * (size - len(ids)))
      example[f"{key}_pretokenized"] = text.encode()
    seen.add(example)
  seen.say_cuts()
  seen.say_cuts()
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == len(says)
  assert all(a in b for a, b in zip(says, lines, strict=True))
  made = [np.float32(-1.5)] * 3 if scored else ["bb", "c", "é"]
  seen.write(7, ["b", "b", {"of": np.array([1])}], made)
  seen.write(7, [], [])  # of the task's next metric
  (path,) = tmp_path.iterdir()
  assert path.name == f"{task}-000007.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  inputs = [row["input"]["inputs_pretokenized"] for row in rows]
  assert inputs == ["a" * 20, "a", "aa"]
  assert rows[2]["target"] == {"of": [1]}
  key = "score" if scored else "prediction"
  assert [row[key] for row in rows] == [-1.5] * 3 if scored else made
  assert len(rows[0]) == 3 and list(rows[0]["input"]) == [
    "inputs_pretokenized",
    "targets_pretokenized",
  ]


@pytest.mark.parametrize(
  ("targets", "answers", "why"),
  [
    ([1.0, 2.0], [3.0, 3.0], "nan  (all answers are equal)"),
    ([1.0, 1.0], [2.0, 3.0], "nan  (all labels are equal)"),
    ([1.0, 2.0], [2.0, float("nan")], "nan"),
    ([1.0, 2.0], [2.0, 3.0], "100"),
  ],
)
def test_a_metric_without_a_value_says_why(targets, answers, why, capsys):
  def original(sequence_length, dataset_split):
    del sequence_length, dataset_split
    one = transformer_dataset.EvalDataset
    return [one("sts", None, None, [metrics.pearson_corrcoef])]

  progress = estimator.Progress(checkpoint="/x/model.ckpt-8")
  fn = evaluation.datasets_fn(original, False, progress)
  (dataset,) = fn(sequence_length=None, dataset_split="validation")
  with np.errstate(all="ignore"), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # scipy's own, of the same
    dataset.metric_fns[0](targets, answers)
  assert capsys.readouterr().out.endswith(f"pearson_corrcoef  {why}\n")
