"""Every mode of t5, on one nano model.

Minutes, so a target of its own: `make modes-test`, which prints a table of what
each mode did. `end_to_end_test` runs the core of it in every suite.
"""

import json
import math
import textwrap

import pytest
import tensorflow as tf

from tests import command
from tools.experiments import decoded

pytestmark = pytest.mark.slow

# Three lines, the last of them blank, one too long for its row, with a mark in
# front that is not text.
INPUTS = ["reverse: abcd", "copy: " + "a" * 100, ""]
TARGETS = ["dcba", "a", ""]

_RANKED = textwrap.dedent(
  """
  import functools
  import numpy as np, seqio, tensorflow as tf
  import t5.data, t5.data.postprocessors, t5.evaluation.metrics
  from t5_tasks import embedded

  def dataset(split, shuffle_files, seed=None):
    texts = np.array(["copy: ab", "copy: ab", "copy: cd", "copy: cd"])
    return tf.data.Dataset.from_tensor_slices(dict(
      inputs=texts,
      targets=np.array(["ab", "x", "cd", "y"]),
      idx=np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32),
      is_correct=np.array([True, False, True, False]),
    ))

  seqio.TaskRegistry.add(
    "ranked_v1",
    source=seqio.FunctionDataSource(dataset, splits=["train", "validation"]),
    preprocessors=[
      seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim],
    postprocess_fn=t5.data.postprocessors.rank_classification,
    metric_fns=[functools.partial(
      t5.evaluation.metrics.rank_classification, num_classes=2)],
    output_features=embedded.OUTPUT_FEATURES,
  )
  """
)


def _param(text):
  return f"--gin_param={text}"


def _calls(folder) -> dict[str, list[str]]:
  """The command line of each mode."""
  config = [
    f"--model_dir={folder}/model",
    "--gin_file=models/nano.gin",
    "--gin_file=hypergrid/L2.gin",
    "--gin_file=experiments/embedded.gin",
  ]
  batch = _param("run.batch_size = ('sequences_per_batch', 4)")
  copy = _param("MIXTURE_NAME = 'embedded_copy_v1'")
  few = [
    copy,
    batch,
    _param("mesh_eval_dataset_fn.num_eval_examples = 6"),
    _param("run.dataset_split = 'validation'"),
  ]
  last = _param("eval_checkpoint_step = -1")

  def evaluate(name, *more):
    where = _param(f"run.eval_summary_dir = '{folder}/{name}'")
    limit = _param("Bitransformer.decode.max_decode_length = 8")
    return [*config, "--gin_file=eval.gin", *few, limit, where, *more]

  def infer(name, *more):
    return [
      *config,
      "--gin_file=infer.gin",
      batch,
      _param("infer_checkpoint_step = -1"),
      _param(f"input_filename = '{folder}/inputs'"),
      _param(f"output_filename = '{folder}/{name}'"),
      *more,
    ]

  def score(name, *more):
    return [
      *config,
      batch,
      _param("save_scores.save_example_text = True"),
      *more,
      _param(f"save_scores.scores_filename = '{folder}/{name}'"),
    ]

  def from_strings(inputs, targets):
    return [
      _param("run.mode = 'score_from_strings'"),
      _param("score_from_strings.score_postprocess_fn = @save_scores"),
      _param(f"score_from_strings.inputs = {inputs}"),
      _param(f"score_from_strings.targets = {targets}"),
    ]

  def export(mode, *more):
    where = _param(f"run.export_path = '{folder}/{mode}{len(more)}'")
    return [*config, batch, _param(f"run.mode = '{mode}'"), where, *more]

  beam, sample = "--gin_file=beam_search.gin", "--gin_file=sample_decode.gin"
  ranked = [
    "--module_import=t5.data.mixtures",
    "--module_import=ranked_tasks",
    _param("MIXTURE_NAME = 'ranked_v1'"),
    batch,
    last,
    _param("run.dataset_split = 'validation'"),
  ]
  return {
    "train": [
      *config,
      "--seed=1",
      _param("run.train_steps = 4"),
      _param("run.save_checkpoints_steps = 2"),
    ],
    "eval, greedy": evaluate("greedy", last),
    "eval, beam": evaluate("beam", last, beam),
    "eval, sampled": evaluate("sampled", last, sample),
    "eval, all checkpoints": evaluate("all"),
    "eval, only metrics of scores": [
      *config,
      "--gin_file=eval.gin",
      *ranked,
    ],
    "score_eval": [*config, "--gin_file=score_eval.gin", *ranked],
    "score_eval, no such metric": [
      *config,
      "--gin_file=score_eval.gin",
      *few,
      last,
    ],
    "perplexity_eval, all checkpoints": [
      *config,
      "--gin_file=perplexity_eval.gin",
      *few,
      _param("run.perplexity_eval_steps = 1"),
    ],
    "infer, greedy": infer("greedy_out"),
    "infer, beam": infer("beam_out", beam),
    "infer, sampled": infer("sampled_out", sample),
    "infer, all checkpoints": infer(
      "all_out", _param("infer_checkpoint_step = 'all'")
    ),
    "infer, three answers a line": infer(
      "repeated_out", _param("decode_from_file.repeats = 3")
    ),
    "infer, without infer.gin": [*config, _param("run.mode = 'infer'")],
    "score_from_strings, lists": score(
      "lists", *from_strings("['copy: ab']", "['ab', 'cd']")
    ),
    "score_from_strings, 2 inputs and 3 targets": score(
      "lists", *from_strings("['a', 'b']", "['ab', 'cd', 'e']")
    ),
    "score_from_file": score(
      "from_file",
      "--gin_file=score_from_file.gin",
      _param(f"inputs_filename = '{folder}/inputs'"),
      _param(f"targets_filename = '{folder}/targets'"),
    ),
    "score_from_file, all checkpoints": score(
      "from_file",
      "--gin_file=score_from_file.gin",
      _param(f"inputs_filename = '{folder}/inputs'"),
      _param(f"targets_filename = '{folder}/targets'"),
      _param("run.eval_checkpoint_step = 'all'"),
    ),
    "score_from_dataset": score(
      "from_task", "--gin_file=score_from_task.gin", *few
    ),
    "export_infer": export("export_infer"),
    "export_infer, beam": export("export_infer", beam),
    "export_score": export("export_score"),
  }


_LOAD = """
import glob, json, sys
import tensorflow as tf, tensorflow_text
found = {}
for name in json.loads(sys.argv[2]):
  (path,) = glob.glob(f"{sys.argv[1]}/{name}/*")
  model = tf.saved_model.load(path)
  answer = model.signatures["serving_default"]
  found[name] = {}
  for n in (1, 3):
    texts = dict(inputs=tf.constant(["reverse: abcd"] * n))
    if "score" in name:
      texts["targets"] = tf.constant(["dcba"] * n)
    for key, value in answer(**texts).items():
      found[name].setdefault(key, []).append([str(v) for v in value.numpy()])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """(folder, outcomes by name)"""
  folder = tmp_path_factory.mktemp("modes")
  text = "\ufeff" + "".join(f"{line}\n" for line in INPUTS)
  (folder / "inputs").write_text(text)
  (folder / "targets").write_text("".join(f"{line}\n" for line in TARGETS))
  (folder / "ranked_tasks.py").write_text(_RANKED)
  outcomes = command.outcomes(_calls(folder), python_path=folder)
  print("\n| mode | seconds | what happened |\n| --- | --- | --- |")
  for name, o in outcomes.items():
    last = [*o["said"].splitlines(), *o["error"].splitlines()][-1]
    last = last.replace(str(folder), "…")
    print(f"| {name} | {o['seconds']:.0f} | {o['outcome']}: {last} |")
  return folder, outcomes


def _lines(path) -> list[str]:
  *found, end = path.read_text().split("\n")
  assert end == ""
  return found


REFUSED = {
  "score_eval, no such metric": "no task of embedded_copy_v1",
  "infer, without infer.gin": "--gin_file=infer.gin",
  "score_from_strings, 2 inputs and 3 targets": "has 3 lines",
  "score_from_file, all checkpoints": "scores with one checkpoint",
}


def test_each_mode_works_or_says_why_not(done):
  _, outcomes = done
  assert {n: o["error"] for n, o in outcomes.items() if n not in REFUSED} == {
    n: "" for n in outcomes if n not in REFUSED
  }
  for name, words in REFUSED.items():
    assert outcomes[name]["outcome"] == "refused", outcomes[name]
    assert words in outcomes[name]["error"]


@pytest.mark.parametrize(
  "name", ["greedy_out", "beam_out", "sampled_out", "all_out"]
)
def test_inference_answers_line_by_line(done, name):
  folder, _ = done
  steps = [2, 4] if name == "all_out" else [4]
  for step in steps:
    assert len(_lines(folder / f"{name}-{step}")) == len(INPUTS)
  assert len(list(folder.glob(f"{name}-*"))) == len(steps)


def test_ways_to_ask_for_the_same_give_the_same(done):
  folder, _ = done
  greedy = _lines(folder / "greedy_out-4")
  assert _lines(folder / "all_out-4") == greedy
  repeated = _lines(folder / "repeated_out-4")
  assert repeated == [line for line in greedy for _ in range(3)]


def test_what_is_cut_is_said(done):
  _, outcomes = done
  said = outcomes["infer, greedy"]["said"]
  assert "1 of 3 lines are longer than 24 tokens" in said
  assert "the first is line 2" in said
  assert "were cut at 8 tokens" in outcomes["eval, greedy"]["said"]


def test_scores_are_numbers_one_a_target(done):
  folder, _ = done
  for name, texts in (
    ("from_file", TARGETS),
    ("lists", ["ab", "cd"]),
    ("from_task", None),
  ):
    scores = [float(line) for line in _lines(folder / f"{name}.scores")]
    targets = _lines(folder / f"{name}.targets")
    assert all(math.isfinite(s) and s < 0 for s in scores)
    assert len(scores) == len(targets) == (len(texts) if texts else 6)
    assert texts is None or targets == texts
    lengths = [int(line) for line in _lines(folder / f"{name}.lengths")]
    assert lengths == [len(t) + 1 for t in targets]  # bytes, and the end


def _events(folder) -> dict[str, dict[int, float]]:
  found = {}
  for path in folder.glob("events.*"):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        found.setdefault(value.tag, {})[event.step] = value.simple_value
  return found


@pytest.mark.parametrize("name", ["greedy", "beam", "sampled", "all"])
def test_evaluation_writes_answers_and_a_metric(done, name):
  folder, _ = done
  (values,) = _events(folder / name).values()
  assert set(values) == ({2, 4} if name == "all" else {4})
  for step in values:
    path = folder / name / f"embedded_copy_v1_{step}_predictions"
    assert len(decoded.read_lines(str(path), count=6)) == 6


def test_scores_have_metrics_of_their_own_and_a_folder_of_their_own(done):
  folder, outcomes = done
  metrics = _events(folder / "model" / "validation_eval_scores")
  assert {t.split("/")[-1] for t in metrics} >= {"accuracy"}
  assert not list((folder / "model").glob("validation_eval/ranked*predictions"))
  said = outcomes["eval, only metrics of scores"]["said"]
  assert "ranked_v1: left out" in said


def test_perplexity_is_of_each_checkpoint(done):
  _, outcomes = done
  said = outcomes["perplexity_eval, all checkpoints"]["said"]
  found = [
    line.split() for line in said.splitlines() if "neg_log_perplexity" in line
  ]
  assert [line[1] for line in found] == ["2", "4"]
  assert all(math.isfinite(float(line[-1])) for line in found)


def test_saved_models_answer_one_line_for_each(done):
  folder, outcomes = done
  names = [
    "export_infer0",
    "export_infer1",
    "export_score0",
  ]
  result = command.python("-c", _LOAD, str(folder), json.dumps(names))
  assert result.returncode == 0, result.stderr[-3000:]
  found = json.loads(result.stdout.splitlines()[-1])
  for name in names:
    for one, three in found[name].values():
      assert len(one) == 1 and three == one * 3
  (score,), _ = found["export_score0"]["scores"]
  assert math.isfinite(float(score)) and float(score) < 0
  assert found["export_score0"]["targets"][0] == [str(b"dcba")]
  said = outcomes["export_infer"]["said"]
  assert "takes at most 4 strings at once" in said
