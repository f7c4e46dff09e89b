"""Every mode of t5, one after the other, on one nano model.

Each suite runs the core of them. The others take minutes: `make modes-test`,
which prints a table of what each mode did.
"""

import csv
import json
import math
import textwrap

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  (operations of the saved models)

from tests import command
from tools.experiments import decoded

# The second is too long for its row, and the last is blank.
INPUTS = ["reverse: abcd", "copy: " + "a" * 100, "rot: fghij", ""]
TARGETS = ["dcba", "abcd", "ghija", ""]
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


# Reading all eight tasks would take longer than these runs.
_NAMES = dict(
  MODEL="--model_dir=DIR/model",
  CONFIG="--model_dir=DIR/model | models/nano.gin | hypergrid/L2.gin"
  " | experiments/embedded.gin | MIXTURE_NAME = 'two_tasks'"
  " | t5_tasks.mixtures.define_mixture.name = 'two_tasks'"
  " | t5_tasks.mixtures.define_mixture.tasks ="
  " ['embedded_copy_v1', 'embedded_rot_v1']",
  AGAIN="--model_dir=DIR/again",
  TRAIN="--seed=1 | dropout_rate = 0.1 | mesh_train_dataset_fn.pack = True"
  " | run.train_steps = 4 | run.save_checkpoints_steps = 2",
  BATCH="run.batch_size = ('sequences_per_batch', 4)",
  COPY="MIXTURE_NAME = 'embedded_copy_v1'",
  VALIDATION="run.dataset_split = 'validation'",
  SIX="mesh_eval_dataset_fn.num_eval_examples = 6",
  LAST="run.eval_checkpoint_step = -1",
  INFER="infer.gin | infer_checkpoint_step = -1"
  " | input_filename = 'DIR/inputs'"
  " | run.batch_size = ('sequences_per_batch', 4)",
  BEAM="beam_search.gin",
  LIMIT="Bitransformer.decode.max_decode_length = 8",
  RANKED="--module_import=t5.data.mixtures | --module_import=ranked_tasks"
  " | MIXTURE_NAME = 'ranked_v1'",
)
# Of MODEL the folder alone says which model it is.
_CORE = """
train | CONFIG | TRAIN
train to step 2 | CONFIG | AGAIN | TRAIN | run.train_steps = 2
  | run.total_run_steps = 4
resume | CONFIG | AGAIN | TRAIN | --evaluate | --patience=9 | SIX
eval | CONFIG | experiments/local_eval.gin | SIX | LIMIT
best | --model_dir=DIR/again/best | experiments/local_eval.gin | SIX
perplexity_eval | CONFIG | perplexity_eval.gin | VALIDATION
  | run.perplexity_eval_steps = 1 | COPY | LAST
infer | CONFIG | INFER | output_filename = 'DIR/greedy'
beam | MODEL | INFER | BEAM | output_filename = 'DIR/beam'
score | CONFIG | score_from_file.gin | LAST | BATCH
  | inputs_filename = 'DIR/inputs' | targets_filename = 'DIR/targets'
  | scores_filename = 'DIR/from_file'
score_dataset | MODEL | score_from_task.gin | COPY | SIX | BATCH
  | scores_filename = 'DIR/from_task'
export_infer | CONFIG | BATCH | run.mode = 'export_infer'
  | run.export_path = 'DIR/export_infer'
export_score | MODEL | BATCH | run.mode = 'export_score'
  | run.export_path = 'DIR/export_score'
dry | CONFIG | --model_dir=DIR/dry | --dry_run
"""
_MORE = """
eval, beam | CONFIG | eval.gin | COPY | BATCH | SIX | VALIDATION | LIMIT
  | run.eval_summary_dir = 'DIR/eval_beam' | LAST | BEAM
eval, sampled | CONFIG | eval.gin | COPY | BATCH | SIX | VALIDATION | LIMIT
  | run.eval_summary_dir = 'DIR/eval_sampled' | LAST | sample_decode.gin
eval, all checkpoints | CONFIG | eval.gin | COPY | BATCH | SIX | VALIDATION
  | LIMIT | run.eval_summary_dir = 'DIR/eval_all'
eval, only metrics of scores | CONFIG | eval.gin | RANKED | BATCH | LAST
  | VALIDATION
score_eval | CONFIG | score_eval.gin | RANKED | BATCH | LAST | VALIDATION
perplexity_eval, all checkpoints | CONFIG | perplexity_eval.gin | COPY | BATCH
  | SIX | VALIDATION | run.perplexity_eval_steps = 1
infer, sampled | CONFIG | INFER | output_filename = 'DIR/sampled'
  | sample_decode.gin
infer, all checkpoints | CONFIG | INFER | output_filename = 'DIR/all'
  | infer_checkpoint_step = 'all'
infer, three answers a line | CONFIG | INFER | output_filename = 'DIR/repeated'
  | decode_from_file.repeats = 3
score_from_strings | CONFIG | BATCH | run.mode = 'score_from_strings'
  | save_scores.save_example_text = True
  | score_from_strings.score_postprocess_fn = @save_scores
  | score_from_strings.inputs = ['copy: ab']
  | score_from_strings.targets = ['ab', 'cd']
  | save_scores.scores_filename = 'DIR/lists'
export_infer, beam | CONFIG | BATCH | run.mode = 'export_infer' | BEAM
  | run.export_path = 'DIR/export_beam'
"""


def _run(folder, table) -> dict[str, str]:
  """{mode: its output}"""
  calls = command.calls(table, **_NAMES)
  calls = {
    name: [flag.replace("DIR", str(folder)) for flag in given]
    for name, given in calls.items()
  }
  found = command.outcomes(calls, python_path=folder)
  print("\n| mode | seconds | what happened |\n| --- | --- | --- |")
  for name, one in found.items():
    assert one["outcome"] == "done", (name, one["error"][-3000:])
    last = one["said"].splitlines()[-1].replace(str(folder), "…")
    print(f"| {name} | {one['seconds']:.0f} | {last} |")
  return {name: one["said"] for name, one in found.items()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """(folder, output of each mode)"""
  folder = tmp_path_factory.mktemp("modes")
  # With the mark of some editors in front.
  (folder / "inputs").write_text("\ufeff" + "\n".join(INPUTS) + "\n")
  (folder / "targets").write_text("\n".join(TARGETS) + "\n")
  return folder, _run(folder, _CORE)


@pytest.fixture(scope="module")
def more(done):
  """The same for the other modes."""
  folder, _ = done
  (folder / "ranked_tasks.py").write_text(_RANKED)
  return folder, _run(folder, _MORE)


def _lines(path) -> list[str]:
  *found, end = path.read_text().split("\n")
  assert end == ""
  return found


def test_training_saves_and_resumes(done):
  folder, _ = done
  steps = {
    int(path.stem.split("-")[-1])
    for path in folder.glob("model/model.ckpt-*.index")
  }
  assert {2, 4} <= steps
  assert (folder / "model" / "operative_config.gin").exists()
  assert list(folder.glob("model/events.out.tfevents.*"))


def test_two_runs_of_one_seed_end_at_the_same_weights(done):
  """Even if one was interrupted: data and dropout continue in order."""
  folder, said = done
  one, other = (
    tf.train.load_checkpoint(f"{folder}/{name}/model.ckpt-4")
    for name in ("model", "again")
  )
  names = one.get_variable_to_shape_map()
  assert any("_slot_" in n for n in names)  # the optimizer's too
  assert "skipping the 2 batches" in said["resume"]
  for name in names:
    np.testing.assert_array_equal(
      one.get_tensor(name), other.get_tensor(name), name
    )


def test_a_dry_run_trains_one_step_and_leaves_nothing(done):
  folder, said = done
  (line,) = (
    line
    for line in said["dry"].splitlines()
    if line.startswith("train: one step with one layer")
  )
  assert line.endswith("succeeded on this machine")
  assert [path.name for path in (folder / "dry").iterdir()] == ["in_use.lock"]


def test_a_step_is_counted_after_the_counter_is_read(done):
  folder, _ = done
  path = folder / "model" / "model.ckpt-4.meta"
  graph = tf.compat.v1.MetaGraphDef.FromString(path.read_bytes()).graph_def
  (count,) = (
    n
    for n in graph.node
    if n.op == "AssignAddVariableOp" and n.input[0] == "global_step"
  )
  reads = {
    f"^{n.name}"
    for n in graph.node
    if n.op == "ReadVariableOp"
    and n.input[0] == "global_step"
    and f"^{count.name}" not in n.input
  }
  assert reads and reads <= set(count.input)


def test_evaluation_prints_one_line_a_task_and_metric(done):
  folder, said = done
  metrics = [
    line.split()
    for mode in ("eval", "perplexity_eval")
    for line in said[mode].splitlines()
    if line.startswith("step 4 ")
  ]
  tasks = {m[2] for m in metrics if m[3] == "accuracy"}
  assert tasks == {"embedded_copy_v1", "embedded_rot_v1"}
  assert any("neg_log_perplexity" in m for m in metrics)
  assert len(list(folder.glob("model/validation_eval/*_4_predictions"))) == 2


def test_an_evaluation_leaves_what_was_asked_and_answered_as_text(done):
  folder, _ = done
  results = folder / "model/validation_eval"
  rows = list(
    map(json.loads, _lines(results / "embedded_copy_v1-000004.jsonl"))
  )
  inputs = [row["input"]["inputs_pretokenized"] for row in rows]
  assert len(rows) == 6 and all(text.startswith("copy: ") for text in inputs)
  written = (results / "embedded_copy_v1_inputs").read_text().splitlines()
  assert written == inputs
  answers = _lines(results / "embedded_copy_v1_4_predictions")
  assert [row["prediction"] for row in rows] == answers


def test_a_training_evaluates_its_checkpoints_and_keeps_the_best(done):
  folder, said = done
  again = folder / "again"
  best = json.loads((again / "best.json").read_text())
  assert [step for step, _ in best["evaluations"]] == [2, 4]
  assert best["average"] == max(value for _, value in best["evaluations"])
  assert set(best["metrics"]) == {"embedded_copy_v1", "embedded_rot_v1"}
  step = best["step"]
  assert (again / f"best/model.ckpt-{step}.index").exists()
  # The folder is a model of its own, and gives the same answers.
  rows = csv.DictReader((again / "best/validation_eval/metrics.csv").open())
  found = {}
  for row in rows:
    assert row["step"] == str(step)
    found.setdefault(row["task"], {})[row["metric"]] = float(row["value"])
  assert found == {
    task: {name: pytest.approx(v, rel=1e-3) for name, v in metrics.items()}
    for task, metrics in best["metrics"].items()
  }
  (line,) = (
    line
    for line in said["resume"].splitlines()
    if line.startswith("trained 2 steps in ")
  )
  assert line.endswith(" parameters") and "steps per second" in line


def test_what_is_cut_is_said(done):
  _, said = done
  assert "1 of 4 lines are longer than 24 tokens" in said["infer"]
  assert "the first is line 2" in said["infer"]
  assert "were cut at 8 tokens" in said["eval"]


@pytest.mark.parametrize("name", ["greedy", "beam"])
def test_inference_writes_text(done, name):
  folder, _ = done
  text = _lines(folder / f"{name}-4")
  assert len(text) == len(INPUTS)
  assert not any(line.startswith("b'") for line in text)


def test_scoring_writes_one_score_a_target(done):
  folder, said = done
  for name, count in (("from_file", 4), ("from_task", 6)):
    scores = [float(line) for line in _lines(folder / f"{name}.scores")]
    assert len(scores) == count
    assert all(math.isfinite(s) and s < 0 for s in scores)
    targets = _lines(folder / f"{name}.targets")
    lengths = _lines(folder / f"{name}.lengths")
    # With the end of the sequence.
    assert [int(n) for n in lengths] == [len(t) + 1 for t in targets]
  assert _lines(folder / "from_file.targets") == TARGETS
  assert (
    "run.eval_checkpoint_step is not given: the last checkpoint is scored"
    in said["score_dataset"].splitlines()
  )


def _load(path):
  """The signature of the one SavedModel in a folder."""
  (model,) = path.iterdir()
  return tf.saved_model.load(str(model)).signatures["serving_default"]


def test_the_saved_models_answer_as_the_modes_do(done):
  folder, said = done
  for mode in ("export_infer", "export_score"):
    assert "takes at most 4 strings at once" in said[mode]
  inputs = tf.constant(INPUTS)
  answers = _load(folder / "export_infer")(inputs=inputs[:3])["outputs"].numpy()
  assert [a.decode() for a in answers] == _lines(folder / "greedy-4")[:3]
  score = _load(folder / "export_score")
  one = score(inputs=inputs[:1], targets=tf.constant(["dcba"]))
  first = float(_lines(folder / "from_file.scores")[0])
  assert one["targets"].numpy().tolist() == [b"dcba"]
  assert one["scores"].numpy().tolist() == [pytest.approx(first, rel=1e-4)]


@pytest.mark.slow
def test_saved_models_answer_one_line_for_each(more):
  folder, _ = more
  for name in ("export_infer", "export_beam", "export_score"):
    answer = _load(folder / name)
    found = {}
    for n in (1, 3):
      texts = dict(inputs=tf.constant(["reverse: abcd"] * n))
      if name == "export_score":
        texts["targets"] = tf.constant(["dcba"] * n)
      for key, value in answer(**texts).items():
        found.setdefault(key, []).append(value.numpy().tolist())
    for one, three in found.values():
      assert len(one) == 1 and three == one * 3


@pytest.mark.slow
def test_ways_to_ask_for_the_same_give_the_same(more):
  folder, _ = more
  assert len(_lines(folder / "sampled-4")) == len(INPUTS)
  assert len(list(folder.glob("all-*"))) == 2  # checkpoints
  greedy = _lines(folder / "greedy-4")
  assert _lines(folder / "all-4") == greedy
  repeated = _lines(folder / "repeated-4")
  assert repeated == [line for line in greedy for _ in range(3)]


@pytest.mark.slow
def test_lists_of_texts_are_scored(more):
  folder, _ = more
  scores = [float(line) for line in _lines(folder / "lists.scores")]
  assert len(scores) == 2 and all(math.isfinite(s) and s < 0 for s in scores)
  assert _lines(folder / "lists.targets") == ["ab", "cd"]


def _events(folder) -> dict[str, dict[int, float]]:
  found = {}
  for path in folder.glob("events.*"):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        found.setdefault(value.tag, {})[event.step] = value.simple_value
  return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beam", "sampled", "all"])
def test_evaluation_writes_answers_and_a_metric(more, name):
  folder = more[0] / f"eval_{name}"
  (values,) = _events(folder).values()
  assert set(values) == ({2, 4} if name == "all" else {4})
  for step in values:
    path = folder / f"embedded_copy_v1_{step}_predictions"
    assert len(decoded.read_lines(str(path), count=6)) == 6


@pytest.mark.slow
def test_scores_have_metrics_of_their_own_and_a_folder_of_their_own(more):
  folder, said = more
  metrics = _events(folder / "model" / "validation_eval_scores")
  assert {t.split("/")[-1] for t in metrics} >= {"accuracy"}
  assert not list(folder.glob("model/validation_eval/ranked*predictions"))
  assert "ranked_v1: skipped, because" in said["eval, only metrics of scores"]


@pytest.mark.slow
def test_perplexity_is_of_each_checkpoint(more):
  _, said = more
  found = [
    line.split()
    for line in said["perplexity_eval, all checkpoints"].splitlines()
    if "neg_log_perplexity" in line
  ]
  assert [line[1] for line in found] == ["2", "4"]
  assert all(math.isfinite(float(line[-1])) for line in found)
